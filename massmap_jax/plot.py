"""All figures of the package by their public names; the code is in `massmap_jax.figures`.

A function with an argument `ax` draws into these axes and returns them. Without them it makes a new Figure, which you
reach as `ax.figure`. pyplot does not know of it, so no window opens and no memory leaks. Only `save_all` writes files.
"""

from massmap_jax.figures.map_kinds import map_kinds_figure
from massmap_jax.figures.maps import convergence_panels, map_panels, mass_map_image, slice_panels
from massmap_jax.figures.posteriors import field_of_view, posterior_panel
from massmap_jax.figures.relation import relation_corner
from massmap_jax.figures.standard import save_all, standard_figures
from massmap_jax.figures.truth import pit_histograms, predicted_vs_true
from massmap_jax.figures.truth_maps import truth_maps_figure

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
    "truth_maps_figure",
]
