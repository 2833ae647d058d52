"""CosmologyBelief: draws of the cosmology as a normal distribution in the ln of the parameters, for a fit.

In ln, because densities, sigma8 and h are above 0, and because Planck's errors are those of products and powers, which
are sums there. A parameter that is the same in all draws, or that the others fix, is no further coordinate.
"""

from collections.abc import Mapping

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from massmap_jax.errors import MassmapError
from massmap_jax.prior.cosmology_draws import FEWEST, PARAMETERS, POSSIBLE, CosmologyDraws

# A parameter varies if its ln has more than this standard deviation, and a direction if it has more than this share of
# the variance: below are rounding errors.
_VARIES, _SHARE = 1e-9, 1e-8
# A wider belief, in ln, is as good as none: 2 standard deviations of sigma8 would reach from 0.3 to 2.2.
_WIDEST = 0.5
# Skewness and excess kurtosis of draws that are said not to be normal. The kurtosis of a uniform distribution is -1.2.
_SKEWED, _TAILED = 0.5, 1.0


class CosmologyBelief(eqx.Module):
    """A normal distribution in ln omega_m, ln sigma8, ln h, ln n_s and ln omega_b, by independent standard scores.

    Attributes
    ----------
    mean : Float[Array, "parameter"]
        Means of the ln, in the order of `PARAMETERS`.
    root : Float[Array, "parameter direction"]
        ln of the parameters = mean + root @ scores, with scores ~ N(0, 1); the covariance is root @ root.T.
    varying : tuple of str
        Names of the parameters that vary.

    See Also
    --------
    massmap_jax.prior.cosmology_draws.CosmologyDraws : The draws that it is made of.
    """

    mean: Float[Array | np.ndarray, " parameter"]
    root: Float[Array | np.ndarray, "parameter direction"]
    varying: tuple[str, ...] = eqx.field(static=True)

    @classmethod
    def of(cls, draws: CosmologyDraws) -> "CosmologyBelief":
        """Take mean and covariance of draws.

        Parameters
        ----------
        draws : CosmologyDraws
            The draws with their weights.

        Returns
        -------
        CosmologyBelief
            The belief.

        Raises
        ------
        MassmapError
            Fewer than 20 effective draws, draws that are all one cosmology, or draws that are so wide that they say
            nothing.
        """
        shares = draws.shares
        effective = 1 / (shares**2).sum()
        if effective < FEWEST - 1e-6:
            raise MassmapError(
                f"a fit takes mean and covariance of the draws of the cosmology, and {effective:.0f} effective draws"
                f" are too few: give at least {FEWEST}"
            )
        ln = np.log(np.stack([draws.values[name] for name in PARAMETERS]))
        mean = ln @ shares
        off = ln - mean[:, None]
        covariance = (off * shares) @ off.T
        sd = np.sqrt(np.diag(covariance))
        varies = sd > _VARIES
        if not varies.any():
            raise MassmapError(
                "all draws are one cosmology, so there is nothing to fit of it: make the mass prior at that cosmology"
                " (MassPrior.from_cosmology) and leave cosmology= out"
            )
        widest = int(np.argmax(sd))
        if sd[widest] > _WIDEST:
            raise MassmapError(
                f"draws of the cosmology leave {PARAMETERS[widest]} as good as free (a standard deviation of"
                f" {sd[widest]:.2f} in its ln): luminosities and redshifts cannot tell it from the relation, and the"
                f" fit would return what was put in; give draws with at most {_WIDEST:g}"
            )
        scale = np.where(varies, sd, 1.0)
        values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
        kept = np.flatnonzero(values > _SHARE * values.max())[::-1]
        root = scale[:, None] * vectors[:, kept] * np.sqrt(values[kept])
        # The sign of an eigenvector is the library's whim: the largest entry is positive.
        root = root * np.sign(root[np.argmax(np.abs(root), axis=0), np.arange(kept.size)])
        names = tuple(name for name, free in zip(PARAMETERS, varies, strict=True) if free)
        return cls(mean, np.where(varies[:, None], root, 0.0), names)

    @property
    def directions(self) -> tuple[str, ...]:
        """Names of the standard scores."""
        return tuple(f"cosmology_{i + 1}" for i in range(self.root.shape[1]))

    @property
    def sd(self) -> dict[str, float]:
        """Standard deviation of the ln of each parameter that varies."""
        found = np.sqrt((np.asarray(self.root) ** 2).sum(axis=1))
        return {name: float(sd) for name, sd in zip(PARAMETERS, found, strict=True) if name in self.varying}

    def values(self, scores: Mapping) -> dict[str, Float[Array, "*draw"]]:
        """Give the cosmology of standard scores.

        Parameters
        ----------
        scores : dict of str to Float[Array, "*draw"]
            Scores by the names of `directions`.

        Returns
        -------
        dict of str to Float[Array, "*draw"]
            omega_m, sigma8, h, n_s and omega_b.
        """
        # As JAX arrays of the precision of each use: constants of a trace keep that of the first.
        mean, root = jnp.asarray(self.mean, dtype=float), jnp.asarray(self.root, dtype=float)
        along = jnp.stack([jnp.asarray(scores[name], dtype=float) for name in self.directions])
        ln = jnp.tensordot(root, along, axes=1)
        return {name: jnp.exp(mean[i] + ln[i]) for i, name in enumerate(PARAMETERS)}

    def possible(self, values: Mapping) -> Array:
        """Tell which cosmologies can be: within what `CosmologyDraws` takes, and baryons below matter.

        Parameters
        ----------
        values : dict of str to Float[Array, "*draw"]
            The cosmologies.

        Returns
        -------
        Bool[Array, "*draw"]
            True for those.
        """
        inside = values["omega_b"] < values["omega_m"]
        for name, (low, high) in POSSIBLE.items():
            inside = inside & (values[name] > low) & (values[name] < high)
        return inside

    def shape_of(self, draws: CosmologyDraws) -> dict[str, dict[str, float]]:
        """Measure how far draws are from the normal distribution that is taken for them.

        Parameters
        ----------
        draws : CosmologyDraws
            The draws that the belief was made of.

        Returns
        -------
        dict of str to dict of str to float
            "skewness" and "kurtosis" (0 for a normal distribution) of the ln of each parameter that varies, where
            either is beyond 0.5 or 1 and beyond what few draws give by chance; empty for draws that look normal.
        """
        shares, sd = draws.shares, self.sd
        number = 1 / (shares**2).sum()
        found = {}
        for name in self.varying:
            score = (np.log(draws.values[name]) - np.asarray(self.mean)[PARAMETERS.index(name)]) / sd[name]
            skewness, kurtosis = float(shares @ score**3), float(shares @ score**4) - 3
            # 5 standard errors of either, for draws of a normal distribution.
            skewed = abs(skewness) > max(_SKEWED, 5 * np.sqrt(6 / number))
            if skewed or abs(kurtosis) > max(_TAILED, 5 * np.sqrt(24 / number)):
                found[name] = {"skewness": skewness, "kurtosis": kurtosis}
        return found
