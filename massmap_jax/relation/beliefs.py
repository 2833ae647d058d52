"""What is believed of a relation before the catalogue is seen: a distribution, or a fixed number, per parameter."""

from collections.abc import Mapping
from functools import partial
from numbers import Real

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from massmap_jax.choices import PRESETS
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
        kind, own = type(belief), vars(belief)
        data = {name: cls.pack(own.get(name)) for name in kind.gather_pytree_data_fields()}
        return cls(data, kind, tuple((name, own.get(name)) for name in sorted(kind.gather_pytree_aux_fields())))

    @classmethod
    def pack(cls, value):
        return cls.of(value) if isinstance(value, dist.Distribution) else value

    @property
    def distribution(self) -> dist.Distribution:
        data = {name: v.distribution if isinstance(v, _Stored) else v for name, v in self.data.items()}
        fields, aux = self.kind.gather_pytree_data_fields(), dict(self.aux)
        aux = tuple(aux[name] for name in self.kind.gather_pytree_aux_fields())
        return self.kind.tree_unflatten(aux, tuple(data[name] for name in fields))


class RelationPrior(eqx.Module):
    """Independent beliefs about alpha1, alpha2, alpha4 and scatter.

    Attributes
    ----------
    beliefs : for each of alpha1, alpha2, alpha4, scatter a numpyro distribution (free) or a number (fixed); kept in
        `stored` as arrays by name.
    alpha3 : pivot mass [Msun], fixed.
    labels : `evolution`, `omega_m`, `lum_unit`, `mass_definition`, `source` of `MassLuminosityRelation`, as pairs.

    Errors: `MassmapError` on a missing parameter, on something that is neither, and on a distribution of no width.
    """

    stored: dict[str, _Stored | float]
    alpha3: float
    labels: tuple[tuple[str, object], ...] = eqx.field(static=True)

    def __init__(self, beliefs: Mapping, alpha3: float = 1e14, labels: Mapping | None = None):
        if set(beliefs) != set(FITTED):
            raise MassmapError(
                f"a relation prior is given for {', '.join(sorted(beliefs))}: it needs {', '.join(FITTED)}, each a "
                "numpyro distribution or a number that fixes it"
            )
        self.stored = {name: _Stored.pack(_checked(name, beliefs[name])) for name in FITTED}
        self.alpha3 = alpha3
        self.labels = tuple(sorted((labels or {}).items()))
        for name, sd in self.sd().items():
            if sd == 0:
                raise MassmapError(f"the prior of {name} has no width (standard deviation 0): give a number to fix it")
        if not isinstance(alpha3, Real):
            raise MassmapError(f"the pivot alpha3 of a relation prior is {alpha3!r}: give one mass in Msun")
        MassLuminosityRelation.create(**self.central(), alpha3=alpha3, **dict(self.labels))  # its own checks

    @classmethod
    def preset(cls, name: str, **changes) -> "RelationPrior":
        """The normals of the preset `name`; `changes` replaces single parameters by a distribution or a number.

        `MassmapError` where there is no such preset.
        """
        if name not in PRESETS:
            raise MassmapError(f"relation preset {name!r} is not known: known presets are {', '.join(PRESETS)}")
        preset = PRESETS[name]
        beliefs = {p: dist.Normal(preset.mean[p], preset.sd[p]) for p in FITTED if p != "scatter"}
        # Scatter is not negative; with a preset's width the cut is far off.
        beliefs["scatter"] = dist.TruncatedNormal(preset.mean["scatter"], preset.sd["scatter"], low=0.0)
        labels = {"lum_unit": preset.lum_unit, "mass_definition": preset.mass_definition, "source": preset.source}
        return cls({**beliefs, **changes}, preset.mean["alpha3"], labels)

    @classmethod
    def of(cls, given: "RelationPrior | str | Mapping") -> "RelationPrior":
        """A RelationPrior from `given`: itself, a preset's name, or a mapping with all parameters (and `alpha3`)."""
        if isinstance(given, cls):
            return given
        if isinstance(given, str):
            return cls.preset(given)
        given = dict(given)
        alpha3 = given.pop("alpha3", 1e14)
        return cls(given, alpha3)

    @classmethod
    def parse(cls, text: str) -> "RelationPrior":
        """From text: a preset's name, or "alpha1=10.7:0.5,alpha2=0.36:0.1,alpha4=0,scatter=0.15:0.05,alpha3=2e14": a
        normal of mean:sd (cut at 0 for the scatter), or a fixed number. A preset's name first, then
        changes, is allowed too.

        `MassmapError` says which part of the text cannot be read, names no parameter, or has no width.
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
            if name == "alpha3" and len(numbers) == 2:
                raise MassmapError(f"relation_prior has {part!r}: the pivot is one mass in Msun, alpha3=NUMBER")
            if len(numbers) == 2 and not numbers[1] > 0:
                raise MassmapError(
                    f"relation_prior {part!r} has no width (standard deviation {numbers[1]:g}): give NAME=NUMBER to "
                    "fix a parameter"
                )
            normal = partial(dist.TruncatedNormal, low=0.0) if name == "scatter" else dist.Normal
            given[name] = numbers[0] if len(numbers) == 1 else normal(*numbers)
        unknown = set(given) - {*FITTED, "alpha3"}
        if unknown or len(names) > 1:
            raise MassmapError(
                f"relation_prior {text!r} names {', '.join(sorted(unknown)) or 'two presets'}: known are a preset "
                f"({', '.join(PRESETS)}) and {', '.join(FITTED)}, alpha3"
            )
        if not names:
            return cls.of(given)
        if "alpha3" in given:
            raise MassmapError("relation_prior moves the pivot alpha3 of a preset: give all parameters instead")
        return cls.preset(names[0], **given)

    @property
    def beliefs(self) -> dict[str, dist.Distribution | float]:
        """The distribution, or fixed number, of each parameter."""
        return {name: v.distribution if isinstance(v, _Stored) else v for name, v in self.stored.items()}

    @property
    def free(self) -> tuple[str, ...]:
        """The parameters that have a distribution, in the order alpha1, alpha2, alpha4, scatter."""
        return tuple(p for p in FITTED if isinstance(self.stored[p], _Stored))

    def central(self) -> dict[str, float]:
        """A value of every parameter in the middle of its prior."""
        found = self._moments()
        return {p: float(found[p][0]) if p in found else float(self.beliefs[p]) for p in FITTED}

    def sd(self) -> dict[str, float]:
        """Prior standard deviation of the free parameters (inf where there is none)."""
        return {p: float(np.sqrt(variance)) for p, (_, variance) in self._moments().items()}

    def _moments(self):
        with jax.enable_x64(True):
            found = _mean_and_variance({p: self.stored[p] for p in self.free})
            for p, (mean, variance) in found.items():
                if not np.isfinite(mean):  # a distribution without a mean (Cauchy) has a median
                    found[p] = self.beliefs[p].icdf(jnp.asarray(0.5)), jnp.nan_to_num(variance, nan=jnp.inf)
            return found

    def relation(self, values: Mapping, log_weight=0.0) -> MassLuminosityRelation:
        """The relation (or batch, `log_weight` its weights) with these values; JAX arrays pass through unchecked."""
        full = {p: jnp.asarray(values[p] if p in values else self.beliefs[p], dtype=float) for p in FITTED}
        full |= {"alpha3": jnp.asarray(self.alpha3, dtype=float), "log_weight": jnp.asarray(log_weight, dtype=float)}
        shape = jnp.broadcast_shapes(*(v.shape for v in full.values()))
        full = {p: jnp.broadcast_to(v, shape) for p, v in full.items()}
        return MassLuminosityRelation._unchecked(full, dict(self.labels))

    def log_prob(self, values: Mapping):
        """Sum of the ln prior densities at `values` of the free parameters; -inf outside a distribution's support."""
        total = 0.0
        beliefs = self.beliefs
        for name in self.free:
            belief, value = beliefs[name], values[name]
            inside = belief.support(value)
            # A value in the support stands in, so that the gradient outside is no NaN.
            safe = jnp.where(inside, value, jax.lax.stop_gradient(belief.mean))
            total = total + jnp.where(inside, belief.log_prob(safe), -jnp.inf)
        return total

    def density(self, values: Mapping) -> dict[str, np.ndarray]:
        """Prior density of each free parameter at values {name: (point,)}; 0 outside its support."""
        with jax.enable_x64(True):
            found = _densities({p: self.stored[p] for p in self.free}, {p: values[p] for p in self.free})
            return {p: np.asarray(v) for p, v in found.items()}

    def sample(self, key, shape=()) -> dict:
        """Draws of the free parameters by `key`, arrays of this shape."""
        keys = jax.random.split(key, len(FITTED))
        return {p: self.beliefs[p].sample(k, shape) for p, k in zip(FITTED, keys, strict=True) if p in self.free}


def _checked(name: str, belief):
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


@jax.jit
def _mean_and_variance(beliefs):
    found = {name: belief.distribution for name, belief in beliefs.items()}
    return {name: (belief.mean, belief.variance) for name, belief in found.items()}
