"""Noise that is normal in the luminosity itself, and upper limits: the integral over L, from a table.

With lognormal scatter S about the relation, and a measurement L_obs +- e of signal to noise q = L_obs / e,

    K(t; q, S) = ln integral of N(y; -t, S^2) g(y) dy,    g(y) = exp[-(q - L / e)^2 / 2]  (a measurement)
                                                           g(y) = Phi(q - L / e)           (an upper limit)

with y = ln (L / L_ref) and t = ln L_ref - ln mu_L(M). The luminosity L_ref = e exp[asinh(q / 2)] is L_obs where the
signal to noise is good, and stays finite and positive where it is not. K knows no prior, no mass and no redshift.

Far from the measurement g does not fall to 0: an object of no luminosity is exp(-q^2 / 2) as likely as the best one.
Where the two meet, K has a bend that no polynomial follows. It is therefore kept as two integrals, of g times a smooth
step in y and of the rest: L was near L_obs ("near"), or far below it ("faint"). ln of each is smooth in t, a polynomial
on an interval that depends on q and S in closed form, and its coefficients are smooth in q and S: interpolated between
the nodes of a lattice. `scripts/make_linear_noise.py` makes the table, and its errors are in
docs/approximations.md.
"""

from functools import cache, partial
from math import factorial
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr, logsumexp
from jaxtyping import Array, Float

TABLE = Path(__file__).parent.parent / "data" / "linear_noise.npz"
"""The file of the table."""
HIGHEST_SCATTER = 2.5
"""Largest scatter S of the table [ln L]."""
HIGHEST_RATIO = 200.0
"""Largest signal to noise of the table; above it, linear noise is lognormal to 2e-5 (see `nearly_lognormal`)."""
# The smooth step in y between near and faint, and where the near part is negligible towards faint luminosities.
STEP_CENTRE, STEP_WIDTH, LOWEST = -1.7, 0.45, 3.6
ALL_NEAR = 20.1
"""From this signal to noise on the near part is all of K: see `_TO_NEAR` of scripts/make_linear_noise.py."""
NO_FAINT = 12.0
"""Above this signal to noise no mass function makes light halos matter: exp(-q^2 / 2) < exp(-70)."""
# Degrees of the polynomials of the near and the faint part.
NEAR, FAINT = 16, 15
# The lattice: asinh(q / 2), and ln (S + S_0).
RATIO_NODES = np.arange(-15, 54.5) * 0.1
SCATTER_ZERO, SCATTER_STEP = 0.02, 0.12
SCATTER_NODES = np.log(SCATTER_ZERO) + SCATTER_STEP * np.arange(42)
_TAPS = 6
# Standard deviations of the scatter between an object and the halos that a prior may prefer.
_FARTHEST = 11.0
# ln of the faint part falls this much for each half interval beyond the ends of its polynomial.
_FALL = 60.0
# Where a scatter that does not depend on the mass is asked for [ln Msun].
_ANY_MASS = float(np.log(1e14))
# A limit without noise is treated as one with this relative error, which is none in its reference luminosity.
_LEAST_ERROR = 1e-4
# Share of the relative error that is the width of the narrowest feature of K in ln L, and the largest error there.
_SHARE, _WIDEST = 0.5, 1.0
_HALF_LN_2PI = 0.5 * np.log(2 * np.pi)
# Nodes and weights of a mean over a standard normal.
_NORMALS, _SHARES = np.polynomial.hermite_e.hermegauss(10)
_SHARES = _SHARES / _SHARES.sum()


class Intervals(NamedTuple):
    """The intervals of t on which the two parts are polynomials.

    Attributes
    ----------
    near_low, near_high : Float[Array, "..."]
        Where the near part matters.
    faint_low, faint_high : Float[Array, "..."]
        Where the faint part changes: above the upper end it is constant.
    least, greatest : Float[Array, "..."]
        Where the near part counts under any prior. One that falls steeply with mass, such as a mass function at its
        massive end, prefers halos that are five standard deviations of the scatter lighter than they look, and more.
    """

    near_low: Float[Array, "..."]
    near_high: Float[Array, "..."]
    faint_low: Float[Array, "..."]
    faint_high: Float[Array, "..."]
    least: Float[Array, "..."]
    greatest: Float[Array, "..."]


