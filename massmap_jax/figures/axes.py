"""Axes of the sky: where objects are drawn in a figure of their field, with ticks, labels and frames.

Axes are in the pixel coordinates of a `PixelGrid`, so that images and points share them. RA is labelled where meridians
meet the lower side, Dec where parallels meet the left side. Around a pole, lines are drawn and labelled instead. Flat
fields have offsets in arcmin. RA increases to the left and is counted on through 0 = 360.
"""

import functools

import numpy as np

from massmap_jax.errors import MassmapError
from massmap_jax.figures.style import ORANGE, axes_inches, outline


def sky_frame(catalogue):
    """Place objects on a plot of their field.

    The plot is a tangent plane up to 25 degrees from its middle, where the projection stretches lengths by a fifth.
    Wider fields are shown in RA and Dec, and those of more than half of the sky in Mollweide's projection.

    Parameters
    ----------
    catalogue : HaloCatalogue
        Objects with positions.

    Returns
    -------
    x, y : Float[np.ndarray, "halo"]
        Plot coordinates; NaN where an object has no position.
    aspect : float
        Height over width of the field.
    draw_axes : callable
        Draws ticks and labels into matplotlib axes.

    Raises
    ------
    MassmapError
        Where no object has a position.
    """
    from massmap_jax.maps.pixels import PixelGrid

    ra, dec = np.asarray(catalogue.ra, np.float64), np.asarray(catalogue.dec, np.float64)
    placed = np.isfinite(ra) & np.isfinite(dec)
    try:
        grid = PixelGrid.fit(ra, dec, frame=catalogue.frame)
    except MassmapError:
        # The field is wider than one tangent plane, or no object has a position: that is an error.
        if not placed.any():
            raise
        grid = None
    if grid is not None and (grid.projection == "flat" or _radius(grid) < 25 or is_polar(grid)):
        return *grid.project(ra, dec), grid.shape[0] / grid.shape[1], functools.partial(grid_axes, grid=grid)
    from massmap_jax.figures.all_sky import MollweidePlane
    from massmap_jax.maps.pixels import cap_of

    if cap_of(ra[placed], dec[placed])[1] > np.pi / 2:
        plane = MollweidePlane()
        x, y = plane.project((ra + 180) % 360 - 180, dec)
        return x, y, plane.shape[0] / plane.shape[1], plane.draw_axes
    angle = np.deg2rad(ra[placed])
    middle = np.round(np.rad2deg(np.arctan2(np.sin(angle).sum(), np.cos(angle).sum())) % 360, -1)
    x = np.where(placed, (ra - middle + 180) % 360 - 180, np.nan)
    xlim = np.nanmax(x) + 2, np.nanmin(x) - 2
    ylim = max(np.nanmin(dec[placed]) - 2, -90), min(np.nanmax(dec[placed]) + 2, 90)
    draw_axes = functools.partial(_ra_dec_axes, middle=middle, xlim=xlim, ylim=ylim)
    return x, dec, (ylim[1] - ylim[0]) / (xlim[0] - xlim[1]), draw_axes


def grid_axes(ax, grid):
    """Set limits, ticks and labels of axes in the pixel coordinates of a PixelGrid."""
    if grid.projection == "mollweide":
        grid.draw_axes(ax)
        return
    ny, nx = grid.shape
    ax.set(xlim=(-0.5, nx - 0.5), ylim=(-0.5, ny - 0.5), aspect="equal")
    ax.tick_params(top=False, right=False, direction="out")
    draw = _flat_ticks if grid.projection == "flat" else _polar_ticks if is_polar(grid) else _sky_ticks
    draw(ax, grid)


def _ra_dec_axes(ax, middle, xlim, ylim):
    """Draw plain axes in RA (increasing to the left, counted from `middle`) and Dec [deg]."""
    ax.set(xlim=xlim, ylim=ylim, aspect="equal", xlabel="right ascension [deg]", ylabel="declination [deg]")
    ax.tick_params(top=False, right=False, direction="out")
    num_x, num_y = _num_ticks(ax, (ylim[1] - ylim[0]) / (xlim[0] - xlim[1]))
    ticks = _ticks(middle + xlim[1], middle + xlim[0], num_x, angle=True)
    ax.set_xticks([t - middle for t, _ in ticks], [label for _, label in ticks])
    ticks = _ticks(*ylim, num_y, angle=True, wrap=False)
    ax.set_yticks([t for t, _ in ticks], [label for _, label in ticks])


