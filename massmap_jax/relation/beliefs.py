"""Priors of a relation's parameters: a distribution, or a fixed number, for each of them."""

from abc import abstractmethod
from collections.abc import Mapping
from functools import partial
from numbers import Real
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float

from massmap_jax.choices import PRESETS, check_scatter
from massmap_jax.errors import MassmapError
from massmap_jax.relation.law import MassLuminosityRelation

FITTED = ("alpha1", "alpha2", "alpha4", "scatter")


class _Stored(eqx.Module):
    """A numpyro distribution with its arrays in the order of their names.

    numpyro's own order is that of a set of strings, which changes with every start of Python: compiled functions of a
    distribution would not be found again on disk.
    """

    data: dict[str, object]
    kind: type = eqx.field(static=True)
    aux: tuple[tuple[str, object], ...] = eqx.field(static=True)

    @classmethod
    def of(cls, belief: dist.Distribution) -> "_Stored":
        """Take a distribution apart: its arrays by name, and what is not an array."""
        kind, own = type(belief), vars(belief)
        data = {name: cls.pack(own.get(name)) for name in kind.gather_pytree_data_fields()}
        return cls(data, kind, tuple((name, own.get(name)) for name in sorted(kind.gather_pytree_aux_fields())))

    @classmethod
    def pack(cls, value):
        """Take a value apart where it is a distribution; leave it as it is where not."""
        return cls.of(value) if isinstance(value, dist.Distribution) else value

    @property
    def distribution(self) -> dist.Distribution:
        """The distribution, put together again."""
        data = {name: v.distribution if isinstance(v, _Stored) else v for name, v in self.data.items()}
        fields, aux = self.kind.gather_pytree_data_fields(), dict(self.aux)
        ordered = tuple(aux[name] for name in self.kind.gather_pytree_aux_fields())
        return self.kind.tree_unflatten(ordered, tuple(data[name] for name in fields))