def intervals(place, scatter, xp=jnp) -> Intervals:
    """Give the intervals of the polynomials.

    Parameters
    ----------
    place : Float[Array, "..."]
        asinh(q / 2), with q the signal to noise.
    scatter : Float[Array, "..."]
        Intrinsic scatter S [ln L].
    xp : module, optional
        NumPy or jax.numpy.

    Returns
    -------
    Intervals
        In the broadcast shape.
    """
    q, relative = 2 * xp.sinh(place), xp.exp(-place)
    # 7.5 standard deviations of the noise above L_obs, and 7 of the scatter.
    brightest = xp.log(q + 7.5) - place
    faintest = LOWEST * xp.tanh((9 * relative + 60 * relative**2) / LOWEST)
    blur = xp.sqrt(STEP_WIDTH**2 + scatter**2)
    # From here on, ln g differs by less than exp(-7) from that of no luminosity.
    dark = 7 + xp.log1p(xp.exp(place) * xp.minimum(xp.abs(q), 9.5)) + xp.minimum(scatter**2 / 2, 3.0)
    return Intervals(
        -xp.sqrt(brightest**2 + (7 * scatter) ** 2),
        xp.sqrt(faintest**2 + (7 * scatter) ** 2),
        -STEP_CENTRE - 4.5 * blur,
        dark,
        -xp.sqrt(brightest**2 + (_FARTHEST * scatter) ** 2),
        xp.sqrt(faintest**2 + (_FARTHEST * scatter) ** 2),
    )


def narrowest(place, scatter, xp=jnp):
    """Give the width in ln L of the narrowest feature of K at signals to noise up to these.

    It is that of the scatter and of half the relative error: towards bright luminosities linear noise falls like a
    Gaussian of half its width in ln L, and faint luminosities are all alike.

    Parameters
    ----------
    place : Float[Array, "..."]
        asinh(q / 2), with q the signal to noise.
    scatter : Float[Array, "..."]
        Intrinsic scatter S [ln L].
    xp : module, optional
        NumPy or jax.numpy.

    Returns
    -------
    Float[Array, "..."]
        In the broadcast shape.
    """
    return xp.hypot(scatter, _SHARE * xp.minimum(xp.exp(-place), _WIDEST))


def limit_interval(place, scatter, xp=jnp):
    """Give the interval of t on which the probability to stay below a limit changes.

    Parameters
    ----------
    place : Float[Array, "..."]
        asinh(q / 2), with q the limit over its error.
    scatter : Float[Array, "..."]
        Intrinsic scatter S [ln L].
    xp : module, optional
        NumPy or jax.numpy.

    Returns
    -------
    low, high : Float[Array, "..."]
        In the broadcast shape.
    """
    on = intervals(place, scatter, xp)
    low, dark = on.near_low, on.faint_high
    relative = xp.exp(-place)
    sure = dark * xp.tanh((7 * relative + 30 * relative**2) / dark)
    return low, xp.sqrt(sure**2 + (6 * scatter) ** 2)


def is_nearly_lognormal(relative_error):
    """Tell which linear noise is so small that it is replaced by lognormal noise, see `nearly_lognormal`.

    Parameters
    ----------
    relative_error : Float[np.ndarray, "halo"]
        Errors as fractions of the luminosities; negative where these are below zero.

    Returns
    -------
    Bool[np.ndarray, "halo"]
        True for a signal to noise above `HIGHEST_RATIO`.
    """
    return (relative_error > 0) & (relative_error < 1 / HIGHEST_RATIO)


def nearly_lognormal(ln_lum_obs, relative_error):
    """Replace linear noise that is small by the lognormal noise that is nearest to it.

    Parameters
    ----------
    ln_lum_obs : Float[np.ndarray, "halo"]
        ln of the observed luminosities.
    relative_error : Float[np.ndarray, "halo"]
        Their errors as fractions of them, below 1 / `HIGHEST_RATIO`.

    Returns
    -------
    Float[np.ndarray, "halo"]
        ln of the luminosities that, with the same error in ln L, give the same posteriors up to the third power of the
        error.

    Notes
    -----
    The mean of y = ln (L / L_obs) under exp[-(1 - e^y)^2 / 2 s^2] is -3 s^2 / 2, to second order in s.
    """
    return ln_lum_obs - 1.5 * relative_error**2


@cache
def coefficients(kind: str) -> np.ndarray:
    """Read the coefficients of the polynomials.

    Parameters
    ----------
    kind : {"normal", "upper_limit"}
        Noise kind.

    Returns
    -------
    Float[np.ndarray, "ratio scatter coefficient"]
        At the nodes of the lattice, highest power first: of a measurement those of the near part and then those of the
        faint part, of a limit those of v.
    """
    with np.load(TABLE) as table:
        return table[kind]


