"""Every figure of the package by its public name; the code is in `massmap_jax.figures`.

Functions with an `ax` draw into it and return it. Without one they make a new Figure, reached as `ax.figure`, that
pyplot does not know of: nothing pops up or leaks. Only `save_all` writes files.
"""

from massmap_jax.figures.map_kinds import map_kinds_figure
from massmap_jax.figures.maps import convergence_panels, map_panels, mass_map_image, slice_panels
from massmap_jax.figures.posteriors import field_of_view, posterior_panel
from massmap_jax.figures.relation import relation_corner
from massmap_jax.figures.standard import save_all, standard_figures
from massmap_jax.figures.truth import pit_histograms, predicted_vs_true

__all__ = [
    "convergence_panels",
    "field_of_view",
    "map_kinds_figure",
    "map_panels",
    "mass_map_image",
    "pit_histograms",
    "posterior_panel",
    "predicted_vs_true",
    "relation_corner",
    "save_all",
    "slice_panels",
    "standard_figures",
]