class Beliefs(eqx.Module):
    """Independent beliefs about named numbers: a distribution for a free one, a number for a fixed one.

    Attributes
    ----------
    stored : dict of str to object
        The beliefs with their arrays by name; `beliefs` gives the distributions back.
    """

    stored: eqx.AbstractVar[dict[str, Any]]

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Names of all numbers, in order."""

    @property
    def beliefs(self) -> dict[str, dist.Distribution | float]:
        """The distribution, or the fixed number, of each parameter by name."""
        return {name: v.distribution if isinstance(v, _Stored) else v for name, v in self.stored.items()}

    @property
    def free(self) -> tuple[str, ...]:
        """Names of the numbers that have a distribution, in the order of `names`."""
        return tuple(p for p in self.names if isinstance(self.stored[p], _Stored))

    def central(self) -> dict[str, float]:
        """Give a value in the middle of the prior for every parameter.

        Returns
        -------
        dict of str to float
            The prior mean of each free parameter (the median, where the distribution has no mean), and the number of
            each fixed one.
        """
        found = self._moments()
        return {p: float(found[p][0]) if p in found else float(self.beliefs[p]) for p in self.names}

    def sd(self) -> dict[str, float]:
        """Give the prior standard deviation of each free parameter.

        Returns
        -------
        dict of str to float
            Standard deviations by name; inf for a distribution that has none.
        """
        return {p: float(np.sqrt(variance)) for p, (_, variance) in self._moments().items()}

    def _moments(self):
        """Mean (or median) and variance of each free parameter, in float64."""
        with jax.enable_x64(True):
            found = _mean_and_variance({p: self.stored[p] for p in self.free})
            for p, (mean, variance) in found.items():
                if not np.isfinite(mean):  # a distribution without a mean (Cauchy) has a median
                    found[p] = self.beliefs[p].icdf(jnp.asarray(0.5)), jnp.nan_to_num(variance, nan=jnp.inf)
            return found

    def log_prob(self, values: Mapping) -> Float[Array, "*draw"]:
        """Evaluate the ln prior density of the free parameters.

        Parameters
        ----------
        values : dict of str to Float[Array, "*draw"]
            Free parameters by name.

        Returns
        -------
        Float[Array, "*draw"]
            Sum of the ln densities; -inf outside the support of a distribution, with a gradient that is not NaN.
        """
        total: Any = 0.0
        beliefs = self.beliefs
        for name in self.free:
            belief, value = beliefs[name], values[name]
            inside = belief.support(value)
            # Outside the support a value inside stands in, so that the gradient there is not NaN.
            safe = jnp.where(inside, value, jax.lax.stop_gradient(belief.mean))
            total = total + jnp.where(inside, belief.log_prob(safe), -jnp.inf)
        return total

    def reported(self, values: Mapping) -> dict[str, Float[Array, "*draw"]]:
        """Give the parameters that a fit reports, of those that it varies: the same ones, where no class says more.

        Parameters
        ----------
        values : dict of str to Float[Array, "*draw"]
            Free parameters by name.

        Returns
        -------
        dict of str to Float[Array, "*draw"]
            Parameters by name.
        """
        return dict(values)

    def density(self, values: Mapping) -> dict[str, np.ndarray]:
        """Evaluate the prior density of each free parameter on its own.

        Parameters
        ----------
        values : dict of str to Float[np.ndarray, "point"]
            For each free parameter, the values at which its density is wanted.

        Returns
        -------
        dict of str to Float[np.ndarray, "point"]
            Densities by name; 0 outside the support.
        """
        with jax.enable_x64(True):
            found = _densities({p: self.stored[p] for p in self.free}, {p: values[p] for p in self.free})
            return {p: np.asarray(v) for p, v in found.items()}

    def sample(self, key, shape=()) -> dict:
        """Draw the free parameters from the prior.

        Parameters
        ----------
        key : Key[Array, ""]
            Random key.
        shape : tuple of int, optional
            Shape of the arrays of draws.

        Returns
        -------
        dict of str to Float[Array, "*draw"]
            Draws by name.
        """
        keys = dict(zip(self.names, jax.random.split(key, len(self.names)), strict=True))
        return _sampled({p: self.stored[p] for p in self.free}, {p: keys[p] for p in self.free}, tuple(shape))


class AroundRelation(Beliefs):
    """Beliefs about a relation and something beside it, which has the pivot and the labels of the relation.

    Attributes
    ----------
    relation_prior : RelationPrior
        Beliefs about the relation alone, or with less beside it.
    """

    relation_prior: eqx.AbstractVar[Any]

    @property
    def alpha3(self) -> float:
        """Pivot mass of the relation [Msun]."""
        return self.relation_prior.alpha3

    @property
    def gamma(self) -> float | None:
        """Exponent of E(z) of the relation; None stands for 0."""
        return self.relation_prior.gamma

    @property
    def labels(self) -> tuple[tuple[str, object], ...]:
        """Labels of the relation."""
        return self.relation_prior.labels


class RelationPrior(Beliefs):
    """Independent priors of the parameters alpha1, alpha2, alpha4 and scatter of a power-law relation.

    A parameter with a distribution is free, and a fit infers it; a parameter with a number is fixed.

    Parameters
    ----------
    beliefs : dict of str to (numpyro.distributions.Distribution or float)
        A scalar numpyro distribution, or a number, for each of alpha1, alpha2, alpha4 and scatter.
    alpha3 : float, optional
        Pivot mass [Msun], without h; it is never fitted.
    labels : dict of str to object, optional
        `evolution`, `omega_m`, `lum_unit`, `mass_definition` and `source` of `MassLuminosityRelation`.
    gamma : float, optional
        Exponent of E(z), beside alpha4; it is never fitted. None stands for 0.

    Attributes
    ----------
    stored : dict of str to object
        The beliefs with their arrays by name; `beliefs` gives the distributions back.

    Raises
    ------
    MassmapError
        A parameter that is missing or not known, one that is neither a scalar distribution nor a finite number, or a
        distribution without width.

    See Also
    --------
    fit_relation : infer the free parameters from a catalogue.
    MassLuminosityRelation : the relation and its parameters.

    Examples
    --------
    A slope and a scatter to be fitted, without evolution:

    >>> import massmap_jax as mm
    >>> import numpyro.distributions as dist
    >>> relation_prior = mm.RelationPrior(
    ...     {
    ...         "alpha1": dist.Normal(1.0, 0.5),
    ...         "alpha2": dist.Normal(0.8, 0.1),
    ...         "alpha4": 0.0,
    ...         "scatter": dist.TruncatedNormal(0.2, 0.05, low=0.0),
    ...     },
    ...     alpha3=1e14,
    ... )
    >>> relation_prior.free
    ('alpha1', 'alpha2', 'scatter')
    >>> print({name: round(sd, 2) for name, sd in relation_prior.sd().items()})
    {'alpha1': 0.5, 'alpha2': 0.1, 'scatter': 0.05}

    The same as text, as the command line takes it:

    >>> same = mm.RelationPrior.parse("alpha1=1:0.5, alpha2=0.8:0.1, alpha4=0, scatter=0.2:0.05, alpha3=1e14")
    >>> same.free == relation_prior.free
    True
    """

    stored: dict[str, _Stored | float]
    alpha3: float
    gamma: float | None
    labels: tuple[tuple[str, object], ...] = eqx.field(static=True)

    def __init__(
        self, beliefs: Mapping, alpha3: float = 1e14, labels: Mapping | None = None, gamma: float | None = None
    ):
        if set(beliefs) != set(FITTED):
            raise MassmapError(
                f"a relation prior is given for {', '.join(sorted(beliefs))}: it needs {', '.join(FITTED)}, each a "
                "numpyro distribution or a number that fixes it"
            )
        self.stored = {name: _Stored.pack(checked(name, beliefs[name])) for name in FITTED}
        self.alpha3 = alpha3
        self.labels = tuple(sorted((labels or {}).items()))
        self.gamma = None if gamma is None else float(gamma)
        for name, sd in self.sd().items():
            if sd == 0:
                raise MassmapError(f"the prior of {name} has no width (standard deviation 0): give a number to fix it")
        if not isinstance(alpha3, Real):
            raise MassmapError(f"the pivot alpha3 of a relation prior is {alpha3!r}: give one mass in Msun")
        MassLuminosityRelation.create(
            **self.central(), alpha3=alpha3, gamma=self.gamma, **dict(self.labels)
        )  # its own checks

    @classmethod
    def preset(cls, name: str, **changes) -> "RelationPrior":
        """Make a prior from the normal distributions of a preset; the scatter's is cut off at 0.

        Parameters
        ----------
        name : str
            Name of the preset; "bigmali2017" is the only one.
        **changes : numpyro.distributions.Distribution or float
            Parameters (alpha1, alpha2, alpha4, scatter) that get another distribution or a fixed number.

        Returns
        -------
        RelationPrior
            The prior, with the pivot mass and the labels of the preset.

        Raises
        ------
        MassmapError
            An unknown preset, or a change that `RelationPrior` refuses.

        Examples
        --------
        >>> import massmap_jax as mm
        >>> relation_prior = mm.RelationPrior.preset("bigmali2017", alpha4=0.0)
        >>> relation_prior.free
        ('alpha1', 'alpha2', 'scatter')
        """
        if name not in PRESETS:
            raise MassmapError(f"relation preset {name!r} is not known: known presets are {', '.join(PRESETS)}")
        preset = PRESETS[name]
        beliefs = {p: dist.Normal(preset.mean[p], preset.sd[p]) for p in FITTED if p != "scatter"}
        # Scatter is not negative; with the width of a preset the cut at 0 is many sd away.
        beliefs["scatter"] = dist.TruncatedNormal(preset.mean["scatter"], preset.sd["scatter"], low=0.0)
        labels = {"lum_unit": preset.lum_unit, "mass_definition": preset.mass_definition, "source": preset.source}
        return cls({**beliefs, **changes}, preset.mean["alpha3"], labels)

    @classmethod
    def of(cls, given: "RelationPrior | str | Mapping") -> "RelationPrior":
        """Make a prior from any of the forms that `fit_relation` takes.

        Parameters
        ----------
        given : RelationPrior, str or dict
            A prior (returned as it is), a preset's name, the text that `parse` takes, or the beliefs about all
            parameters by name, with `alpha3` [Msun] among them where it is not 1e14, and the number `gamma` where it is
            not 0.

        Returns
        -------
        RelationPrior
            The prior.

        Raises
        ------
        MassmapError
            An unknown preset, or beliefs that `RelationPrior` refuses.
        """
        if isinstance(given, cls):
            return given
        if isinstance(given, str):
            return cls.parse(given) if "=" in given else cls.preset(given)
        if not isinstance(given, Mapping):
            raise MassmapError(
                f"relation_prior is a {type(given).__name__}: give what is believed of the parameters, a RelationPrior,"
                " text such as 'alpha1=1:0.5, alpha2=0.8:0.1, alpha4=0, scatter=0.2:0.05, alpha3=1e14', or a dict"
            )
        given = dict(given)
        alpha3, gamma = given.pop("alpha3", 1e14), given.pop("gamma", None)
        return cls(given, alpha3, gamma=gamma)

    @classmethod
    def parse(cls, text: str) -> "RelationPrior":
        """Make a prior from text.

        Parameters
        ----------
        text : str
            NAME=MEAN:SD for a normal distribution (cut off at 0 for the scatter) and NAME=NUMBER for a fixed number,
            separated by commas: "alpha1=10.7:0.5,alpha2=0.36:0.1,alpha4=0,scatter=0.15:0.05,alpha3=2e14". Or a preset's
            name, which may be followed by changes: "bigmali2017,alpha4=0".

        Returns
        -------
        RelationPrior
            The prior.

        Raises
        ------
        MassmapError
            A part of the text that cannot be read, names no parameter or has no width; the message quotes it.
        """
        parts = [part.strip() for part in text.split(",") if part.strip()]
        given = {}
        names = [part for part in parts if "=" not in part]
        for part in parts:
            if part in names:
                continue
            name, _, value = part.partition("=")
            try:
                numbers = [float(number) for number in value.split(":")]
            except ValueError:
                numbers = []
            if len(numbers) not in (1, 2) or not np.isfinite(numbers).all():
                raise MassmapError(f"relation_prior has {part!r}: give NAME=MEAN:SD, or NAME=NUMBER to fix it")
            if name in ("alpha3", "gamma") and len(numbers) == 2:
                what = "the pivot is one mass in Msun" if name == "alpha3" else "the exponent of E(z) is not fitted"
                raise MassmapError(f"relation_prior has {part!r}: {what}, {name}=NUMBER")
            if len(numbers) == 2 and not numbers[1] > 0:
                raise MassmapError(
                    f"relation_prior {part!r} has no width (standard deviation {numbers[1]:g}): give NAME=NUMBER to "
                    "fix a parameter"
                )
            if name == "scatter":
                check_scatter(numbers[0], f"the scatter of relation_prior, {part!r},")
            normal = partial(dist.TruncatedNormal, low=0.0) if name == "scatter" else dist.Normal
            given[name] = numbers[0] if len(numbers) == 1 else normal(*numbers)
        unknown = set(given) - {*FITTED, "alpha3", "gamma"}
        if unknown or len(names) > 1:
            raise MassmapError(
                f"relation_prior {text!r} names {', '.join(sorted(unknown)) or 'two presets'}: known are a preset "
                f"({', '.join(PRESETS)}) and {', '.join(FITTED)}, alpha3, gamma"
            )
        if not names:
            if "alpha3" not in given:
                raise MassmapError(
                    f"relation_prior {text!r} has no pivot: alpha1 is ln L at the mass alpha3, so give alpha3=MASS in "
                    "Msun"
                )
            return cls.of(given)
        if given.keys() & {"alpha3", "gamma"}:
            raise MassmapError(
                "relation_prior moves the pivot alpha3, or gamma, of a preset: give all parameters instead"
            )
        return cls.preset(names[0], **given)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters that a fit can infer."""
        return FITTED

    def relation(self, values: Mapping, log_weight=0.0) -> MassLuminosityRelation:
        """Make the relation, or a batch of relations, with given parameters, without a check of the values.

        Parameters
        ----------
        values : dict of str to Float[Array, "*draw"]
            Parameters by name, all free ones; fixed ones are taken from the prior where they are not given.
        log_weight : float or Float[Array, "*draw"], optional
            ln weight of each draw.

        Returns
        -------
        MassLuminosityRelation
            JAX arrays in JAX's default precision. Nothing is checked, because a sampler may propose impossible values.
        """
        full = {p: jnp.asarray(values[p] if p in values else self.beliefs[p], dtype=float) for p in FITTED}
        full |= {"alpha3": jnp.asarray(self.alpha3, dtype=float), "log_weight": jnp.asarray(log_weight, dtype=float)}
        full |= {} if self.gamma is None else {"gamma": jnp.asarray(self.gamma, dtype=float)}
        shape = jnp.broadcast_shapes(*(v.shape for v in full.values()))
        full = {p: jnp.broadcast_to(v, shape) for p, v in full.items()}
        return MassLuminosityRelation._unchecked(full, dict(self.labels))