class MeasurementTerm(eqx.Module):
    """ln likelihood of a measurement under one relation, as a function of t.

    Attributes
    ----------
    near, faint : Float[Array, "*object coefficient"]
        Coefficients of the polynomials, highest power first.
    on : Intervals
        Their intervals.
    """

    near: Float[Array, "*object near"]
    faint: Float[Array, "*object faint"]
    on: Intervals

    @classmethod
    def of(cls, place, scatter, kind: str = "normal") -> "MeasurementTerm":
        """Interpolate the table.

        Parameters
        ----------
        place : Float[Array, ""]
            asinh(q / 2), with q the signal to noise.
        scatter : Float[Array, ""]
            Intrinsic scatter S [ln L].
        kind : {"normal", "near"}, optional
            "near" for the near part alone, whose table is half as large.

        Returns
        -------
        MeasurementTerm
            The term.
        """
        found = _interpolated(kind, place, scatter)
        return cls(found[: NEAR + 1], found[NEAR + 1 :], intervals(place, scatter))

    def __call__(self, t) -> Float[Array, "..."]:
        """K at t."""
        near, faint = self.near_at(t), self.faint_at(t)
        # Not log1p, which takes longer: what it would keep is below the rounding of K.
        return jnp.maximum(near, faint) + jnp.log(1 + jnp.exp(-jnp.abs(near - faint)))

    def near_at(self, t) -> Float[Array, "..."]:
        """K at t without the faint part."""
        x, beyond = _on_interval(t, self.on.near_low, self.on.near_high)
        # Beyond the polynomial, the parabola of a normal distribution about t = 0 with the slope that it ends with.
        half = 0.5 * (self.on.near_high - self.on.near_low)
        powers = np.arange(NEAR, 0, -1)
        total = _polynomial(self.near, x)
        for side, end in ((1, self.on.near_high), (-1, self.on.near_low)):
            slope = self.near[:-1] @ jnp.asarray(powers * float(side) ** (powers - 1), dtype=total.dtype)
            slope = jnp.minimum(side * slope, 0.0)
            far = jnp.maximum(side * beyond, 0.0)
            total = total + slope * far * (1 + 0.5 * half * far / jnp.abs(end))
        return total

    def faint_at(self, t) -> Float[Array, "..."]:
        """K at t without the near part."""
        x, beyond = _on_interval(t, self.on.faint_low, self.on.faint_high)
        return _polynomial(self.faint, x) - _FALL * jnp.maximum(-beyond, 0.0)


class LimitTerm(eqx.Module):
    """ln of the probability to stay below a limit under one relation, as a function of t.

    The probability is Phi(v), and v is a polynomial in t: a straight line where there is no noise, and (1 - exp(-t)) q
    where there is no scatter.

    Attributes
    ----------
    score : Float[Array, "*object coefficient"]
        Coefficients of v, highest power first.
    low, high : Float[Array, "*object"]
        Interval of the polynomial.
    """

    score: Float[Array, "*object score"]
    low: Float[Array, "*object"]
    high: Float[Array, "*object"]

    @classmethod
    def of(cls, place, scatter) -> "LimitTerm":
        """Interpolate the table.

        Parameters
        ----------
        place : Float[Array, ""]
            asinh(q / 2), with q the limit over its error.
        scatter : Float[Array, ""]
            Intrinsic scatter S [ln L].

        Returns
        -------
        LimitTerm
            The term.
        """
        return cls(_interpolated("upper_limit", place, scatter), *limit_interval(place, scatter))

    def __call__(self, t) -> Float[Array, "..."]:
        """K at t."""
        return log_ndtr(self._score_at(t))

    def above(self, t) -> Float[Array, "..."]:
        """ln of the probability that a measurement is above the limit, at t."""
        return log_ndtr(-self._score_at(t))

    def _score_at(self, t):
        x, beyond = _on_interval(t, self.low, self.high)
        return _polynomial(self.score, x) + _FALL * jnp.minimum(beyond, 0.0)


