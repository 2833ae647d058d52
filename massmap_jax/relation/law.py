"""The mass-luminosity relation P(L | M, alpha, S, z): lognormal about a power law in mass and redshift.

ln mu_L = alpha1 + alpha2 ln(M / alpha3) + alpha4 ln(1 + z), scatter S in ln L. What is known of the relation is a
batch of draws of the same class with log weights, so one draw and a posterior are used alike.
"""

from abc import abstractmethod
from typing import Literal, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from massmap_jax.choices import PRESETS, RelationPreset
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.terms import GaussianTerm

PARAMETERS = ("alpha1", "alpha2", "alpha3", "alpha4", "scatter")


class Relation(eqx.Module):
    """What the package asks of a relation: the base of one's own.

    A subclass has arrays as fields, `log_weight` among them, and the two methods below, written for one draw in
    `jax.numpy`. Masses and maps take it as they take a `MassLuminosityRelation`, but for more time, as ln L need be
    neither linear in ln M nor of constant scatter. `fit_relation` does not fit it.

    Attributes
    ----------
    log_weight : ln weight of each draw, () or (draw,). A batch carries that axis first on every array.
    """

    log_weight: eqx.AbstractVar[Float[Array, "*draw"]]

    @abstractmethod
    def mean_ln_lum(self, ln_mass, z):
        """Mean of ln L at ln_mass [ln Msun] and z; arrays broadcast, one draw."""

    @abstractmethod
    def scatter_ln_lum(self, ln_mass, z):
        """Standard deviation of ln L at ln_mass [ln Msun] and z; arrays broadcast, one draw."""

    @property
    def is_batch(self) -> bool:
        """Whether there is an axis of draws."""
        return jnp.ndim(self.log_weight) == 1

    @property
    def num_draws(self) -> int:
        """Draws of the batch; 1 for one relation."""
        return self.log_weight.shape[0] if self.is_batch else 1

    def as_batch(self) -> Self:
        """The same relation with a draw axis."""
        return self if self.is_batch else jax.tree.map(lambda a: np.asarray(a)[None], self)

    def draw(self, index) -> Self:
        """Draw(s) `index` of the batch: one relation for an integer, a batch for an array of integers."""
        return jax.tree.map(lambda a: a[index], self.as_batch())

    @property
    def shares(self) -> Float[np.ndarray, "draw"]:
        """Normalised weight of each draw, in float64."""
        log_weight = np.asarray(self.as_batch().log_weight, dtype=np.float64)
        peak = log_weight.max()
        return np.exp(log_weight - (peak + np.log(np.exp(log_weight - peak).sum())))

    @property
    def effective_draws(self) -> float:
        """Effective number of draws under the weights (Kish)."""
        return float(1 / (self.shares**2).sum())

    def pick(self, key: Array, number: int) -> Self:
        """Pick draws at random by their weights, stratified: each is used as evenly as its weight allows.

        Parameters
        ----------
        key : jax.Array
            Random key.
        number : int
            Draws to pick; one draw may be picked several times.

        Returns
        -------
        Self
            A batch of `number` draws, to be used with equal weights.
        """
        cumulative = np.cumsum(self.shares)
        places = (np.arange(number) + np.asarray(jax.random.uniform(key, (number,)), dtype=np.float64)) / number
        index = np.searchsorted(cumulative, places * cumulative[-1], side="right")
        return self.draw(np.minimum(index, cumulative.size - 1))

    def thinned(self, most: int) -> Self:
        """Keep at most `most` draws, evenly spread over the batch (over the chains, where it is of chains).

        Parameters
        ----------
        most : int
            Draws to keep.

        Returns
        -------
        Self
            All draws with their weights where there are no more; else `most` draws of equal weight.
        """
        batch = self.as_batch()
        if batch.num_draws <= most:
            return batch
        log_weight = np.asarray(batch.log_weight, dtype=np.float64)
        if np.ptp(log_weight) == 0:
            return batch.draw(np.linspace(0, batch.num_draws - 1, most).astype(int))
        summed = np.cumsum(batch.shares)
        chosen = np.searchsorted(summed, summed[-1] * (np.arange(most) + 0.5) / most)
        picked = batch.draw(np.minimum(chosen, batch.num_draws - 1))
        return eqx.tree_at(lambda r: r.log_weight, picked, np.zeros(most))


