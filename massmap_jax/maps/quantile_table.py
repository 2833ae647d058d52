"""Q(e; x, z, w): ln M of an object whose data say N(x, w^2) in ln M, at the normal score e of its posterior, tabulated.

The posterior under one relation draw depends on the prior and on three numbers (x, z, w), so one table serves every
relation draw and every object: a draw of a mass is one lookup, not an integral. Tabulated is

    R = (Q - x) / w       over     w,  z,  s(x; w),  e

because R is a smooth, slow function of all four: for a power-law prior it is e - slope * w. The coordinate s follows x
in fixed steps where the masses go on to both sides, and in steps of w near the two ends of the masses, where the
posterior leans on the end. Steps are constants of this file and nodes lie at whole numbers of them, so a table over a
wider range holds the same numbers, and an object's mass does not depend on the rest of the catalogue.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr
from jaxtyping import Array, Float

from massmap_jax import devices
from massmap_jax.likelihood.objects import Objects
from massmap_jax.posterior import kernel
from massmap_jax.prior import panels
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.law import MassLuminosityRelation

# Steps in x away from the ends [ln M], near them [w], in ln w and in ln(1 + z).
X_STEP, END_STEP, LN_W_STEP, Z_STEP = 0.25, 0.125, 0.1, 0.1
# How far beyond the ends of the masses x is tabulated [w], and how far inside steps are those near an end.
REACH, _INSIDE = 7.0, 6.0
# Scores; beyond the last, Q goes on linearly (one draw in 10^6, off by some 0.1 sd).
_MOST_SCORE, _EXACT_SCORES, _SCORES = 5.0, 41, 121
_CHUNK = 4096


class QuantileTable(eqx.Module):
    """R over nodes in (ln w, z, s, e), in float32; called with scores and the numbers of objects, it gives ln M.

    Attributes
    ----------
    values : Float[np.ndarray, "w z s e"]
        R at the nodes.
    z : Float[np.ndarray, "z"]
        Redshifts, increasing.
    ends : Float[np.ndarray, "2"]
        Least and greatest ln M of the prior.
    first_w, first_s : int
        Number of the first step, of LN_W_STEP and of s.
    """

    values: Float[Array, "w z s e"]
    z: Float[Array, " z"]
    ends: Float[Array, "2"]
    first_w: int = eqx.field(static=True)
    first_s: int = eqx.field(static=True)

    @classmethod
    def build(cls, prior: MassPrior, redshift: tuple[float, float], width: tuple[float, float]) -> "QuantileTable":
        """Tabulate a prior for ranges of redshift and width, x to 7 widths beyond its masses.

        Parameters
        ----------
        prior : MassPrior
            Mass prior.
        redshift : tuple of (float, float)
            Least and greatest.
        width : tuple of (float, float)
            Least and greatest w [ln M].

        Returns
        -------
        QuantileTable
            The table.
        """
        from scipy.interpolate import CubicSpline  # slow to import

        ends = np.array([prior.ln_mass_min, prior.ln_mass_max])
        steps = np.log(np.asarray(width, dtype=np.float64)) / LN_W_STEP
        first_w, last_w = int(np.floor(steps[0])), int(np.floor(steps[1])) + 1
        widths = np.exp(LN_W_STEP * np.arange(first_w, last_w + 1))
        z = redshift_nodes(prior, redshift)
        reach = [_step_of(end + side * REACH * widths, widths, ends) for end, side in zip(ends, (-1, 1))]
        first_s = int(np.floor(reach[0].min()))
        number = np.arange(first_s, int(np.ceil(reach[1].max())) + 1)
        x = np.stack([_place_of(number, w, ends) for w in widths])
        shape = (widths.size, z.size, number.size)
        nodes = [np.broadcast_to(a, shape).ravel() for a in (x[:, None], z[:, None], widths[:, None, None])]
        values = np.empty((nodes[0].size, _SCORES), dtype=np.float32)
        halos = Objects(
            ln_lum_obs=nodes[0][:, None],
            sigma=nodes[2],
            z=nodes[1][:, None],
            ln_z_weight=np.zeros((nodes[0].size, 1)),
            kind=np.zeros(nodes[0].size, dtype=np.int32),
            id_hash=np.zeros((nodes[0].size, 2), dtype=np.uint32),
        )
        direct = MassLuminosityRelation.identity().as_batch()  # x and w are themselves the luminosity and its error

        def chunk(i, low, high, *, num_panels, **_):
            return _scores_to_masses(halos.take(i), low, high, prior, num_panels=num_panels)

        exact, fine = (np.linspace(-_MOST_SCORE, _MOST_SCORE, n) for n in (_EXACT_SCORES, _SCORES))
        for rows, ln_mass in kernel.run(chunk, halos, prior, direct, _CHUNK):
            ratio = (ln_mass.astype(np.float64) - nodes[0][rows, None]) / nodes[2][rows, None]
            values[rows] = CubicSpline(exact, ratio, axis=1)(fine)
        return cls(values.reshape(*shape, _SCORES), z, ends, first_w, first_s)

    def holds(self, prior: MassPrior, redshift: tuple[float, float], width: tuple[float, float]) -> bool:
        """Tell whether objects in these ranges are inside, under this prior.

        Parameters
        ----------
        prior : MassPrior
            Mass prior.
        redshift : tuple of (float, float)
            Least and greatest.
        width : tuple of (float, float)
            Least and greatest w [ln M].

        Returns
        -------
        bool
            False where some are not.
        """
        nodes = redshift_nodes(prior, redshift)
        low, high = np.log(np.asarray(width, dtype=np.float64)) / LN_W_STEP
        inside = self.first_w <= low and high <= self.first_w + self.values.shape[0] - 1
        return bool(inside and self.z[0] <= nodes[0] and nodes[-1] <= self.z[-1])

    def united(self, redshift, width) -> tuple[tuple[float, float], tuple[float, float]]:
        """Give ranges that hold this table and those given.

        Parameters
        ----------
        redshift : tuple of (float, float)
            Least and greatest.
        width : tuple of (float, float)
            Least and greatest w [ln M].

        Returns
        -------
        redshift, width : tuple of (float, float)
            Least and greatest, w in ln M.
        """
        first, last = np.exp(LN_W_STEP * (self.first_w + np.array([0.0, self.values.shape[0] - 1.001])))
        return (
            (min(redshift[0], float(self.z[0])), max(redshift[1], float(self.z[-1]))),
            (min(width[0], float(first) * 1.0001), max(width[1], float(last))),
        )

    def __call__(self, score, x, z, width) -> Float[Array, "*shape"]:
        """ln M; `z` a scalar (one object), the others of one shape. NaN outside the table. For use under vmap, jit."""
        size_w, size_z, size_s, size_e = self.values.shape
        ends = jnp.asarray(self.ends, dtype=jnp.result_type(x))
        nodes = jnp.asarray(self.z, dtype=ends.dtype)
        iz = jnp.clip(jnp.searchsorted(nodes, z, side="right") - 1, 0, size_z - 2)
        tz = jnp.clip((z - nodes[iz]) / (nodes[iz + 1] - nodes[iz]), 0.0, 1.0)
        ln_width = jnp.log(width) / LN_W_STEP
        iw, tw, w_inside = _lower_node(ln_width - self.first_w, size_w)
        tw = jnp.expm1(LN_W_STEP * tw) / np.expm1(LN_W_STEP)  # linear in w, as R is where the prior is a power law
        i_s, ts, s_inside = _lower_node(_step_of(x, width, ends, jnp) - self.first_s, size_s)
        place = (score + _MOST_SCORE) * ((size_e - 1) / (2 * _MOST_SCORE))
        ie = jnp.clip(place.astype(jnp.int32), 0, size_e - 2)
        te = place - ie
        values = jnp.asarray(self.values).ravel()
        ratio = 0.0
        for dw, ww in ((0, 1 - tw), (1, tw)):
            for dz, wz in ((0, 1 - tz), (1, tz)):
                for ds, ws in ((0, 1 - ts), (1, ts)):
                    at = (((iw + dw) * size_z + iz + dz) * size_s + i_s + ds) * size_e + ie
                    left, right = (values.at[at + d].get(mode="promise_in_bounds") for d in (0, 1))
                    ratio = ratio + (ww * wz * ws) * (left + te * (right - left))
        ln_mass = jnp.clip(x + width * ratio, ends[0], ends[1])
        return jnp.where(w_inside & s_inside, ln_mass, jnp.nan)


def width_range(relations, sigma, z) -> tuple[float, float]:
    """Find the least and greatest w of objects under a batch of relations.

    At most a factor 5 to each side of the median object's: a few absurd errors must not blow the table up.

    Parameters
    ----------
    relations : Relation
        A batch.
    sigma : Float[np.ndarray, "halo"]
        Errors in ln L.
    z : Float[np.ndarray, "halo node"]
        Redshifts.

    Returns
    -------
    tuple of (float, float)
        In ln M.
    """
    errors = np.array([np.min(sigma), np.median(sigma), np.max(sigma)])
    at_z = jnp.asarray([np.min(z), np.max(z)])
    width = jax.vmap(lambda r: jax.vmap(lambda e: r.data_term(0.0, e, at_z).width * jnp.ones(2))(errors))(relations)
    least, median, greatest = (np.asarray(width[:, i]) for i in range(3))
    # Widened by more than rounding.
    low, high = least.min() * (1 - 1e-5), greatest.max() * (1 + 1e-5)
    return max(float(low), float(median.min()) / 5), min(float(high), 5 * float(median.max()))


def redshift_nodes(prior: MassPrior, redshift: tuple[float, float]) -> np.ndarray:
    """The prior's nodes around a range, with equal steps of at most Z_STEP in ln(1 + z) between them; two at least."""
    own = np.asarray(prior.redshift_nodes, dtype=np.float64)
    if own.size == 1:
        return np.array([0.0, 1.0])  # any: the prior is the same at all redshifts
    first = np.clip(np.searchsorted(own, redshift[0], side="right") - 1, 0, own.size - 2)
    last = np.clip(np.searchsorted(own, redshift[1], side="left"), first + 1, own.size - 1)
    own = own[first : last + 1]
    number = np.ceil(np.diff(np.log1p(own)) / Z_STEP - 1e-9).astype(int)
    parts = [np.linspace(a, b, n, endpoint=False) for a, b, n in zip(own[:-1], own[1:], number)]
    return np.concatenate([*parts, own[-1:]])