def lifted(t, scatter, place) -> Float[Array, "..."]:
    """Evaluate ln of the probability that noise lifts an object over a limit that is far above its luminosity.

    Beyond its interval `LimitTerm` keeps its last value. That is right for staying below, which is certain there, and
    not for the few that are above, which count where there are very many faint objects.

    Parameters
    ----------
    t : Float[Array, "..."]
        ln L_ref - ln mu_L(M), beyond the interval.
    scatter : Float[Array, ""]
        Intrinsic scatter S [ln L].
    place : Float[Array, ""]
        asinh(q / 2), with q the limit over its error.

    Returns
    -------
    Float[Array, "..."]
        ln of the mean of Phi(L / e - q), in the shape of `t`.
    """
    # Not as they are: JAX 0.10 would keep NumPy's arrays in the precision of their first use.
    normals, shares = (jnp.asarray(a, dtype=jnp.result_type(t)) for a in (_NORMALS, _SHARES))
    ratio = jnp.exp(jnp.minimum(place - t[..., None] + scatter * normals, 10.0))
    return logsumexp(log_ndtr(ratio - 2 * jnp.sinh(place)), b=shares, axis=-1)


def ln_above(t, scatter, place) -> Float[Array, "..."]:
    """Evaluate ln of the probability that a measurement is above a limit, at any luminosity.

    Parameters
    ----------
    t : Float[Array, "..."]
        ln L_ref - ln mu_L(M).
    scatter : Float[Array, ""]
        Intrinsic scatter S [ln L].
    place : Float[Array, ""]
        asinh(q / 2), with q the limit over its error.

    Returns
    -------
    Float[Array, "..."]
        ln of the probability in the shape of `t`.
    """
    _, dark = limit_interval(place, scatter)
    return jnp.where(t > dark, lifted(t, scatter, place), kernel("above", t, scatter, place))


def term_at(kind: str, place, scatter) -> MeasurementTerm | LimitTerm:
    """Interpolate the table for one object, first to its signal to noise: where each object has scatters of its own.

    Parameters
    ----------
    kind : {"normal", "near", "upper_limit"}
        Noise kind, as in `kernel`.
    place : Float[Array, ""]
        asinh(q / 2), with q the signal to noise of the measurement or the limit.
    scatter : Float[Array, ""]
        Scatter of ln L [ln L].

    Returns
    -------
    MeasurementTerm or LimitTerm
        K of the object as a function of t.
    """
    of_kind = jnp.asarray(coefficients("normal" if kind == "near" else kind), dtype=jnp.result_type(place, scatter))
    table = jnp.einsum("r,rsk->sk", _weights(place, RATIO_NODES), of_kind, precision="highest")
    found, ends = _made(kind, scatter, place, table)
    if kind == "upper_limit":
        return LimitTerm(found, *ends)
    return MeasurementTerm(found[: NEAR + 1], found[NEAR + 1 :], Intervals(*ends))


def at_places(kind: str, places) -> Float[np.ndarray, "object scatter coefficient"]:
    """Interpolate the table to the signal to noise of some objects, for `kernel` of scatters that differ.

    Parameters
    ----------
    kind : {"normal", "upper_limit"}
        What K is.
    places : Float[np.ndarray, "object"]
        asinh(q / 2) of each object.

    Returns
    -------
    Float[np.ndarray, "object scatter coefficient"]
        The coefficients at the nodes of the scatter, single precision.
    """
    weights = np.asarray(_weights_of_places(jnp.asarray(places)))
    return np.einsum("or,rsk->osk", weights, coefficients(kind), optimize=True).astype(np.float32)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def kernel(kind: str, t, scatter, place, table=None) -> Float[Array, "..."]:
    """Evaluate K of one object, with derivatives that cost as much as K itself.

    Parameters
    ----------
    kind : {"normal", "near", "upper_limit", "above"}
        A measurement; one with a signal to noise of `ALL_NEAR` or more; an upper limit; a measurement that is above a
        limit, whatever it is.
    t : Float[Array, "..."]
        ln L_ref - ln mu_L(M).
    scatter : Float[Array, ""]
        Intrinsic scatter S [ln L].
    place : Float[Array, ""]
        asinh(q / 2), with q the signal to noise of the measurement or the limit; not differentiated.
    table : Float[Array, "scatter coefficient"], optional
        What `at_places` gives of this object: where objects have scatters of their own, the table of all signals to
        noise cannot be interpolated to the scatter once for all of them.

    Returns
    -------
    Float[Array, "..."]
        K in the shape of `t`.
    """
    return _at(kind, t, *_made(kind, scatter, place, table))