class MassLuminosityRelation(Relation):
    """One power-law relation, or a batch of draws of it.

    Attributes
    ----------
    alpha1 : ln L at M = alpha3, z = 0. alpha2 : slope d ln L / d ln M (not 0). alpha3 : pivot mass [Msun].
    alpha4 : exponent of the evolution. scatter : S, standard deviation of ln L at fixed mass (>= 0).
    log_weight : ln weight of each draw; all arrays are scalars or (draw,).
    lum_unit, mass_definition, source : labels: of the luminosity, of the masses, and where the relation is from.
    evolution : "power" for (1+z)^alpha4, "E" for E(z)^alpha4 with E(z) = sqrt(omega_m (1+z)^3 + 1 - omega_m).

    Errors: `MassmapError` from the constructors `create`, `from_draws`, `preset`, `identity` on S < 0, alpha2 = 0,
    alpha3 <= 0 or NaN.
    """

    alpha1: Float[Array, "*draw"]
    alpha2: Float[Array, "*draw"]
    alpha3: Float[Array, "*draw"]
    alpha4: Float[Array, "*draw"]
    scatter: Float[Array, "*draw"]
    log_weight: Float[Array, "*draw"]
    evolution: Literal["power", "E"] = eqx.field(static=True, default="power")
    omega_m: float = eqx.field(static=True, default=0.3)
    lum_unit: str = eqx.field(static=True, default="")
    mass_definition: str = eqx.field(static=True, default="unknown")
    source: str = eqx.field(static=True, default="given by the user")

    @classmethod
    def create(cls, *, alpha1, alpha2, alpha4=0.0, scatter, alpha3=1e14, log_weight=0.0, **labels):
        """One relation (scalars) or a batch (arrays of one length), checked; host float64 arrays.

        Parameters
        ----------
        alpha1, alpha2, alpha3, alpha4, scatter, log_weight : as the attributes; scalars or (draw,).
        labels : `evolution`, `omega_m`, `lum_unit`, `mass_definition`, `source`.

        Raises
        ------
        MassmapError : values that are not numbers of one length, S < 0, alpha2 = 0, alpha3 <= 0, NaN.
        """
        given = {
            "alpha1": alpha1,
            "alpha2": alpha2,
            "alpha3": alpha3,
            "alpha4": alpha4,
            "scatter": scatter,
            "log_weight": log_weight,
        }
        try:
            given = {name: np.asarray(value, dtype=np.float64) for name, value in given.items()}
            arrays = dict(zip(given, np.broadcast_arrays(*given.values()), strict=True))
        except ValueError as error:
            raise MassmapError(f"relation parameters are not numbers of one length: {error}") from None
        if arrays["alpha1"].ndim > 1 or arrays["alpha1"].size == 0:
            raise MassmapError(
                f"relation parameters have shape {arrays['alpha1'].shape}: give scalars or (draw,) arrays"
            )
        evolution = labels.get("evolution", "power")
        if evolution not in ("power", "E"):
            raise MassmapError(f"relation evolution {evolution!r} is not known: give 'power' or 'E'")
        _check(arrays)
        return cls(**{name: value.copy() for name, value in arrays.items()}, **labels)

    from_draws = create

    @classmethod
    def preset(cls, name: str) -> "MassLuminosityRelation":
        """The central values of the preset `name`; `MassmapError` where there is none."""
        preset = _find_preset(name)
        return cls.create(**preset.mean, **_labels(preset))

    @classmethod
    def preset_draws(cls, name: str, key: Array, num_draws: int) -> "MassLuminosityRelation":
        """`num_draws` equally weighted draws, by `key`, from the independent normals of the preset `name`.

        `MassmapError` where there is no such preset, or fewer than 1 draw is asked for.
        """
        if num_draws < 1:
            raise MassmapError(f"number of relation draws is {num_draws}: give at least 1")
        preset = _find_preset(name)
        normals = np.asarray(jax.random.normal(key, (len(PARAMETERS), num_draws)), dtype=np.float64)
        draws = {p: preset.mean[p] + preset.sd[p] * normals[i] for i, p in enumerate(PARAMETERS)}
        return cls.create(**draws, **_labels(preset))

    @classmethod
    def identity(cls, *, pivot: float = 1.0, unit: str = "Msun", mass_definition: str = "unknown"):
        """For a catalogue whose "luminosity" is itself a mass, in units of `pivot` Msun: L = M / pivot, no scatter.

        unit : what the luminosity is called. mass_definition : of these masses.
        """
        return cls.create(
            alpha1=0.0,
            alpha2=1.0,
            alpha3=pivot,
            alpha4=0.0,
            scatter=0.0,
            lum_unit=unit,
            mass_definition=mass_definition,
            source="identity: the observable is a mass",
        )

    def ln_evolution(self, z):
        """alpha4 ln(1+z), or alpha4 ln E(z); z and the draws broadcast."""
        if self.evolution == "E":
            return 0.5 * self.alpha4 * jnp.log(self.omega_m * (1 + z) ** 3 + 1 - self.omega_m)
        return self.alpha4 * jnp.log1p(z)

    def mean_ln_lum(self, ln_mass, z):
        """Mean of ln L at mass exp(ln_mass) Msun and redshift z; one draw, arrays broadcast."""
        return self.alpha1 + self.alpha2 * (ln_mass - jnp.log(self.alpha3)) + self.ln_evolution(z)

    def scatter_ln_lum(self, ln_mass, z):
        """Standard deviation of ln L at ln_mass [ln Msun] and z, a scalar (constant here)."""
        return self.scatter

    def sample(self, key: Array, ln_mass, z) -> Float[Array, "..."]:
        """One ln L for each ln_mass [ln Msun] and z, which broadcast, from one relation, by `key`.

        `MassmapError` for a batch of draws.
        """
        if self.is_batch:
            raise MassmapError("sample needs one relation, and this is a batch of draws: take relation.draw(i) first")
        mean = self.mean_ln_lum(jnp.asarray(ln_mass), jnp.asarray(z))
        return mean + self.scatter * jax.random.normal(key, mean.shape, mean.dtype)

    def data_term(self, ln_lum_obs, sigma_ln_lum, z) -> GaussianTerm:
        """The likelihood of ln M for one object: the L integral of two lognormals is a Gaussian in ln M.

        ln_lum_obs, sigma_ln_lum : ln of the observed luminosity and its standard deviation. z : redshift.
        They and the draws broadcast.
        """
        slope = jnp.abs(self.alpha2)
        width = jnp.sqrt(self.scatter**2 + sigma_ln_lum**2) / slope
        centre = jnp.log(self.alpha3) + (ln_lum_obs - self.alpha1 - self.ln_evolution(z)) / self.alpha2
        return GaussianTerm.normalised(centre, width, -ln_lum_obs - jnp.log(slope))


