"""What all figures share: style, colours, figure sizes, and how numbers, units and masses are written.

matplotlib is imported only when a function is called.
"""

import functools
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")
R = TypeVar("R")

# Okabe & Ito, "Color Universal Design", https://jfly.uni-koeln.de/color/
BLACK, ORANGE, SKY_BLUE, GREEN, YELLOW, BLUE, VERMILLION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
GREY = "0.55"

STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "figure.titlesize": 9,
    "axes.prop_cycle": "cycler('color', ['0072B2', 'D55E00', '009E73', 'CC79A7', 'E69F00', '56B4E9', '000000'])",
    "axes.linewidth": 0.7,
    "lines.linewidth": 1.2,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.top": True,
    "ytick.right": True,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "legend.frameon": False,
    "legend.handlelength": 1.5,
    "image.interpolation": "nearest",
    "image.origin": "lower",
    "figure.dpi": 150,
    "savefig.dpi": 150,
    "pdf.fonttype": 42,  # TrueType: journals refuse fonts of type 3
}

LN10 = np.log(10)
LABEL_BOX = {"fc": "white", "ec": "none", "alpha": 0.85, "pad": 1.5}
COLUMN, PAGE = 3.5, 7.0  # inches
MSUN = r"$\mathrm{M}_\odot$"
UNIT_LABELS = {"Msun": MSUN, "Msun/arcmin2": rf"{MSUN} arcmin$^{{-2}}$", "Msun/Mpc2": rf"{MSUN} Mpc$^{{-2}}$"}


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a figure function so that it runs in the package's style."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        import matplotlib

        with matplotlib.rc_context(STYLE):
            return function(*args, **kwargs)

    return run


def new_figure(width: float, height: float) -> "Figure":
    """Make a figure of this size [inches] that pyplot does not know of."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def settle(figure: "Figure") -> None:
    """Lay a figure out once now.

    With axes of fixed aspect the layout engine needs two rounds, and drawing the figure gives the second.
    """
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)


def outline() -> list:
    """Give the path effects of a text that stays legible on an image without hiding it: a white rim."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2.5, foreground="white")]


def given_or_new_axes(ax: "Axes | None", width: float = COLUMN, height: float = 3.0) -> "Axes":
    """Give the axes that were passed, or those of a new figure of this size [inches]."""
    return new_figure(width, height).subplots() if ax is None else ax


def axes_inches(ax, aspect) -> tuple[float, float]:
    """Give width and height [inches] that axes have once their aspect (height over width) is kept."""
    box = ax.get_position()
    width, height = ax.figure.get_size_inches() * (box.width, box.height)
    return min(width, height / aspect), min(height, width * aspect)


def label_log_axis(axis, low, high, most):
    """Put at most `most` labels between low and high: decades, or 1 and 3, or 1, 2, 5; linear steps on short ranges."""
    from matplotlib.ticker import MaxNLocator, NullFormatter

    exponents = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        ticks = np.outer(exponents, factors).ravel()
        ticks = ticks[(ticks >= low) & (ticks <= high)]
        if ticks.size >= 2:
            break
    else:
        ticks = MaxNLocator(max(most - 1, 2), steps=[1, 2, 5, 10]).tick_values(low, high)
        ticks = ticks[(ticks >= low) & (ticks <= high)]
    ticks = ticks[:: -(-ticks.size // most)] if ticks.size else ticks
    axis.set_ticks(ticks, [_power_label(value) for value in ticks])
    axis.set_minor_formatter(NullFormatter())


def _power_label(value: float) -> str:
    """Write a number as a factor times a power of ten, in mathtext."""
    exponent = int(np.floor(np.log10(value) + 1e-9))
    factor = value / 10.0**exponent
    if abs(factor - 1) < 1e-6:
        return rf"$10^{{{exponent}}}$"
    return rf"${factor:.6g}{{\times}}10^{{{exponent}}}$"


def interval_68(posterior) -> tuple[np.ndarray, np.ndarray]:
    """Give the 16 % and 84 % quantiles of ln M, (halo,) each: the stored ones if there are any."""
    levels = [round(float(v), 6) for v in posterior.quantile_levels]
    if 0.16 in levels and 0.84 in levels:
        stored = np.asarray(posterior.quantiles)
        return stored[:, levels.index(0.16)], stored[:, levels.index(0.84)]
    both = np.asarray(posterior.quantile((0.16, 0.84)))
    return both[:, 0], both[:, 1]


def plain_text(text: object) -> str:
    """Write a text of the user (a unit, an id) so that matplotlib shows it as it is: dollars would begin mathtext."""
    return str(text).replace("$", r"\$")


def mass_symbol(mass_definition: str) -> str:
    """Write the symbol of the mass in mathtext: M_{200m} for '200m', plain M where the definition is not known."""
    if mass_definition in ("", "unknown"):
        return "M"
    # Mathtext has no sign for a backslash, ^ or ~ as such.
    shown = re.sub(r"([$%#&_{}])", r"\\\1", re.sub(r"[\\^~]", " ", mass_definition))
    return rf"M_{{\mathrm{{{shown}}}}}"


def mass_label(mass_definition: str) -> str:
    """Write the label of an axis of masses, with its unit."""
    return f"halo mass ${mass_symbol(mass_definition)}$ [{MSUN}]"


def count_text(number) -> str:
    """Write a number of objects: '1 object', '2,000 objects'."""
    return f"{int(number):,} object" + ("" if number == 1 else "s")


def short_number(value: float) -> str:
    """Write a number with three digits, in powers of ten where the plain number would be long."""
    if 1e-3 <= abs(value) < 1e5:
        return np.format_float_positional(value, precision=3, fractional=False, trim="-")
    mantissa, exponent = f"{value:.2e}".split("e")
    return rf"${mantissa}{{\times}}10^{{{int(exponent)}}}$"
