"""What an object's data say about its mass: a log likelihood in ln M. Terms of independent data add.

Posteriors, evidences and maps use the data only through these terms. A lognormal observable is a `GaussianTerm`;
anything else (weak lensing, an upper limit, a measured mass likelihood) is a `TabulatedTerm`.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from massmap_jax.catalogue.columns import as_plain
from massmap_jax.catalogue.quantities import plain_numbers
from massmap_jax.errors import MassmapError

_HALF_LN_2PI = 0.5 * np.log(2 * np.pi)
# Where ln likelihood is within the first number of its highest value, the spline may differ from the cubic through the
# four nearest nodes by the second. It is 0 for a parabola, and 2 beside a step down to -50, where the spline rings.
_MATTERS, _ROUGH = 10.0, 0.5


# What ln likelihoods have to rise by, from inside to both ends, to be turned upside down: 2 standard deviations.
_DEEP = 2.0
# ln of masses [Msun] beyond which nodes are log10 M, or M.
_LOWEST, _HIGHEST = 20.0, 100.0


class GaussianTerm(eqx.Module):
    """A likelihood that is Gaussian in ln M: log_norm - (ln M - centre)^2 / (2 width^2).

    The three arrays have one shape, for example () for one object or (halo,) for a catalogue.

    Attributes
    ----------
    centre : Float[Array, "..."]
        Mean of the Gaussian [ln Msun].
    width : Float[Array, "..."]
        Standard deviation of the Gaussian [ln Msun].
    log_norm : Float[Array, "..."]
        ln likelihood at the centre.

    See Also
    --------
    TabulatedTerm : A likelihood of any shape.

    Examples
    --------
    Two independent mass measurements of one halo, 0.4 and 0.3 in ln M wide; their product is Gaussian again:

    >>> import numpy as np
    >>> import massmap_jax as mm
    >>> first = mm.GaussianTerm.normalised(np.log(1.0e14), 0.4)
    >>> both = first + mm.GaussianTerm.normalised(np.log(1.2e14), 0.3)
    >>> round(float(both.width), 2)
    0.24
    >>> bool(both(np.log(1.1e14)) > both(np.log(3e14)))
    True
    """

    centre: Float[Array | np.ndarray, "..."]
    width: Float[Array | np.ndarray, "..."]
    log_norm: Float[Array | np.ndarray, "..."]

    @classmethod
    def normalised(cls, centre, width, ln_scale=0.0) -> "GaussianTerm":
        """Make the term of a normal density in ln M, times a factor.

        Parameters
        ----------
        centre : array_like, (...)
            Mean [ln Msun].
        width : array_like, (...)
            Standard deviation [ln Msun].
        ln_scale : array_like, (...)
            ln of the factor; 0 by default. All three broadcast.

        Returns
        -------
        GaussianTerm
            The term whose integral over ln M is exp(ln_scale).
        """
        return cls(centre, width, ln_scale - jnp.log(width) - _HALF_LN_2PI)

    def __call__(self, ln_mass) -> Float[Array, "..."]:
        """Log likelihood at ln_mass [ln Msun]."""
        return self.log_norm - 0.5 * ((ln_mass - self.centre) / self.width) ** 2

    def __add__(self, other: "GaussianTerm") -> "GaussianTerm":
        """The product of two Gaussian likelihoods, again Gaussian in ln M."""
        variance = 1 / (self.width**-2 + other.width**-2)
        centre = variance * (self.centre / self.width**2 + other.centre / other.width**2)
        apart = (self.centre - other.centre) ** 2 / (self.width**2 + other.width**2)
        return GaussianTerm(centre, jnp.sqrt(variance), self.log_norm + other.log_norm - 0.5 * apart)


class TabulatedTerm(eqx.Module):
    """A likelihood given by its ln at nodes of ln M: weak lensing, an upper limit, any measured mass likelihood.

    Between the nodes it is the cubic spline through them (not-a-knot), which is exact where ln likelihood is a
    parabola. Beyond them it goes on with its last slope where it falls, and stays as it is where it would rise.

    Parameters
    ----------
    ln_mass_nodes : Float[Array, "g"]
        Nodes [ln Msun], increasing, common to all objects.
    log_likelihood : Float[Array, "*halo g"]
        ln likelihood at the nodes, in any normalisation: (g,) for one object, (halo, g) for a catalogue. A row of NaN
        is an object without a measurement, as is a row of zeros.
    slopes : Float[Array, "*halo g"], optional
        Derivatives at the nodes, where they are known; by default those of the spline.

    Attributes
    ----------
    ln_mass_nodes : Float[Array, "g"]
        Nodes [ln Msun].
    log_likelihood : Float[Array, "*halo g"]
        As above, with zeros in place of NaN.
    slopes : Float[Array, "*halo g"]
        As above.

    Raises
    ------
    MassmapError
        Fewer than two nodes, nodes that do not increase, another number of values than nodes, a row that is finite in
        part only, or nodes that are too far apart for the likelihood: a sudden step is none of a spline.

    See Also
    --------
    read_mass_likelihoods : Such a table from a file.
    GaussianTerm : A likelihood that is Gaussian in ln M.

    Notes
    -----
    Make one outside of `jax.jit`: the spline is solved on the host. Nothing that rises is continued, because a
    likelihood that grows where nobody computed it would draw masses there; and nothing that falls is cut off, because a
    kink in ln M has no second derivative, which the fit of a common bias needs.

    Examples
    --------
    >>> import numpy as np
    >>> import massmap_jax as mm
    >>> nodes = np.log([1e13, 1e14, 1e15])
    >>> term = mm.TabulatedTerm(nodes, np.array([-2.0, 0.0, -3.0]))
    >>> [round(float(term(ln_mass)), 3) for ln_mass in np.log([10**13.5, 1e14, 1e16])]
    [-0.375, 0.0, -8.5]
    """

    ln_mass_nodes: Float[Array | np.ndarray, "g"]
    log_likelihood: Float[Array | np.ndarray, "*halo g"]
    slopes: Float[Array | np.ndarray, "*halo g"]

    def __init__(self, ln_mass_nodes: Any, log_likelihood: Any, slopes: Any = None):
        if slopes is None:
            ln_mass_nodes, log_likelihood = _checked_table(ln_mass_nodes, log_likelihood)
            slopes = _spline_slopes(ln_mass_nodes, log_likelihood)
        self.ln_mass_nodes, self.log_likelihood, self.slopes = ln_mass_nodes, log_likelihood, slopes

    def __call__(self, ln_mass) -> Float[Array, "..."]:
        """Log likelihood of one object at ln_mass [ln Msun]."""
        nodes, values, slopes = (jnp.asarray(a) for a in (self.ln_mass_nodes, self.log_likelihood, self.slopes))
        inside = jnp.clip(ln_mass, nodes[0], nodes[-1])
        cell = jnp.clip(jnp.searchsorted(nodes, inside, side="right") - 1, 0, nodes.shape[0] - 2)
        length = nodes[cell + 1] - nodes[cell]
        t = (inside - nodes[cell]) / length
        rise = values[cell + 1] - values[cell]
        first, last = length * slopes[cell], length * slopes[cell + 1]
        value = values[cell] + t * (first + t * (3 * rise - 2 * first - last + t * (first + last - 2 * rise)))
        beyond = ln_mass - inside
        return value + beyond * jnp.where(beyond < 0, jnp.maximum(slopes[0], 0.0), jnp.minimum(slopes[-1], 0.0))

    def under(self, relation, ln_mass) -> Float[Array, "..."]:
        """Evaluate the ln likelihood of one object under each draw of a relation.

        Parameters
        ----------
        relation : Relation
            A batch of draws; where it has an `extra_bias` b, the likelihood is that of ln M + b.
        ln_mass : Float[Array, "node"]
            Where to evaluate it [ln Msun].

        Returns
        -------
        Float[Array, "..."]
            ln likelihood: (draw, node), or (node,) where the draws have no bias.
        """
        bias = getattr(relation, "extra_bias", None)
        return self(ln_mass) if bias is None else jax.vmap(lambda b: self(ln_mass + b))(bias)

    @property
    def informs(self) -> Bool[Array | np.ndarray, "*halo"]:
        """Which objects have a likelihood that is not 0 everywhere."""
        return (self.log_likelihood != 0).any(axis=-1)

    def take(self, rows) -> "TabulatedTerm":
        """Select objects.

        Parameters
        ----------
        rows : Int[np.ndarray, "m"]
            Numbers of the objects, a mask or a slice.

        Returns
        -------
        TabulatedTerm
            Their table.
        """
        return TabulatedTerm(self.ln_mass_nodes, self.log_likelihood[rows], self.slopes[rows])

    def axes(self) -> "TabulatedTerm":
        """Return the `jax.vmap` axes that map over objects.

        Returns
        -------
        TabulatedTerm
            The same structure with 0 where an array has a halo axis and None where it has not.
        """
        return TabulatedTerm(None, 0, 0)

    def check_rows(self, number: int) -> None:
        """Refuse a table that does not belong to a catalogue.

        Parameters
        ----------
        number : int
            Number of rows of the catalogue.

        Raises
        ------
        MassmapError
            The table has not one row per row of the catalogue.
        """
        expected = (number, self.ln_mass_nodes.shape[0])
        if self.log_likelihood.shape != expected:
            raise MassmapError(
                f"extra likelihood has shape {self.log_likelihood.shape}: give one row per catalogue row and one column"
                f" per ln mass node, {expected}"
            )


def refuse_other_numbers(what: str, names: list[str], values: Float[np.ndarray, "halo g"]) -> None:
    """Refuse what is no ln likelihood: one with another sign, such as chi^2, or the likelihood itself.

    Parameters
    ----------
    what : str
        How the sentence calls them.
    names : list of str
        How it calls each node.
    values : Float[np.ndarray, "halo g"]
        The numbers; NaN at all nodes where there is no measurement.

    Raises
    ------
    MassmapError
        For rows that are lowest inside and rise to both ends, or mostly rows nowhere below 0 and nearly 0 at both ends.
    """
    there = ~np.isnan(values).all(axis=1)
    ends = values[:, [0, -1]]
    with np.errstate(invalid="ignore"):
        lowest = values.min(axis=1)
        # They fall to one lowest point inside and rise from there.
        steps, places = np.diff(values, axis=1), np.arange(values.shape[1] - 1)
        falls = places < np.argmin(values, axis=1)[:, None]
        turned = there & (lowest < ends.min(axis=1) - _DEEP) & np.where(falls, steps <= 0, steps >= 0).all(axis=1)
    if turned.any():
        row = int(np.argmax(turned))
        raise MassmapError(
            f"{what} are lowest inside and rise to both ends in {np.count_nonzero(turned)} rows,"
            f" first row {row}, lowest at {names[int(np.argmin(values[row]))]}: {lowest[row]:g}; these are"
            " -ln L or chi^2: give ln L, which is -chi^2 / 2"
        )
    with np.errstate(invalid="ignore"):
        most = values.max(axis=1)
        itself = there & (lowest >= 0) & (most > 0) & (ends.max(axis=1) < 1e-3 * most)
    if np.count_nonzero(itself) > 0.5 * np.count_nonzero(there):
        row = int(np.argmax(itself))
        raise MassmapError(
            f"{what} are nowhere below 0 and nearly 0 at both ends in {np.count_nonzero(itself)}"
            f" rows, first row {row} with its highest value {most[row]:g}: these are likelihoods, so give their natural"
            " logarithms"
        )


def _checked_table(ln_mass_nodes, log_likelihood) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and values as host arrays, rows of NaN as zeros."""
    nodes = plain_numbers(ln_mass_nodes, "mass nodes of a likelihood", told="ln M, M in Msun")
    values = np.ma.filled(np.ma.asarray(as_plain(log_likelihood)).astype(np.float64), np.nan)
    if nodes.ndim != 1 or nodes.size < 2:
        raise MassmapError(f"the mass nodes of a likelihood have shape {nodes.shape}: give two or more in one row")
    bad = ~np.isfinite(nodes)
    bad[1:] |= ~(np.diff(nodes) > 0)
    if bad.any():
        first = int(np.argmax(bad))
        raise MassmapError(
            f"{bad.sum()} of {nodes.size} mass nodes of a likelihood are not finite or do not increase, first node "
            f"{first}: {nodes[first]:g}; give ln M/Msun in increasing order"
        )
    if nodes[-1] < _LOWEST or nodes[0] > _HIGHEST:
        raise MassmapError(
            f"the mass nodes of a likelihood go from {nodes[0]:g} to {nodes[-1]:g}, and ln M of halos in Msun are about"
            " 23 to 37: give natural logarithms, and neither log10 M nor M"
        )
    if values.ndim == 0 or values.shape[-1] != nodes.size:
        raise MassmapError(
            f"a likelihood has {nodes.size} mass nodes and values of shape {values.shape}: give one value per node"
        )
    with np.errstate(invalid="ignore"):
        refuse_other_numbers("ln likelihoods", [f"ln M = {node:.4g}" for node in nodes], np.atleast_2d(values))
    values = np.where(np.isnan(values).all(axis=-1, keepdims=True), 0.0, values)
    lost = ~np.isfinite(np.atleast_2d(values)).all(axis=1)
    if lost.any():
        raise MassmapError(
            f"the ln likelihood of {lost.sum()} of {lost.size} objects is not finite at some nodes, first row "
            f"{int(np.argmax(lost))}: give a low finite number where the likelihood is 0, and NaN at all nodes where "
            "there is no measurement"
        )
    return nodes, values


