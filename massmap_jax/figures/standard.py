"""`standard_figures`: the standard figures of a run; and `save_all`, which writes figures to files."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from massmap_jax.figures.maps import convergence_panels, map_panels, mass_map_image, slice_panels
from massmap_jax.figures.posteriors import field_of_view, posterior_panel
from massmap_jax.figures.style import settle, styled
from massmap_jax.figures.truth import pit_histograms, predicted_vs_true, rows_with_truth

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
    from massmap_jax.maps.convergence import ConvergenceMap
    from massmap_jax.maps.images import MassMap
    from massmap_jax.posterior.result import MassPosterior


_OF_PICTURES = "; the map in the file is not smoothed"


def standard_figures(
    posterior: "MassPosterior",
    mass_map: "MassMap | None" = None,
    catalogue: "HaloCatalogue | None" = None,
    convergence: "ConvergenceMap | None" = None,
    colours: str = "magma",
) -> "dict[str, Figure]":
    """Draw all figures of a posterior and its maps that the data allow.

    Parameters
    ----------
    posterior : MassPosterior
        The posteriors.
    mass_map : MassMap, optional
        A map of these masses.
    catalogue : HaloCatalogue, optional
        Positions and redshifts; by default the posterior's catalogue.
    convergence : ConvergenceMap, optional
        A convergence map of these masses.
    colours : {"magma", "grey"}
        Of maps: bright is massive, or dark is massive.

    Returns
    -------
    dict of str to matplotlib.figure.Figure
        Figures by name. Always "posterior_panel"; with positions "field_of_view"; with a map "mass_map" and
        "map_panels", or "map_slices" for a map with slices; with a convergence map "convergence"; with true masses
        "predicted_vs_true" and "pit_histograms".

    See Also
    --------
    massmap_jax.plot.save_all : Write the figures to files.
    """
    makers = figure_makers(posterior, mass_map, catalogue, convergence, colours)
    return {name: make() for name, make in makers.items()}


def figure_makers(
    posterior: "MassPosterior",
    mass_map: "MassMap | None" = None,
    catalogue: "HaloCatalogue | None" = None,
    convergence: "ConvergenceMap | None" = None,
    colours: str = "magma",
    picture: "MassMap | None" = None,
) -> "dict[str, Callable[[], Any]]":
    """List the functions that draw the figures of `standard_figures`, so that one that fails costs no other.

    Parameters
    ----------
    posterior, mass_map, catalogue, convergence, colours
        As in `standard_figures`.
    picture : MassMap, optional
        Drawn in place of `mass_map`, of which it is a smoothed copy.

    Returns
    -------
    dict of str to callable
        By name, what draws the figure.
    """
    objects = posterior.catalogue if catalogue is None else catalogue
    makers: dict[str, Callable[[], Any]] = {"posterior_panel": lambda: posterior_panel(posterior)}
    if objects.ra is not None and np.any(np.isfinite(objects.ra) & np.isfinite(objects.dec)):
        makers["field_of_view"] = lambda: field_of_view(objects, posterior).figure
    drawn, remark = (mass_map, "") if picture is None else (picture, _OF_PICTURES)
    if drawn is not None and drawn.slice_draws is not None:
        makers["map_slices"] = lambda: slice_panels(drawn, colours, remark)
    elif drawn is not None:
        makers["mass_map"] = lambda: mass_map_image(drawn, colours=colours, remark=remark).figure
        makers["map_panels"] = lambda: map_panels(drawn, colours=colours, remark=remark)
    if convergence is not None:
        makers["convergence"] = lambda: convergence_panels(convergence)
    if rows_with_truth(posterior).size:
        makers["predicted_vs_true"] = lambda: predicted_vs_true(posterior).figure
        makers["pit_histograms"] = lambda: pit_histograms(posterior)
    return makers


@styled
def save_all(figures: "dict[str, Figure]", directory, dpi: int = 150, formats=("png",)) -> list[Path]:
    """Write figures to files in a directory, each as NAME.FORMAT.

    Parameters
    ----------
    figures : dict of str to matplotlib.figure.Figure
        Figures by name, as `standard_figures` gives them.
    directory : str or os.PathLike
        Directory to write to; it is made if it does not exist.
    dpi : int
        Resolution [dots per inch]; in a PDF, of the scattered points only.
    formats : sequence of str
        Formats that matplotlib can write, such as "png", or "pdf", in which lines and text stay lines and text.

    Returns
    -------
    list of Path
        The files, in the order written.

    Examples
    --------
    >>> import tempfile
    >>> from matplotlib.figure import Figure
    >>> from massmap_jax import plot
    >>> figure = Figure()
    >>> points = figure.subplots().plot([1, 2], [1, 4])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     paths = plot.save_all({"example": figure}, folder)
    >>> [path.name for path in paths]
    ['example.png']
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in figures.items():
        # Lay out once, and not in an extra drawing: that halves the time.
        engine = figure.get_layout_engine()
        settle(figure)
        figure.set_layout_engine(None)
        for kind in formats:
            paths.append(directory / f"{name}.{kind}")
            # Without the date of creation, the same figure always gives the same bytes.
            figure.savefig(paths[-1], dpi=dpi, metadata={"CreationDate": None} if kind == "pdf" else None)
        figure.set_layout_engine(engine)
    return paths
