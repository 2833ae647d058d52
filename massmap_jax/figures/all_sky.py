"""The whole sky on a figure, in Mollweide's projection: every pixel as large as its share of the sky.

Snyder 1987, Map Projections (USGS Professional Paper 1395), p. 249: x = (2 sqrt2 / pi) lambda cos(theta), y = sqrt2
sin(theta), 2 theta + sin(2 theta) = pi sin(dec). Coordinates are those of an image's pixels, as on every other map.
"""

import numpy as np
from jaxtyping import Float

from massmap_jax.figures.style import GREY, ORANGE, axes_inches, outline

_ROOT2 = np.sqrt(2.0)
_THETA = np.linspace(-np.pi / 2, np.pi / 2, 20_001)


class MollweidePlane:
    """An image of the whole sky, RA increasing to the left.

    Parameters
    ----------
    middle : float
        RA in the middle [deg].
    rows : int
        Of the image, which is a little more than twice as wide.
    """

    projection = "mollweide"

    def __init__(self, middle: float = 0.0, rows: int = 720):
        self.middle, self.shape = middle, (rows, 2 * rows + 4)

    def centres(self) -> tuple[Float[np.ndarray, "ny nx"], Float[np.ndarray, "ny nx"]]:
        """Give RA and Dec of every pixel; the corners beyond the sky's rim, which are not drawn, repeat it.

        Returns
        -------
        ra, dec : Float[np.ndarray, "ny nx"]
            Degrees.
        """
        ny, nx = self.shape
        y, x = (np.arange(ny) - (ny - 1) / 2) / (ny / 2), (np.arange(nx) - (nx - 1) / 2) / (ny / 2)
        theta = np.arcsin(y)[:, None]
        # x runs over the half height times 2 cos(theta) from rim to rim.
        longitude = np.clip(x / (2 * np.cos(theta)), -1.0, 1.0) * 180.0
        dec = np.degrees(np.arcsin((2 * theta + np.sin(2 * theta)) / np.pi))
        return (self.middle - longitude) % 360.0, np.broadcast_to(dec, self.shape)

    def project(self, ra, dec) -> tuple[np.ndarray, np.ndarray]:
        """Find the pixel coordinates of positions.

        Parameters
        ----------
        ra, dec : array_like, (...,)
            Degrees. RA from `middle` - 180 to `middle` + 180 is not wrapped, so that lines may end at either rim.

        Returns
        -------
        x, y : np.ndarray, (...,)
            0 at the centre of the first pixel.
        """
        ny, nx = self.shape
        theta = np.interp(np.pi * np.sin(np.radians(dec)), 2 * _THETA + np.sin(2 * _THETA), _THETA)
        x = (self.middle - np.asarray(ra)) / 180.0 * 2 * np.cos(theta)
        return (nx - 1) / 2 + x * ny / 2, (ny - 1) / 2 + np.sin(theta) * ny / 2

    def draw_axes(self, ax) -> None:
        """Cut the image at the sky's rim and draw meridians and parallels with their names.

        Parameters
        ----------
        ax : matplotlib.axes.Axes
        """
        from matplotlib.patches import Ellipse

        ny, nx = self.shape
        ax.set(xlim=(-0.5, nx - 0.5), ylim=(-0.5, ny - 0.5), aspect="equal")
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set_visible(False)
        rim = Ellipse(((nx - 1) / 2, (ny - 1) / 2), 2 * ny, ny, fc="none", ec=GREY, lw=0.7, zorder=4)
        ax.add_patch(rim)
        for image in ax.images:
            image.set_clip_path(rim)
        small = axes_inches(ax, ny / nx)[0] < 3.0
        along = np.linspace(-90.0, 90.0, 181)
        for shift in np.arange(-150.0, 151.0, 30.0):
            ax.plot(*self.project(self.middle + shift + 0 * along, along), color=ORANGE, lw=0.5, alpha=0.6, zorder=2)
            if shift % (120 if small else 60) == 0:
                x, y = self.project(self.middle + shift, 0.0)
                _name(ax, x, y, f"{(self.middle + shift) % 360:g}°", "center")
        along = np.linspace(-180.0, 180.0, 181)
        for dec in np.arange(-60.0, 61.0, 30.0):
            ax.plot(*self.project(self.middle + along, dec + 0 * along), color=ORANGE, lw=0.5, alpha=0.6, zorder=2)
            if dec % (60 if small else 30) == 0:
                x, y = self.project(self.middle + 180.0, dec)
                _name(ax, x - 0.01 * nx, y, f"{dec:g}°".replace("-", "−"), "right")
        ax.set_xlabel("right ascension at the equator, declination at the rim [deg]")


def _name(ax, x, y, text, side) -> None:
    ax.text(x, y, text, fontsize=7, ha=side, va="center", zorder=5, path_effects=outline())