def _sides_degrees(grid) -> tuple[float, float]:
    """Give width and height of the field [deg]."""
    return grid.shape[1] * grid.pixel_arcmin / 60, grid.shape[0] * grid.pixel_arcmin / 60


def _radius(grid) -> float:
    """Give half the diagonal of the field on the sphere [deg]: the tangent plane stretches r to tan r."""
    return float(np.rad2deg(np.arctan(np.deg2rad(np.hypot(*_sides_degrees(grid)) / 2))))


def is_polar(grid) -> bool:
    """Tell whether a pole is on the grid, or within a degree of it."""
    return abs(grid.centre[1]) + _radius(grid) >= 89.0


def _num_ticks(ax, aspect) -> tuple[int, int]:
    """Give the number of labels that fit along x and y."""
    width, height = axes_inches(ax, aspect)
    return int(np.clip(width / 0.5, 2, 8)), int(np.clip(height / 0.35, 2, 8))


def _flat_ticks(ax, grid):
    """Draw ticks of a flat field, in arcmin."""
    ny, nx = grid.shape
    num_x, num_y = _num_ticks(ax, ny / nx)
    (x0, y0), half_x, half_y = grid.centre, nx * grid.pixel_arcmin / 2, ny * grid.pixel_arcmin / 2
    x_ticks, y_ticks = _ticks(x0 - half_x, x0 + half_x, num_x), _ticks(y0 - half_y, y0 + half_y, num_y)
    ax.set_xticks([grid.project(t, y0)[0] for t, _ in x_ticks], [label for _, label in x_ticks])
    ax.set_yticks([grid.project(x0, t)[1] for t, _ in y_ticks], [label for _, label in y_ticks])
    ax.set(xlabel="x [arcmin]", ylabel="y [arcmin]")


def _sky_ticks(ax, grid):
    """Label RA at the lower side and Dec at the left, where their lines meet it; draw the lines on wide fields."""
    ny, nx = grid.shape
    width, _ = _sides_degrees(grid)
    radius = _radius(grid)
    ra0, dec0 = grid.centre
    num_x, num_y = _num_ticks(ax, ny / nx)
    # Half of the extent in RA: of the circle around the field, and (for the step of the ticks) along its middle.
    reach = np.rad2deg(np.arcsin(min(1.0, np.sin(np.deg2rad(radius)) / np.cos(np.deg2rad(dec0)))))
    shown = np.rad2deg(np.arctan(np.deg2rad(width / 2) / np.cos(np.deg2rad(dec0))))
    ra_step = _tick_step(2 * shown, num_x, angle=True)
    # Along the left side: on a wide field it covers less in Dec than the middle.
    low, high = grid.sky_of(np.array([-0.5, -0.5]), np.array([-0.5, ny - 0.5]))[1]
    dec_step = _tick_step(high - low, num_y, angle=True)
    # RA is counted on from that of the centre, so 0 = 360 needs no care.
    meridians = _multiples(ra0 - reach, ra0 + reach, ra_step)
    parallels = _multiples(dec0 - radius, dec0 + radius, dec_step)
    along_dec = np.linspace(max(dec0 - radius, -90.0), min(dec0 + radius, 90.0), 400)
    along_ra = np.linspace(ra0 - reach, ra0 + reach, 800)

    x_ticks, y_ticks, lines = [], [], []
    for value in meridians:
        x, y = grid.project(np.full(along_dec.size, value), along_dec)
        x_ticks += [(p, _decimal(value % 360, ra_step)) for p in _crossings(y, x, -0.5, -0.5, nx - 0.5)]
        lines.append((x, y))
    for value in parallels:
        x, y = grid.project(along_ra, np.full(along_ra.size, value))
        y_ticks += [(p, _decimal(value, dec_step)) for p in _crossings(x, y, -0.5, -0.5, ny - 0.5)]
        lines.append((x, y))
    if radius > 2:
        _draw_lines(ax, lines)
    inches = axes_inches(ax, ny / nx)
    for axis, ticks, least in ((ax.xaxis, x_ticks, 0.35 * nx / inches[0]), (ax.yaxis, y_ticks, 0.15 * ny / inches[1])):
        ticks = _thin_out(sorted(ticks), least)
        axis.set_ticks([place for place, _ in ticks], [label for _, label in ticks])
    ax.set(xlabel="right ascension [deg]", ylabel="declination [deg]")