def pack(belief):
    """Store a belief so that compiled functions of it are found again: a distribution by its arrays, or a number."""
    return _Stored.pack(belief)


def prior_deviations(values: Mapping, mean: Mapping, sd: Mapping) -> dict[str, float]:
    """Tell how far parameters are from the middle of their prior, in standard deviations of the prior.

    Parameters
    ----------
    values : dict of str to float
        Parameters by name, all free ones.
    mean, sd : dict of str to float
        Middle (`RelationPrior.central`) and standard deviation (`RelationPrior.sd`) of the prior.

    Returns
    -------
    dict of str to float
        |value - mean| / sd of each free parameter.
    """
    return {p: abs(float(values[p]) - mean[p]) / width for p, width in sd.items()}


def checked(name: str, belief):
    """A belief that can be used: a scalar distribution as it is, or a finite number as a float."""
    if isinstance(belief, dist.Distribution):
        if belief.batch_shape or belief.event_shape:
            raise MassmapError(f"the prior of {name} has shape {belief.batch_shape}: give a scalar distribution")
        return belief
    if not (isinstance(belief, Real) and np.isfinite(belief)):
        raise MassmapError(f"the prior of {name} is {belief!r}: give a numpyro distribution or a finite number")
    return float(belief)


@jax.jit
def _densities(beliefs, values):
    found = {}
    for name, stored in beliefs.items():
        belief, value = stored.distribution, values[name]
        inside = belief.support(value)
        found[name] = jnp.where(inside, jnp.exp(belief.log_prob(jnp.where(inside, value, belief.mean))), 0.0)
    return found


@partial(jax.jit, static_argnums=2)
def _sampled(beliefs, keys, shape):
    return {name: belief.distribution.sample(keys[name], shape) for name, belief in beliefs.items()}


@jax.jit
def _mean_and_variance(beliefs):
    found = {name: belief.distribution for name, belief in beliefs.items()}
    return {name: (belief.mean, belief.variance) for name, belief in found.items()}