def _spline_slopes(nodes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Derivatives at the nodes of the spline through each row."""
    from scipy.interpolate import CubicSpline  # slow to import

    slopes = np.zeros_like(values)
    some = (values != 0).any(axis=-1)
    if some.any():
        slopes[some] = CubicSpline(nodes, values[some], axis=-1)(nodes, 1)
    if nodes.size > 4:
        _refuse_rough(nodes, np.atleast_2d(values), np.atleast_2d(slopes))
    return slopes


def _refuse_rough(nodes, values, slopes) -> None:
    """Refuse tables whose spline is not to be trusted, judged by the middle of every inner cell."""
    middle = 0.5 * (nodes[1:-2] + nodes[2:-1])
    near = np.lib.stride_tricks.sliding_window_view(nodes, 4)
    apart = np.where(np.eye(4, dtype=bool), 1.0, near[:, :, None] - near[:, None, :])
    weights = np.where(np.eye(4, dtype=bool), 1.0, middle[:, None, None] - near[:, None, :]) / apart
    local = np.einsum("hck,ck->hc", np.lib.stride_tricks.sliding_window_view(values, 4, axis=1), weights.prod(axis=2))
    first, last = values[:, 1:-2], values[:, 2:-1]
    spline = 0.5 * (first + last) + np.diff(nodes)[1:-1] / 8 * (slopes[:, 1:-2] - slopes[:, 2:-1])
    matters = np.maximum(first, last) > values.max(axis=1, keepdims=True) - _MATTERS
    bad = matters & (np.abs(spline - local) > _ROUGH)
    if bad.any():
        row, cell = np.argwhere(bad)[0]
        raise MassmapError(
            f"the ln likelihood of {bad.any(axis=1).sum()} of {bad.shape[0]} objects changes too fast for its mass "
            f"nodes, first row {row}, near ln M = {middle[cell]:.2f}: give nodes closer together (0.1 dex or less), "
            "and the true ln likelihood where it is low, not one number for all that is"
        )
