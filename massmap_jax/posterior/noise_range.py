"""The range of ln M of posteriors whose likelihood is that of linear noise or an upper limit.

Such a likelihood need not fall towards light masses, so that no Gaussian bounds it: it is evaluated, for the extreme
draws of the relation, over the whole support of the prior.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from massmap_jax import devices
from massmap_jax.likelihood import linear_noise
from massmap_jax.likelihood.objects import Objects
from massmap_jax.likelihood.redshifts import NODE_COUNTS, NODE_SHAPES
from massmap_jax.prior import panels
from massmap_jax.prior.mass_prior import MassPrior

# Points over the support at which the posterior is looked for.
POINTS = 49
# A relation that is flatter than this in ln L against ln M is taken to be as steep.
_LEAST_SLOPE = 0.05
# A posterior that is within exp(-12) of its peak at an end of the prior's table may go on beyond it.
AT_THE_EDGE = 12.0
# The posterior is integrated down to exp(-20) of its peak: what is left out hardly changes mean and sd, even where a
# thousand times as many halos are light.
DEPTH = 20.0
# The faint part of the table takes two thirds of the time, and at most signals to noise it is out of the question that
# an object is far fainter than it looks. It is left out where mean and variance would change by less than this without
# it, in standard deviations, and where less of it than this lies below three of them.
_NO_CHANGE, _NO_TAIL = 3e-4, 1e-5


@devices.over_halos("halos", static=("kind",))
def noise_ranges(halos: Objects, prior: MassPrior, relation, *, kind: str):
    """Find the range of ln M that each posterior needs, over all draws.

    Parameters
    ----------
    halos : Objects
        Objects of one noise kind.
    prior : MassPrior
        The mass prior.
    relation : Relation
        A batch of draws, whose scatter does not depend on the mass.
    kind : {"normal", "upper_limit"}
        Noise kind.

    Returns
    -------
    low : Float[Array, "halo"]
        Lower end [ln Msun].
    high : Float[Array, "halo"]
        Upper end [ln Msun].
    narrowest : Float[Array, "halo"]
        Length in ln M of the range that the narrowest feature of the likelihood would need alone.
    at_the_edge : Bool[Array, "halo"]
        Whether part of the posterior may lie beyond the ends of the prior's table.
    near : Bool[Array, "halo"]
        Whether the near part of the table is all of the likelihood that counts; with several redshift nodes, only where
        nothing may lie beyond these ends.
    """
    measured = kind != "upper_limit"
    term = linear_noise.LimitTerm if kind == "upper_limit" else linear_noise.MeasurementTerm
    support = jnp.linspace(prior.ln_mass_nodes[0], prior.ln_mass_nodes[-1], POINTS)
    step = support[1] - support[0]
    deviations = np.sqrt(2 * DEPTH)

    def at_node(ln_lum_obs, sigma, z):
        ln_reference, place = linear_noise.reference(ln_lum_obs, sigma)
        relative = jnp.exp(-place)
        row = prior.ln_density_at(z)
        ln_prior = prior.interpolate(row, support)
        scatter = jax.vmap(lambda r: r.scatter_ln_lum(support[0], z))(relation)
        # The draws in which an object of this luminosity is lightest and heaviest, where one of them puts it.
        first = jax.tree.map(lambda a: a[0], relation)
        middle = support[jnp.argmin(jnp.abs(first.mean_ln_lum(support, z) - ln_reference))]
        mean = jax.vmap(lambda r: r.mean_ln_lum(middle, z))(relation)
        # Where g alone is negligible. Noise that does not exclude faint luminosities is left to the points.
        fainter = -jnp.log(jnp.maximum(1 - deviations * relative, 0.1))
        brighter = jnp.log1p(deviations * relative)

        def corner(scatter, number):
            own, draw = term.of(place, scatter), jax.tree.map(lambda a: a[number], relation)

            def ln_mean(ln_mass):
                return ln_reference - draw.mean_ln_lum(ln_mass, z)

            t = ln_mean(support)
            nearest = jnp.clip(jnp.argmin(jnp.abs(t)), 1, POINTS - 2)
            slope = jnp.maximum(jnp.abs(t[nearest + 1] - t[nearest - 1]) / (2 * step), _LEAST_SLOPE)
            centre = support[nearest] + jnp.clip(
                t[nearest] / slope * jnp.sign(t[nearest - 1] - t[nearest + 1]), -step, step
            )
            prior_at_centre = prior.interpolate(row, centre)
            lighter, heavier = (jnp.hypot(deviations * scatter, y) / slope for y in (fainter, brighter))
            width = linear_noise.narrowest(place, scatter) / slope

            def peak_of(part):
                # The posterior at the measurement is a lower bound of its peak that no distance of the points can miss.
                values = ln_prior + part(t)
                return values, jnp.maximum(values.max(), prior_at_centre + part(ln_mean(centre)))

            def range_of(values, peak):
                keep = values >= peak - DEPTH
                # The neighbours of the points that are kept, between which and them it falls.
                low = jnp.where(keep, support - step, jnp.inf).min()
                high = jnp.where(keep, support + step, -jnp.inf).max()
                low = jnp.clip(jnp.minimum(low, centre - lighter), support[0], support[-1])
                high = jnp.clip(jnp.maximum(high, centre + heavier), support[0], support[-1])
                ends = values[np.array([0, -1])] > values.max() - AT_THE_EDGE
                return low, high, ends.any()

            found, narrowest = peak_of(own), 2 * np.sqrt(2 * panels.DEPTH) * width
            ln_evidence = logsumexp(found[0])
            if not measured:
                return range_of(*found), range_of(*found), narrowest, jnp.full_like(narrowest, jnp.inf), ln_evidence
            of_near = peak_of(own.near_at)
            weight = jnp.exp(of_near[0] - of_near[0].max())
            weight = weight / weight.sum()
            score = (support - weight @ support) / width
            variance = weight @ score**2
            faint = jnp.exp(ln_prior + own.faint_at(t) - ln_evidence)
            moved = jnp.maximum(jnp.abs(faint @ score), jnp.abs(faint @ (score**2 - variance))) / _NO_CHANGE
            moved = jnp.maximum(moved, faint @ (score < -3 * jnp.sqrt(variance)) / _NO_TAIL)
            return range_of(*found), range_of(*of_near), narrowest, moved, ln_evidence

        # Four corners bound all draws: the posterior moves with the mean, and widens with the scatter. The scatters are
        # the same for all objects, so that the table is interpolated there once. One draw has one corner.
        several = scatter.shape[0] > 1
        scatters = jnp.stack([scatter.min(), scatter.max()]) if several else scatter
        numbers = jnp.stack([jnp.argmin(mean), jnp.argmax(mean)]) if several else np.zeros(1, dtype=int)
        corners = jax.vmap(jax.vmap(corner, (None, 0)), (0, None))(scatters, numbers)
        return jax.tree.map(jnp.ravel, corners)

    def one(ln_lum_obs, sigma, z, ln_weight):
        # Each of them (redshift node, corner).
        of_all, of_near, narrowest, moved, ln_evidence = jax.vmap(at_node, (0, None, 0))(ln_lum_obs, sigma, z)
        counts = shapes = jnp.ones(z.shape, dtype=bool)
        if z.shape[0] == 1:
            near = (moved < 1).all()
        else:
            # Per flux, which for a measurement and for a limit is what K is.
            ln_share = ln_weight[:, None] + (0.0 if halos.conditional else ln_evidence)
            ln_share = ln_share - logsumexp(ln_share, axis=0)
            counts, shapes = (ln_share.max(axis=1) > -least for least in (NODE_COUNTS, NODE_SHAPES))
            # A node of little weight may be one of faint halos alone.
            of_node = jnp.where(counts[:, None], jnp.exp(ln_share) * jnp.minimum(moved, 1e6), 0.0)
            near = (of_node.sum(axis=0) < 1).all()
            # Few kernels, each of which takes long to compile: without the faint part, none goes on beyond the masses.
            near = near & ~(of_near[2] & counts[:, None]).any()
        low, high, edge = (jnp.where(near, b, a) for a, b in zip(of_all, of_near, strict=True))
        counts, shapes = counts[:, None], shapes[:, None]
        return (
            jnp.where(counts, low, jnp.inf).min(),
            jnp.where(counts, high, -jnp.inf).max(),
            jnp.where(shapes, narrowest, jnp.inf).min(),
            (edge & counts).any(),
            near,
        )

    return jax.vmap(one)(halos.ln_lum_obs, halos.sigma, halos.z, halos.ln_z_weight)