def _step_of(x, width, ends, xp=np):
    """s(x; w) in steps."""
    below, above = (ends[0] - x) / width + _INSIDE, (x - ends[1]) / width + _INSIDE
    fine = xp.logaddexp(0.0, above) - xp.logaddexp(0.0, below)
    # Counted from the low end, where most objects of a deep catalogue are: beside it s is a function of x / w alone.
    coarse = xp.logaddexp(0.0, -below) - xp.logaddexp(0.0, above)
    return fine / END_STEP + coarse * xp.minimum(width / X_STEP, 1 / END_STEP)


def _place_of(step, width, ends) -> np.ndarray:
    """x at which s(x; w) has these values, by bisection."""
    span = ends[1] - ends[0] + 50 * width + X_STEP * np.abs(step).max()
    low, high = np.full(step.shape, ends[0] - span), np.full(step.shape, ends[1] + span)
    for _ in range(60):
        middle = 0.5 * (low + high)
        below = _step_of(middle, width, ends) < step
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return 0.5 * (low + high)


def _lower_node(place, size):
    """Lower node, place from 0 to 1 beyond it, and whether it is inside (up to rounding)."""
    node = jnp.clip(place.astype(jnp.int32), 0, size - 2)
    beyond = place - node
    return node, beyond, (beyond >= -1e-3) & (beyond <= 1 + 1e-3)


@devices.over_halos("halos", "low", "high", static=("num_panels",))
def _scores_to_masses(halos, low, high, prior, *, num_panels):
    """Exact ln M at the table's scores, of objects whose luminosity is their mass; (halo, score)."""
    norm = prior.norm_coefficients()
    scores = jnp.linspace(-_MOST_SCORE, _MOST_SCORE, _EXACT_SCORES)

    def one(halo, low, high):
        ln_mass = panels.panel_nodes(low, high, num_panels)
        ln_prior = kernel.ln_prior_at(halo, prior, kernel.prior_rows_of(halo, prior, norm), ln_mass)[0]
        joint = ln_prior - 0.5 * ((ln_mass - halo.ln_lum_obs[0]) / halo.sigma) ** 2
        density = jnp.exp(joint - joint.max())
        return panels.panel_quantile(density, low, high, num_panels, ndtr(scores), ndtr(-scores))

    return jax.vmap(one, (halos.axes(), 0, 0))(halos, jnp.asarray(low, dtype=float), jnp.asarray(high, dtype=float))