@kernel.defjvp
def _kernel_jvp(kind, primals, tangents):
    """JAX alone would keep each step of the polynomials for the gradient, which takes twice as long."""
    t, scatter, place, table = primals
    made, moved = jax.jvp(lambda s: _made(kind, s, place, table), (scatter,), (jnp.ones_like(scatter),))
    value, by_t = jax.jvp(lambda t: _at(kind, t, *made), (t,), (jnp.ones_like(t),))
    _, by_scatter = jax.jvp(lambda *m: _at(kind, t, *m), made, moved)
    return value, by_t * tangents[0] + by_scatter * tangents[1]


def _made(kind: str, scatter, place, table=None):
    """Coefficients at a scatter and a signal to noise, and the ends of their intervals."""
    measured = kind in ("normal", "near")
    ends = tuple(intervals(place, scatter)) if measured else limit_interval(place, scatter)
    if table is not None:
        return jnp.einsum("s,sk->k", _scatter_weights(scatter), table, precision="highest"), ends
    return _interpolated(kind if measured else "upper_limit", place, scatter), ends


def _at(kind: str, t, found, ends):
    if kind in ("normal", "near"):
        term = MeasurementTerm(found[: NEAR + 1], found[NEAR + 1 :], Intervals(*ends))
        return term(t) if kind == "normal" else term.near_at(t)
    limit = LimitTerm(found, *ends)
    return limit.above(t) if kind == "above" else limit(t)


def _interpolated(kind: str, place, scatter) -> Float[Array, " coefficient"]:
    """The coefficients at a signal to noise and a scatter."""
    of_kind = coefficients("normal")[..., : NEAR + 1] if kind == "near" else coefficients(kind)
    table = jnp.asarray(of_kind, dtype=jnp.result_type(place, scatter))
    # The draw's table first: it serves all objects, and the rest is one product of matrices.
    of_draw = jnp.einsum("s,rsk->rk", _scatter_weights(scatter), table, precision="highest")
    return jnp.einsum("r,rk->k", _weights(place, RATIO_NODES), of_draw, precision="highest")


def _on_interval(t, low, high):
    """Place of t on [-1, 1], held there, and by how much it is beyond."""
    place = (2 * t - (low + high)) / (high - low)
    held = jnp.clip(place, -1.0, 1.0)
    return held, place - held


def _polynomial(coefficients, x):
    value = coefficients[0]
    for k in range(1, coefficients.shape[0]):
        value = value * x + coefficients[k]
    return value


@cache
def _scatter_spline() -> np.ndarray:
    """Taylor coefficients (power, cell, node) of the quintic splines that are 1 at one node of the scatter alone."""
    from scipy.interpolate import make_interp_spline

    spline = make_interp_spline(np.arange(SCATTER_NODES.size), np.eye(SCATTER_NODES.size), k=5)
    return np.stack([spline(np.arange(SCATTER_NODES.size - 1), nu=k) / factorial(k) for k in range(6)])


def _scatter_weights(scatter) -> Float[Array, "node"]:
    """Weights of the nodes of the scatter that interpolate by a spline.

    A fit varies the scatter: a polynomial through the nearest nodes would jump where these change, by 1e-6 in ln Z of
    an object, which a sum over a catalogue shows.
    """
    place = (jnp.log(scatter + SCATTER_ZERO) - float(SCATTER_NODES[0])) / SCATTER_STEP
    cell = jnp.clip(jnp.floor(jax.lax.stop_gradient(place)).astype(int), 0, SCATTER_NODES.size - 2)
    powers = jnp.asarray(_scatter_spline(), dtype=jnp.result_type(place))[:, cell]
    return _polynomial(powers[::-1], place - cell)


@jax.jit
def _weights_of_places(places) -> Float[Array, "object node"]:
    """Weights of the nodes in signal to noise, for each of some objects."""
    return jax.vmap(lambda place: _weights(place, RATIO_NODES))(places)


