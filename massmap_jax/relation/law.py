"""The mass-luminosity relation P(L | M, alpha, S, z): lognormal about a power law in mass and redshift.

    ln mu_L = alpha1 + alpha2 ln(M / alpha3) + alpha4 ln(1 + z),   scatter S in ln L

One object of the class is one relation, or a batch of draws of the relation's parameters with log weights. The draws
describe the posterior of the relation, or a belief about it, so one relation and a posterior are used alike.
"""

import warnings
from abc import abstractmethod
from typing import Any, Literal, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from massmap_jax.argument_kinds import check_kinds
from massmap_jax.catalogue.quantities import in_unit, plain_numbers
from massmap_jax.choices import PRESETS, RelationPreset
from massmap_jax.errors import MassmapError
from massmap_jax.keys import stratified_picks
from massmap_jax.likelihood.terms import GaussianTerm

_PIVOT_IF_NOT_GIVEN = 1e14
PARAMETERS = ("alpha1", "alpha2", "alpha3", "alpha4", "scatter")
# Labels of a relation; nothing is converted by them.
LABELS = ("evolution", "omega_m", "lum_unit", "mass_definition", "source")


class Relation(eqx.Module):
    """The interface of a relation between mass and luminosity: subclass it to use a relation of your own.

    A subclass

    1. declares its parameters as fields that hold arrays, `log_weight` among them (0 for one relation), and
    2. defines `mean_ln_lum` and `scatter_ln_lum`, written with `jax.numpy` for one draw: `self.alpha1`, say, is a
       scalar there, even where the object holds a batch.

    `mass_posterior` and `mass_map` take such a relation as they take a `MassLuminosityRelation`. They need more time
    for it, because ln L need be neither linear in ln M nor of constant scatter. `fit_relation` does not fit it.

    Attributes
    ----------
    log_weight : Float[Array, "*draw"]
        ln weight of each draw: a scalar for one relation, one number per draw for a batch. In a batch every other
        array has the same first axis of draws.

    See Also
    --------
    MassLuminosityRelation : the power law that the package brings along.

    Examples
    --------
    A relation that bends at high masses, with more scatter at low masses:

    >>> import jax
    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> import massmap_jax as mm
    >>> class Bent(mm.Relation):
    ...     offset: jax.Array
    ...     bend: jax.Array
    ...     log_weight: jax.Array
    ...
    ...     def mean_ln_lum(self, ln_mass, z):
    ...         x = ln_mass - jnp.log(1e14)
    ...         return self.offset + 0.8 * x - self.bend * x**2 + jnp.log1p(z)
    ...
    ...     def scatter_ln_lum(self, ln_mass, z):
    ...         return 0.2 * jnp.exp(-0.1 * (ln_mass - jnp.log(1e14)))
    >>> one = Bent(offset=np.array(1.0), bend=np.array(0.02), log_weight=np.array(0.0))
    >>> batch = Bent(offset=np.array([0.9, 1.0, 1.1]), bend=np.full(3, 0.02), log_weight=np.zeros(3))
    >>> one.num_draws, batch.num_draws
    (1, 3)
    >>> print(f"{one.mean_ln_lum(np.log(1e15), 0.0):.3f}")
    2.736

    It goes wherever a relation goes:

    >>> catalogue = mm.HaloCatalogue.from_arrays(luminosity=[3.0, 10.0], redshift=[0.2, 0.4], sigma_ln_luminosity=0.1)
    >>> posterior = mm.mass_posterior(catalogue, mm.MassPrior.default(), batch, relation_from="fixed_draws")
    >>> posterior.mean.shape
    (2,)
    """

    log_weight: eqx.AbstractVar[Float[Array, "*draw"]]

    @abstractmethod
    def mean_ln_lum(self, ln_mass, z) -> Float[Array, "..."]:
        """Evaluate the mean of ln L at given masses and redshifts, for one draw.

        Parameters
        ----------
        ln_mass : float or Float[Array, "..."]
            ln of the mass [ln Msun].
        z : float or Float[Array, "..."]
            Redshift; it broadcasts with `ln_mass`.

        Returns
        -------
        Float[Array, "..."]
            Mean of ln L, where L is in the unit of the relation.
        """

    @abstractmethod
    def scatter_ln_lum(self, ln_mass, z) -> Float[Array, "..."]:
        """Evaluate the intrinsic scatter of ln L at given masses and redshifts, for one draw.

        Parameters
        ----------
        ln_mass : float or Float[Array, "..."]
            ln of the mass [ln Msun].
        z : float or Float[Array, "..."]
            Redshift; it broadcasts with `ln_mass`.

        Returns
        -------
        Float[Array, "..."]
            Standard deviation of ln L at fixed mass [ln L].
        """

    def sample(self, key: Array, ln_mass, z) -> Float[Array, "..."]:
        """Draw one luminosity for each mass and redshift, from one relation.

        Parameters
        ----------
        key : Key[Array, ""]
            Random key.
        ln_mass : float or array_like, (halo,)
            ln of the mass [ln Msun].
        z : float or array_like, (halo,)
            Redshift; it broadcasts with `ln_mass`.

        Returns
        -------
        Float[Array, "..."]
            ln L, without measurement error, in the shape that `ln_mass` and `z` broadcast to.

        Raises
        ------
        MassmapError
            The relation is a batch of draws.
        """
        if self.is_batch:
            raise MassmapError("sample needs one relation, and this is a batch of draws: take relation.draw(i) first")
        ln_mass, z = jnp.asarray(ln_mass), jnp.asarray(z)
        mean = self.mean_ln_lum(ln_mass, z)
        return mean + self.scatter_ln_lum(ln_mass, z) * jax.random.normal(key, mean.shape, mean.dtype)

    @property
    def is_batch(self) -> bool:
        """Whether the arrays have an axis of draws."""
        return jnp.ndim(self.log_weight) == 1

    @property
    def num_draws(self) -> int:
        """Number of draws in the batch; 1 for one relation."""
        return self.log_weight.shape[0] if self.is_batch else 1

    def as_batch(self) -> Self:
        """Give the relation an axis of draws, where it has none.

        Returns
        -------
        Self
            The batch itself, or a batch of one draw.
        """
        return self if self.is_batch else jax.tree.map(lambda a: np.asarray(a)[None], self)

    def draw(self, index) -> Self:
        """Take one draw, or several, out of the batch.

        Parameters
        ----------
        index : int, slice or array_like, (draw,)
            Which draws: an integer gives one relation; a slice, integers or a boolean mask give a batch.

        Returns
        -------
        Self
            The draws, with their log weights as they are.
        """
        return jax.tree.map(lambda a: a[index], self.as_batch())

    @property
    def shares(self) -> Float[np.ndarray, "draw"]:
        """Normalised weight of each draw, (draw,), in float64."""
        log_weight = np.asarray(self.as_batch().log_weight, dtype=np.float64)
        peak = log_weight.max()
        return np.exp(log_weight - (peak + np.log(np.exp(log_weight - peak).sum())))

    @property
    def effective_draws(self) -> float:
        """Effective number of draws under their weights: 1 / sum of the squared shares (Kish)."""
        return float(1 / (self.shares**2).sum())

    def pick(self, key: Array, number: int) -> Self:
        """Pick draws at random by their weights, stratified: each is used as evenly as its weight allows.

        Parameters
        ----------
        key : Key[Array, ""]
            Random key.
        number : int
            Draws to pick; one draw may be picked several times.

        Returns
        -------
        Self
            A batch of `number` draws, to be used with equal weights.
        """
        return self.draw(stratified_picks(key, self.shares, number))

    def thinned(self, most: int) -> Self:
        """Keep at most `most` draws, evenly spread over the batch.

        Where the draws are those of several chains, one after the other, every chain keeps its part.

        Parameters
        ----------
        most : int
            Draws to keep.

        Returns
        -------
        Self
            All draws with their weights, where there are no more than `most`; else `most` draws of equal weight.
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
    """One power-law relation between mass and luminosity, or a batch of draws of its parameters.

    The constructor checks the values and brings all parameters to one shape. They are kept as host float64 arrays, of
    shape () for one relation and (draw,) for a batch. Inside `jax.jit`, `jax.vmap` and `jax.grad` traced values are
    kept as JAX arrays and cannot be checked.

    Parameters
    ----------
    alpha1 : float or array_like, (draw,)
        ln L at M = alpha3 and z = 0.
    alpha2 : float or array_like, (draw,)
        Slope d ln L / d ln M; not 0.
    alpha4 : float or array_like, (draw,), optional
        Exponent of the evolution with redshift; default 0, no evolution.
    scatter : float or array_like, (draw,)
        Intrinsic scatter S: standard deviation of ln L at fixed mass [ln L]; at least 0.
    alpha3 : float or array_like, (draw,), optional
        Pivot mass [Msun], without h; above 0. Where it is not given 1e14 is taken, and a warning says so.
    log_weight : float or array_like, (draw,), optional
        ln weight of each draw; the default 0 gives all draws the same weight.
    gamma : float or array_like, (draw,), optional
        Exponent of E(z), beside alpha4: 2/3, 2, 7/3, ... of self-similar relations. None stands for 0.
    evolution : {"power", "E"}, optional
        What alpha4 is the exponent of: (1+z), or E(z) = sqrt(omega_m (1+z)^3 + 1 - omega_m).
    omega_m : float, optional
        Matter density of E(z), for a flat universe.
    lum_unit : str, optional
        Unit of L, a label: nothing is converted.
    mass_definition : str, optional
        Definition of M, such as "200m" or "500c", a label: nothing is converted.
    source : str, optional
        Where the relation is from, a label for outputs.

    Raises
    ------
    MassmapError
        Values that are not numbers of one length, a scatter below 0, alpha2 = 0, alpha3 <= 0, NaN, no draw with a
        weight, or an unknown `evolution`.

    See Also
    --------
    Relation : base class of a relation of your own, and methods of every batch of draws.
    fit_relation : infer the parameters from a catalogue.
    RelationPrior : a prior of the parameters, for a fit.

    Notes
    -----
    P(L | M, z) is lognormal with

        ln mu_L = alpha1 + alpha2 ln(M / alpha3) + alpha4 ln(1 + z) + gamma ln E(z)

    (ln E(z) in place of ln(1 + z) for `evolution="E"`) and standard deviation S in ln L. All logarithms are natural:
    of a relation published in log10 and dex, multiply the normalisation and the scatter by ln 10 = 2.3026, and leave
    the slopes alpha2 and alpha4 as they are.

    Examples
    --------
    One relation, its mean luminosity, and the likelihood of ln M that one observed luminosity gives:

    >>> import numpy as np
    >>> import massmap_jax as mm
    >>> relation = mm.MassLuminosityRelation(alpha1=1.0, alpha2=0.8, scatter=0.2, alpha3=1e14, mass_definition="200m")
    >>> print(f"{relation.mean_ln_lum(np.log(3e14), 0.3):.3f}")
    1.879
    >>> term = relation.data_term(ln_lum_obs=1.879, sigma_ln_lum=0.1, z=0.3)
    >>> print(f"{np.exp(term.centre):.2g} Msun, {term.width:.3f} in ln M")
    3e+14 Msun, 0.280 in ln M

    A batch of draws, where a number stands for all draws:

    >>> draws = mm.MassLuminosityRelation(alpha1=[0.9, 1.0, 1.1], alpha2=0.8, alpha3=1e14, scatter=0.2)
    >>> draws.num_draws, draws.scatter.shape
    (3, (3,))
    >>> print(draws.draw(2).alpha1)
    1.1
    """

    alpha1: Float[Array, "*draw"]
    alpha2: Float[Array, "*draw"]
    alpha3: Float[Array, "*draw"]
    alpha4: Float[Array, "*draw"]
    scatter: Float[Array, "*draw"]
    log_weight: Float[Array, "*draw"]
    gamma: Float[Array, "*draw"] | None
    evolution: Literal["power", "E"] = eqx.field(static=True)
    omega_m: float = eqx.field(static=True)
    lum_unit: str = eqx.field(static=True)
    mass_definition: str = eqx.field(static=True)
    source: str = eqx.field(static=True)

    def __init__(
        self,
        *,
        alpha1,
        alpha2,
        alpha4=0.0,
        scatter,
        alpha3=None,
        log_weight=0.0,
        gamma=None,
        evolution: Literal["power", "E"] = "power",
        omega_m: float = 0.3,
        lum_unit: str = "",
        mass_definition: str = "unknown",
        source: str = "given by the user",
    ):
        if alpha3 is None:
            warnings.warn(
                f"alpha3, the pivot mass at which ln L is alpha1, is not given: {_PIVOT_IF_NOT_GIVEN:g} Msun is taken",
                stacklevel=4,  # two of equinox
            )
            alpha3 = _PIVOT_IF_NOT_GIVEN
        if evolution not in ("power", "E"):
            raise MassmapError(f"relation evolution {evolution!r} is not known: give 'power' or 'E'")
        given = {
            "alpha1": alpha1,
            "alpha2": alpha2,
            "alpha3": alpha3,
            "alpha4": alpha4,
            "scatter": scatter,
            "log_weight": log_weight,
        }
        # None and not 0: relations without it carry no array, and compile to what they did.
        given |= {} if gamma is None else {"gamma": gamma}
        self.gamma = None
        for name, value in _same_shape(given).items():
            setattr(self, name, value)
        self.evolution = evolution
        self.omega_m = omega_m
        self.lum_unit = lum_unit
        self.mass_definition = mass_definition
        self.source = source

    @classmethod
    def create(cls, *, alpha1, alpha2, alpha4=0.0, scatter, alpha3=None, log_weight=0.0, gamma=None, **labels) -> Self:
        """Make a relation; the same as calling the class.

        Parameters
        ----------
        alpha1, alpha2 : float or array_like, (draw,)
            ln L at M = alpha3 and z = 0, and slope d ln L / d ln M.
        alpha4 : float or array_like, (draw,), optional
            Exponent of the evolution with redshift.
        scatter : float or array_like, (draw,)
            Standard deviation of ln L at fixed mass [ln L].
        alpha3 : float or array_like, (draw,), optional
            Pivot mass [Msun], as in the class.
        log_weight : float or array_like, (draw,), optional
            ln weight of each draw.
        gamma : float or array_like, (draw,), optional
            Exponent of E(z), beside alpha4.
        **labels : str or float
            `evolution`, `omega_m`, `lum_unit`, `mass_definition` and `source` of the class.

        Returns
        -------
        MassLuminosityRelation
            One relation where all parameters are scalars, else a batch.

        Raises
        ------
        MassmapError
            As the class does.
        """
        return cls(
            alpha1=alpha1,
            alpha2=alpha2,
            alpha4=alpha4,
            scatter=scatter,
            alpha3=alpha3,
            log_weight=log_weight,
            gamma=gamma,
            **labels,
        )

    @classmethod
    def from_draws(
        cls, *, alpha1, alpha2, alpha4=0.0, scatter, alpha3=None, log_weight=0.0, gamma=None, **labels
    ) -> Self:
        """Make a batch from draws of the relation's parameters, such as the columns of an MCMC chain.

        Parameters
        ----------
        alpha1, alpha2 : array_like, (draw,)
            ln L at M = alpha3 and z = 0, and slope d ln L / d ln M, of each draw. Here and below a number instead of
            an array is shared by all draws.
        alpha4 : array_like, (draw,), optional
            Exponent of the evolution with redshift.
        scatter : array_like, (draw,)
            Standard deviation of ln L at fixed mass [ln L].
        alpha3 : float or array_like, (draw,), optional
            Pivot mass [Msun]; the same for all draws, as a rule.
        log_weight : array_like, (draw,), optional
            ln weight of each draw, up to a constant; the default 0 is right for the draws of an MCMC chain.
        gamma : float or array_like, (draw,), optional
            Exponent of E(z), beside alpha4.
        **labels : str or float
            `evolution`, `omega_m`, `lum_unit`, `mass_definition` and `source` of the class.

        Returns
        -------
        MassLuminosityRelation
            A batch of draws.

        Raises
        ------
        MassmapError
            As the class does; the message says how many draws are bad and which one is the first.

        See Also
        --------
        preset_draws : draws of a published relation.

        Examples
        --------
        >>> import numpy as np
        >>> import massmap_jax as mm
        >>> draws = mm.MassLuminosityRelation.from_draws(
        ...     alpha1=[0.9, 1.0, 1.1], alpha2=[0.79, 0.80, 0.81], alpha3=1e14, scatter=0.2,
        ...     log_weight=np.log([1.0, 2.0, 1.0]),
        ... )
        >>> print(draws.shares.round(3))
        [0.25 0.5  0.25]
        >>> print(round(draws.effective_draws, 2))
        2.67
        """
        return cls(
            alpha1=alpha1,
            alpha2=alpha2,
            alpha4=alpha4,
            scatter=scatter,
            alpha3=alpha3,
            log_weight=log_weight,
            gamma=gamma,
            **labels,
        )

    @classmethod
    def _unchecked(cls, parameters: dict[str, Array | np.ndarray], labels: dict) -> Self:
        """Make a relation that holds these arrays as they are: a sampler may propose values that the checks refuse."""
        gamma = 0.0 if "gamma" in parameters else None
        stand_in = cls(alpha1=0.0, alpha2=1.0, alpha3=1e14, scatter=0.0, gamma=gamma, **labels)
        return eqx.tree_at(lambda r: [getattr(r, p) for p in parameters], stand_in, list(parameters.values()))

    @classmethod
    def preset(cls, name: str) -> "MassLuminosityRelation":
        """Make the relation with the central values of a preset.

        Parameters
        ----------
        name : str
            Name of the preset; "bigmali2017" is the only one.

        Returns
        -------
        MassLuminosityRelation
            One relation.

        Raises
        ------
        MassmapError
            An unknown preset.

        Notes
        -----
        "bigmali2017" holds the values that the BigMaLI code of 2017 used, natural logarithms and a luminosity unit of
        its own. They are very probably figures in log10 and dex that were read as natural logarithms: use the preset
        with mocks, not as a measured relation.

        Examples
        --------
        >>> import massmap_jax as mm
        >>> relation = mm.MassLuminosityRelation.preset("bigmali2017")
        >>> print(relation.alpha2, relation.scatter)
        0.359 0.155
        """
        preset = _find_preset(name)
        return cls(**preset.mean, **_labels(preset))

    @classmethod
    def preset_draws(cls, name: str, key: Array, num_draws: int) -> "MassLuminosityRelation":
        """Draw relations from the independent normal distributions of a preset.

        Parameters
        ----------
        name : str
            Name of the preset, as in `preset`.
        key : Key[Array, ""]
            Random key.
        num_draws : int
            Number of draws.

        Returns
        -------
        MassLuminosityRelation
            A batch of `num_draws` draws of equal weight.

        Raises
        ------
        MassmapError
            An unknown preset, or fewer than 1 draw.

        Examples
        --------
        >>> import jax
        >>> import massmap_jax as mm
        >>> draws = mm.MassLuminosityRelation.preset_draws("bigmali2017", jax.random.key(0), 100)
        >>> draws.num_draws, draws.is_batch
        (100, True)
        """
        check_kinds("preset_draws", key=key)
        if num_draws < 1:
            raise MassmapError(f"number of relation draws is {num_draws}: give at least 1")
        preset = _find_preset(name)
        normals = np.asarray(jax.random.normal(key, (len(PARAMETERS), num_draws)), dtype=np.float64)
        draws = {p: preset.mean[p] + preset.sd[p] * normals[i] for i, p in enumerate(PARAMETERS)}
        return cls(**draws, **_labels(preset))

    @classmethod
    def identity(
        cls, *, pivot: float = 1.0, unit: str = "Msun", mass_definition: str = "unknown"
    ) -> "MassLuminosityRelation":
        """Make the relation of a catalogue whose "luminosity" is itself a mass: L = M / pivot, without scatter.

        Parameters
        ----------
        pivot : float, optional
            Unit of the catalogue's masses [Msun]: 1e14 for masses given in 10^14 Msun.
        unit : str, optional
            Label of that unit.
        mass_definition : str, optional
            Definition of these masses, such as "500c".

        Returns
        -------
        MassLuminosityRelation
            One relation.

        Examples
        --------
        >>> import massmap_jax as mm
        >>> relation = mm.MassLuminosityRelation.identity(pivot=1e14, unit="1e14 Msun", mass_definition="500c")
        >>> term = relation.data_term(ln_lum_obs=0.0, sigma_ln_lum=0.2, z=0.5)
        >>> print(f"{term.centre:.3f} {term.width:.1f}")
        32.236 0.2
        """
        return cls(
            alpha1=0.0,
            alpha2=1.0,
            alpha3=pivot,
            alpha4=0.0,
            scatter=0.0,
            lum_unit=unit,
            mass_definition=mass_definition,
            source="identity: the observable is a mass",
        )

    def columns(self) -> dict[str, Float[Array | np.ndarray, "*draw"]]:
        """Give the parameters and the ln weights by name.

        Returns
        -------
        dict of str to Float[Array, "*draw"]
            alpha1, alpha2, alpha3 [Msun], alpha4, scatter and log_weight, and gamma where there is one.
        """
        names = (*PARAMETERS, "log_weight", *(() if self.gamma is None else ("gamma",)))
        return {name: getattr(self, name) for name in names}

    def parameter(self, name: str) -> Float[Array | np.ndarray, "*draw"]:
        """Give a parameter by its name.

        Parameters
        ----------
        name : str
            "alpha1", "alpha2", "alpha3", "alpha4", "scatter", "gamma" or "log_weight".

        Returns
        -------
        Float[Array, "*draw"]
            Its values.
        """
        return getattr(self, name)

    def ln_redshift_variable(self, z) -> Float[Array, "..."]:
        """Evaluate what alpha4 multiplies.

        Parameters
        ----------
        z : float or Float[Array, "..."]
            Redshift.

        Returns
        -------
        Float[Array, "..."]
            ln(1+z), or ln E(z) for `evolution="E"`.
        """
        return self._ln_e(z) if self.evolution == "E" else jnp.log1p(z)

    def ln_evolution(self, z) -> Float[Array, "..."]:
        """Evaluate the evolution of ln L with redshift.

        Parameters
        ----------
        z : float or Float[Array, "..."]
            Redshift; it broadcasts with the draws.

        Returns
        -------
        Float[Array, "..."]
            alpha4 ln(1+z), or alpha4 ln E(z) for `evolution="E"`; plus gamma ln E(z).
        """
        evolution = self.alpha4 * self.ln_redshift_variable(z)
        return evolution if self.gamma is None else evolution + self.gamma * self._ln_e(z)

    def _ln_e(self, z):
        return 0.5 * jnp.log(self.omega_m * (1 + z) ** 3 + 1 - self.omega_m)

    def mean_ln_lum(self, ln_mass, z) -> Float[Array, "..."]:
        """Evaluate the mean of ln L at given masses and redshifts, for one draw.

        Parameters
        ----------
        ln_mass : float or Float[Array, "..."]
            ln of the mass [ln Msun].
        z : float or Float[Array, "..."]
            Redshift; it broadcasts with `ln_mass`.

        Returns
        -------
        Float[Array, "..."]
            alpha1 + alpha2 (ln_mass - ln alpha3) + `ln_evolution(z)`.
        """
        return self.alpha1 + self.alpha2 * (ln_mass - jnp.log(self.alpha3)) + self.ln_evolution(z)

    def scatter_ln_lum(self, ln_mass, z) -> Float[Array, "*draw"]:
        """Give the intrinsic scatter of ln L, which does not depend on mass and redshift here.

        Parameters
        ----------
        ln_mass : float or Float[Array, "..."]
            ln of the mass [ln Msun]; not used.
        z : float or Float[Array, "..."]
            Redshift; not used.

        Returns
        -------
        Float[Array, "*draw"]
            Standard deviation of ln L at fixed mass [ln L].
        """
        return self.scatter

    def data_term(self, ln_lum_obs, sigma_ln_lum, z) -> GaussianTerm:
        """Give the likelihood of ln M of one object, with the true luminosity integrated out.

        Parameters
        ----------
        ln_lum_obs : float or Float[Array, "..."]
            ln of the observed luminosity, in the unit of the relation.
        sigma_ln_lum : float or Float[Array, "..."]
            Standard deviation of its lognormal measurement error [ln L].
        z : float or Float[Array, "..."]
            Redshift. The three arguments and the draws broadcast.

        Returns
        -------
        GaussianTerm
            ln of the likelihood as a Gaussian in ln M.

        Notes
        -----
        The integral over L of the two lognormals P(L_obs | L) and P(L | M, z) is exact:

            centre = ln alpha3 + [ln L_obs - alpha1 - alpha4 ln(1 + z)] / alpha2
            width = sqrt(S^2 + sigma^2) / abs(alpha2)
        """
        slope = jnp.abs(self.alpha2)
        width = jnp.sqrt(self.scatter**2 + sigma_ln_lum**2) / slope
        centre = jnp.log(self.alpha3) + (ln_lum_obs - self.alpha1 - self.ln_evolution(z)) / self.alpha2
        return GaussianTerm.normalised(centre, width, -ln_lum_obs - jnp.log(slope))


def _labels(preset: RelationPreset) -> dict[str, Any]:
    return {"lum_unit": preset.lum_unit, "mass_definition": preset.mass_definition, "source": preset.source}


def _find_preset(name: str) -> RelationPreset:
    if name not in PRESETS:
        raise MassmapError(f"relation preset {name!r} is not known: known presets are {', '.join(PRESETS)}")
    return PRESETS[name]


def _same_shape(given: dict) -> dict:
    """Broadcast and check the parameters: host float64 arrays, or JAX arrays where one of them is traced.

    Inside jit, vmap and grad a traced value cannot be looked at: the values that are numbers are checked, traced ones
    are not.
    """
    given = {n: in_unit(v, "Msun" if n == "alpha3" else "", f"relation parameter {n}") for n, v in given.items()}
    given = {n: plain_numbers(v, f"relation parameter {n}") if np.ma.isMaskedArray(v) else v for n, v in given.items()}
    traced = {n for n, v in given.items() if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(v))}
    try:
        known = {n: np.asarray(v, dtype=np.float64) for n, v in given.items() if n not in traced}
        if traced:
            arrays = {n: jnp.asarray(v, dtype=float) for n, v in given.items()}
            arrays = dict(zip(arrays, jnp.broadcast_arrays(*arrays.values()), strict=True))
        else:
            known = dict(zip(known, (a.copy() for a in np.broadcast_arrays(*known.values())), strict=True))
            arrays = known
    except (TypeError, ValueError) as error:
        raise MassmapError(f"relation parameters are not numbers of one length: {error}") from None
    if arrays["alpha1"].ndim > 1 or arrays["alpha1"].size == 0:
        raise MassmapError(f"relation parameters have shape {arrays['alpha1'].shape}: give scalars or (draw,) arrays")
    _check(known)
    return arrays


def _check(arrays: dict[str, np.ndarray]) -> None:
    """Refuse values that no relation has; for those parameters that are given."""
    rules = {
        "alpha1": (np.isfinite, "must be finite"),
        "alpha2": (lambda a: np.isfinite(a) & (a != 0), "must be finite and not 0"),
        "alpha3": (lambda a: np.isfinite(a) & (a > 0), "must be a positive mass in Msun"),
        "alpha4": (np.isfinite, "must be finite"),
        "scatter": (lambda a: np.isfinite(a) & (a >= 0), "must be finite and at least 0"),
        "gamma": (np.isfinite, "must be finite"),
        "log_weight": (lambda a: (a < np.inf) & ~np.isnan(a), "must not be NaN or +inf"),
    }
    # Numbers in another form than the one that is meant; from 5 to 40 are logarithms of masses, to either base.
    forms = {
        "alpha1": (lambda a: np.abs(a) < 1e4, "must be the natural logarithm of an observable, 101.3 and not 1e44"),
        "alpha3": (lambda a: (a <= 5) | (a >= 40), "must be a mass in Msun, 3e14 and not 14.5"),
        "scatter": (lambda a: a < 10, "must be below 10, in ln of the observable, 0.25 and not 25 for 25 %"),
    }
    for name, (good, rule) in [*rules.items(), *forms.items()]:
        values = np.atleast_1d(arrays.get(name, np.zeros(0)))
        bad = ~good(values)
        if bad.any():
            first = int(np.argmax(bad))
            raise MassmapError(
                f"relation parameter {name} {rule}: {bad.sum()} of {bad.size} draws are not, first draw {first} = "
                f"{values[first]:g}; remove these draws or correct the file"
            )
    if "log_weight" in arrays and np.all(np.isneginf(arrays["log_weight"])):
        raise MassmapError("relation log_weight is -inf for every draw: at least one draw needs a weight")