def _labels(preset: RelationPreset) -> dict[str, str]:
    return {"lum_unit": preset.lum_unit, "mass_definition": preset.mass_definition, "source": preset.source}


def _find_preset(name: str) -> RelationPreset:
    if name not in PRESETS:
        raise MassmapError(f"relation preset {name!r} is not known: known presets are {', '.join(PRESETS)}")
    return PRESETS[name]


def _check(arrays: dict[str, np.ndarray]) -> None:
    rules = {
        "alpha1": (np.isfinite, "must be finite"),
        "alpha2": (lambda a: np.isfinite(a) & (a != 0), "must be finite and not 0"),
        "alpha3": (lambda a: np.isfinite(a) & (a > 0), "must be a positive mass in Msun"),
        "alpha4": (np.isfinite, "must be finite"),
        "scatter": (lambda a: np.isfinite(a) & (a >= 0), "must be finite and at least 0"),
        "log_weight": (lambda a: (a < np.inf) & ~np.isnan(a), "must not be NaN or +inf"),
    }
    for name, (good, rule) in rules.items():
        values = np.atleast_1d(arrays[name])
        bad = ~good(values)
        if bad.any():
            first = int(np.argmax(bad))
            raise MassmapError(
                f"relation parameter {name} {rule}: {bad.sum()} of {bad.size} draws are not, first draw {first} = "
                f"{values[first]:g}; remove these draws or correct the file"
            )
    if np.all(np.isneginf(arrays["log_weight"])):
        raise MassmapError("relation log_weight is -inf for every draw: at least one draw needs a weight")