def _weights(value, nodes: np.ndarray) -> Float[Array, "node"]:
    """Weights of the nodes of a lattice that interpolate at a value: a polynomial through the six nearest."""
    # Python's numbers: those of NumPy would turn single precision into double.
    lowest, step = float(nodes[0]), float(nodes[1] - nodes[0])
    place = (value - lowest) / step
    first = jnp.clip(jnp.floor(jax.lax.stop_gradient(place)) - (_TAPS // 2 - 1), 0, nodes.size - _TAPS)
    u = place - first
    index = np.arange(nodes.size)
    weights = jnp.zeros(nodes.size, dtype=jnp.result_type(place))
    for k in range(_TAPS):
        others = [j for j in range(_TAPS) if j != k]
        own = 1.0
        for j in others:
            own = own * (u - j) / (k - j)
        weights = weights + jnp.where(index == first + k, own, 0.0)
    return weights


def largest_scatter(relation, redshift: tuple[float, float], ln_mass: tuple[float, float]) -> float | None:
    """Give the largest scatter of the draws of a relation.

    Parameters
    ----------
    relation : Relation
        A batch of draws.
    redshift : tuple of (float, float)
        Lowest and highest redshift.
    ln_mass : tuple of (float, float)
        Lowest and highest mass [ln Msun].

    Returns
    -------
    float or None
        The scatter [ln L]; None where it depends on the mass, for which there is no table.
    """
    z = np.linspace(redshift[0], redshift[1], 5)[:, None]
    masses = np.linspace(ln_mass[0], ln_mass[1], 9)
    scatter = np.asarray(
        jax.vmap(lambda r: jnp.broadcast_to(r.scatter_ln_lum(masses, z), (z.size, masses.size)))(relation)
    )
    return float(scatter.max()) if np.ptp(scatter, axis=-1).max() <= 1e-5 * scatter.max() else None


@partial(jax.jit, inline=True)
def reference(ln_lum_obs, relative_error):
    """Give the luminosity that t counts from.

    Parameters
    ----------
    ln_lum_obs : Float[Array, "..."]
        ln of the absolute value of the observed luminosity, or of the limit.
    relative_error : Float[Array, "..."]
        Its linear error as a fraction of it; negative for a measurement below zero.

    Returns
    -------
    ln_reference : Float[Array, "..."]
        ln L_ref.
    place : Float[Array, "..."]
        asinh(q / 2), with q the signal to noise; at most that of the table's end.
    """
    size = jnp.maximum(jnp.abs(relative_error), _LEAST_ERROR)
    place = jnp.where(relative_error < 0, -1.0, 1.0) * jnp.arcsinh(0.5 / size)
    # Beyond the table, nothing else but the place of a limit changes.
    return ln_lum_obs + jnp.log(size) + place, jnp.minimum(place, RATIO_NODES[-1])


def ln_likelihood(ln_mass, z, ln_lum_obs, relative_error, relation, normals, *, kind: str):
    """Compute ln P(L_obs | M, z, relation) for linear noise or an upper limit.

    Parameters
    ----------
    ln_mass : Float[Array, ""]
        ln of the mass [ln Msun].
    z : Float[Array, ""]
        Redshift.
    ln_lum_obs : Float[Array, ""]
        ln of the absolute value of the observed luminosity or of the limit [ln of the catalogue's unit].
    relative_error : Float[Array, ""]
        Linear error of the luminosity, as a fraction of it; negative for a measurement below zero.
    relation : AnyRelation
        One draw, whose scatter does not depend on the mass.
    normals : object
        Not used; the other integrals over L take it.
    kind : {"normal", "near", "upper_limit"}
        Noise kind, as in `kernel`.

    Returns
    -------
    Float[Array, ""]
        ln of the density per unit L_obs; for an upper limit ln of the probability.
    """
    ln_reference, place = reference(ln_lum_obs, relative_error)
    t = ln_reference - relation.mean_ln_lum(ln_mass, z)
    scatter = relation.scatter_ln_lum(_ANY_MASS, z)
    term = LimitTerm.of(place, scatter) if kind == "upper_limit" else MeasurementTerm.of(place, scatter, kind)
    return per_lum(kind, term, t, ln_lum_obs, relative_error)


def per_lum(kind: str, term: MeasurementTerm | LimitTerm, t, ln_lum_obs, relative_error) -> Float[Array, "..."]:
    """Evaluate ln of the density per unit L_obs, or of the probability of a limit.

    Parameters
    ----------
    kind : {"normal", "near", "upper_limit"}
        Noise kind, as in `kernel`.
    term : MeasurementTerm or LimitTerm
        K of the object.
    t : Float[Array, "..."]
        ln L_ref - ln mu_L(M).
    ln_lum_obs, relative_error : Float[Array, ""]
        As in `ln_likelihood`.

    Returns
    -------
    Float[Array, "..."]
        In the shape of `t`.
    """
    if isinstance(term, LimitTerm):
        return term(t)
    ln_g = term.near_at(t) if kind == "near" else term(t)
    return ln_g - (ln_lum_obs + jnp.log(jnp.abs(relative_error)) + _HALF_LN_2PI)