def _polar_ticks(ax, grid):
    """Draw meridians around a pole every 30 degrees, labelled at the rim, and rings of Dec with labels."""
    ny, nx = grid.shape
    ra0, dec0 = grid.centre
    radius = _radius(grid)
    low, high = max(dec0 - radius, -90.0), min(dec0 + radius, 90.0)
    dec_step = _tick_step(high - low, 5, angle=True)
    pole_dec = np.copysign(90.0, dec0)
    from_pole = np.linspace(pole_dec, low if dec0 > 0 else high, 400)
    lines = []
    small = axes_inches(ax, ny / nx)[0] < 2.5

    def name(x, y, text):
        ax.text(x, y, text, fontsize=7, ha="center", va="center", zorder=5, path_effects=outline())

    for value in np.arange(0.0, 360.0, 30.0):
        x, y = grid.project(np.full(from_pole.size, value), from_pole)
        lines.append((x, y))
        inside = np.flatnonzero((np.abs(x - (nx - 1) / 2) < 0.44 * nx) & (np.abs(y - (ny - 1) / 2) < 0.46 * ny))
        if inside.size and not (small and value % 90):
            name(x[inside[-1]], y[inside[-1]], f"{value:g}°")
    ra_of_names = np.round((ra0 - 15) / 30) * 30 + 15
    for value in _multiples(low, high, dec_step):
        ring = np.linspace(0, 360, 721)
        lines.append(grid.project(ring, np.full(ring.size, value)))
        x, y = (float(v) for v in grid.project(ra_of_names, value))
        if abs(value) < 90 and abs(x - (nx - 1) / 2) < 0.44 * nx and abs(y - (ny - 1) / 2) < 0.46 * ny:
            name(x, y, f"dec {_decimal(value, dec_step)}")
    _draw_lines(ax, lines)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_xlabel("right ascension at the rim, declination on the rings [deg]")


def _draw_lines(ax, lines):
    for x, y in lines:
        ax.plot(x, y, color=ORANGE, lw=0.5, alpha=0.6, zorder=2)


def _crossings(across, along, level, low, high) -> list[float]:
    """Find where the polyline (across, along) meets across = level, with along inside [low, high]."""
    left, right = across[:-1] - level, across[1:] - level
    with np.errstate(invalid="ignore", divide="ignore"):
        meets = (left * right < 0) | ((left == 0) & (right != 0))
        place = along[:-1] + (along[1:] - along[:-1]) * left / (left - right)
        return [float(p) for p in place[meets] if low <= p <= high]


def _thin_out(ticks, least):
    """Drop ticks closer than `least` to the one before."""
    kept = []
    for tick in ticks:
        if not kept or tick[0] - kept[-1][0] >= least:
            kept.append(tick)
    return kept


def _ticks(low, high, count, angle=False, wrap=True) -> list[tuple[float, str]]:
    """Give places and labels of about `count` ticks from low to high."""
    step = _tick_step(high - low, count, angle)
    return [(v, _decimal(v % 360 if angle and wrap else v, step)) for v in _multiples(low, high, step)]


def _tick_step(span: float, count: int, angle: bool = False) -> float:
    """Choose a step that gives about `count` ticks over `span`, and at least two.

    Steps are 1, 2 or 5 times a power of ten; for angles above 10 degrees they divide 90.
    """
    steps = [f * 10.0**e for e in range(-6, 7) for f in (1, 2, 5)]
    if angle:
        steps = [s for s in steps if s < 11] + [15.0, 30.0, 45.0, 90.0]
    fitting = [s for s in steps if s <= span / 2] or steps[:1]
    return min((s for s in fitting if s >= 0.85 * span / count), default=fitting[-1])


def _multiples(low, high, step) -> np.ndarray:
    """Give the multiples of a step from low to high."""
    return np.arange(np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9) + 1) * step


def _decimal(value: float, step: float) -> str:
    """Format a value with as many decimals as its step needs."""
    places = max(0, int(-np.floor(np.log10(step) + 1e-9)))
    value = round(value, places) + 0.0
    # Rounding may have made 359.96 a full turn.
    return f"{0.0 if value == 360.0 else value:.{places}f}".replace("-", "−")
