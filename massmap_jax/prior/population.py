"""Populations: p(ln M | z) of the objects of a catalogue, with parameters that are fitted jointly with the relation.

A mass function describes every halo of the universe; a catalogue holds those that someone found. Its own distribution
of masses is the mass function times a completeness, or another form. `Population` says which form, with beliefs about
its parameters; `PopulationDraws` holds values of the parameters, one set or a batch of draws.

Every form depends on d = (ln M - centre(z)) / width, where the centre drifts with redshift:

    centre(z) = centre + drift_ln_z ln(z / z_p) + drift_ln_1z ln[(1 + z) / (1 + z_p)]
"""

import hashlib
from collections.abc import Mapping
from functools import partial, reduce
from typing import Any, Literal, cast, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from massmap_jax.errors import MassmapError
from massmap_jax.prior import panels
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.prior.normal_cdf import log_ndtr

Kind = Literal["fixed", "hmf_completeness", "gaussian", "skew_normal", "mixture"]
_HALF_LN_2PI = 0.5 * np.log(2 * np.pi)
# Redshifts, equal in ln z, at which the integral of mass function x completeness is computed; cubic in between.
LATTICE = 64
_LEAST_Z, _MOST_Z = 1e-3, 10.0
# Mass nodes of that integral are thinned to this step in ln M: the integrand is smooth on a scale of the width, so a
# sum over equal steps is exact to rounding where the width is at least as large.
_NORM_STEP = 0.1
# Panels of the evidence of one object: errors of ln Z below 2e-4, for widths from 0.05 on (tests measure it).
_PANELS = 8
# Newton steps to the peak of such an integrand, and from outside to the two ends of its range.
_PEAK_STEPS, _END_STEPS = 6, 4


class Population(eqx.Module):
    """A form of the distribution of masses in a catalogue, with beliefs about its parameters.

    Make one with `hmf_completeness`, `gaussian`, `skew_normal`, `mixture` or `fixed`.

    Attributes
    ----------
    kind : str
        Name of the form.
    components : int
        Number of components of a mixture, else 1.
    drift : bool
        Whether the centre drifts with redshift.
    given : dict of str to object
        Beliefs that replace the default ones: a numpyro distribution, or a number that fixes the parameter.

    See Also
    --------
    fit_relation : Fit the relation and the population jointly, with measured masses of some objects.
    PopulationDraws : Values of the parameters.

    Examples
    --------
    >>> import massmap_jax as mm
    >>> mm.Population.hmf_completeness().parameters
    ('centre', 'drift_ln_z', 'drift_ln_1z', 'width')
    >>> mm.Population.mixture(2, drift=False).parameters
    ('centre', 'width', 'offset_2', 'width_2', 'logit_2')
    """

    kind: Kind = eqx.field(static=True)
    components: int = eqx.field(static=True, default=1)
    drift: bool = eqx.field(static=True, default=True)
    given: tuple[tuple[str, object], ...] = ()

    def __check_init__(self):
        if self.kind not in get_args(Kind):
            raise MassmapError(f"population {self.kind!r} is not known: give one of {', '.join(get_args(Kind))}")
        if not 1 <= self.components <= 9:
            raise MassmapError(f"a mixture of {self.components} components: give 2 to 9")
        unknown = [name for name, _ in self.given if name not in self.parameters]
        if unknown:
            raise MassmapError(
                f"the population {self.kind} has no parameter {unknown[0]!r}: it has"
                f" {', '.join(self.parameters) or 'none'}"
            )

    @classmethod
    def hmf_completeness(cls, *, drift: bool = True, beliefs: Mapping | None = None) -> "Population":
        """Take the mass function times a completeness, Phi[(ln M - centre(z)) / width].

        Parameters
        ----------
        drift : bool, optional
            Whether the centre drifts with redshift.
        beliefs : dict of str to object, optional
            numpyro distributions, or fixed numbers, of some parameters; `centre` is in ln Msun.

        Returns
        -------
        Population
            The default of a fit with measured masses.
        """
        return cls("hmf_completeness", 1, drift, _items(beliefs))

    @classmethod
    def gaussian(cls, *, drift: bool = True, beliefs: Mapping | None = None) -> "Population":
        """Take a normal distribution in ln M.

        Parameters
        ----------
        drift : bool, optional
            Whether the centre drifts with redshift.
        beliefs : dict of str to object, optional
            numpyro distributions, or fixed numbers, of some parameters.

        Returns
        -------
        Population
            The form.
        """
        return cls("gaussian", 1, drift, _items(beliefs))

    @classmethod
    def skew_normal(cls, *, drift: bool = True, beliefs: Mapping | None = None) -> "Population":
        """Take a skew normal distribution in ln M, 2 N(d) Phi(skewness d) / width.

        Parameters
        ----------
        drift : bool, optional
            Whether the centre drifts with redshift.
        beliefs : dict of str to object, optional
            numpyro distributions, or fixed numbers, of some parameters.

        Returns
        -------
        Population
            The form.
        """
        return cls("skew_normal", 1, drift, _items(beliefs))

    @classmethod
    def mixture(cls, components: int = 2, *, drift: bool = True, beliefs: Mapping | None = None) -> "Population":
        """Take a sum of normal distributions in ln M, which drift together.

        Parameters
        ----------
        components : int, optional
            How many.
        drift : bool, optional
            Whether the centres drift with redshift.
        beliefs : dict of str to object, optional
            numpyro distributions, or fixed numbers, of some parameters. `offset_2` is the second centre minus the
            first, `logit_2` the ln of the second share over the first.

        Returns
        -------
        Population
            The form.

        Raises
        ------
        MassmapError
            For fewer than 2 components.
        """
        if components < 2:
            raise MassmapError(f"a mixture of {components} components: give 2 to 9, or Population.gaussian()")
        return cls("mixture", components, drift, _items(beliefs))

    @classmethod
    def fixed(cls) -> "Population":
        """Take the mass prior as it is: every halo has the same chance to be in the catalogue.

        Returns
        -------
        Population
            The form, without parameters.
        """
        return cls("fixed", 1, False)

    @classmethod
    def parse(cls, text: str) -> "Population":
        """Read a population as the command line gives it.

        Parameters
        ----------
        text : str
            The name of a form; "mixture:3" for three components; ",drift=no" for a centre that does not drift.

        Returns
        -------
        Population
            The form.

        Raises
        ------
        MassmapError
            For text that names no form.
        """
        name, *options = [part.strip() for part in text.split(",")]
        name, _, number = name.partition(":")
        known = {"drift=no": False, "drift=yes": True}
        if (
            name not in get_args(Kind)
            or any(o not in known for o in options)
            or (number and not (name == "mixture" and number.isdigit()))
        ):
            raise MassmapError(
                f"population {text!r} is not known: give one of {', '.join(get_args(Kind))}, mixture:K for K"
                " components, and after a comma drift=no for a centre that does not drift with redshift"
            )
        if name == "fixed":
            return cls.fixed()
        components = int(number or 2) if name == "mixture" else 1
        return cls(cast(Kind, name), components, known[options[-1]] if options else True)

    @property
    def name(self) -> str:
        """The form as `parse` reads it; beliefs are not in it."""
        number = f":{self.components}" if self.kind == "mixture" else ""
        return self.kind + number + ("" if self.drift or self.kind == "fixed" else ",drift=no")

    @property
    def is_normal(self) -> bool:
        """Whether centre and width are those of the masses themselves, of all or of the first component."""
        return self.kind in ("gaussian", "skew_normal", "mixture")

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters, in order."""
        if self.kind == "fixed":
            return ()
        names = ["centre", *(("drift_ln_z", "drift_ln_1z") if self.drift else ()), "width"]
        names += ["skewness"] if self.kind == "skew_normal" else []
        for i in range(2, self.components + 1):
            names += [f"offset_{i}", f"width_{i}", f"logit_{i}"]
        return tuple(names)

    def beliefs(self, ln_mass: float) -> dict:
        """Give the belief about each parameter.

        Parameters
        ----------
        ln_mass : float
            Where the masses of the catalogue are, roughly [ln Msun]; it sets the middle of the belief about `centre`.

        Returns
        -------
        dict of str to object
            A numpyro distribution or a number by name, weakly informative by default.
        """
        # NumPyro is slow to import, and masses under a fit that is at hand do not need it.
        import numpyro.distributions as dist

        default = {
            "centre": dist.Normal(ln_mass, 2.0),
            "drift_ln_z": dist.Normal(0.0, 2.0),
            "drift_ln_1z": dist.Normal(0.0, 2.0),
            "width": dist.LogNormal(np.log(0.5), 0.7),
            "skewness": dist.Normal(0.0, 4.0),
        }
        for i in range(2, self.components + 1):
            default |= {f"offset_{i}": dist.Normal(0.0, 1.0), f"width_{i}": dist.LogNormal(np.log(0.5), 0.7)}
            default |= {f"logit_{i}": dist.Normal(0.0, 1.5)}
        return {p: dict(self.given).get(p, default[p]) for p in self.parameters}

    def start(self, ln_mass: float) -> dict[str, float]:
        """Give values to start a search from.

        Parameters
        ----------
        ln_mass : float
            As in `beliefs` [ln Msun].

        Returns
        -------
        dict of str to float
            Values by name. A search that starts at skewness 0, or with equal components, would stay there.
        """
        start = {"centre": ln_mass, "drift_ln_z": 0.0, "drift_ln_1z": 0.0, "width": 0.5, "skewness": 3.0}
        for i in range(2, self.components + 1):
            start |= {f"offset_{i}": 0.5 * (-1) ** i * (i // 2), f"width_{i}": 0.5, f"logit_{i}": 0.0}
        fixed = {name: value for name, value in self.given if isinstance(value, int | float)}
        return {p: start[p] for p in self.parameters} | fixed

    def describe(self) -> str:
        """Describe the form in a few words.

        Returns
        -------
        str
            The description.
        """
        told = {
            "fixed": "the mass prior as it is",
            "hmf_completeness": "mass function times completeness",
            "gaussian": "normal in ln M",
            "skew_normal": "skew normal in ln M",
            "mixture": f"sum of {self.components} normals in ln M",
        }[self.kind]
        return told + (", drifting with redshift" if self.drift else "")


class PopulationDraws(eqx.Module):
    """Values of a population's parameters: one set, or a batch of draws.

    Attributes
    ----------
    values : dict of str to Float[Array, "*draw"]
        Parameters by name, as `Population.parameters` lists them, and "pivot_z", the redshift z_p.
    ln_norm : Float[Array, "*draw node"] or None
        ln of the integral of mass function x completeness at `lattice` redshifts equal in ln z; None where the form
        is normalised by itself.
    lattice : Float[Array, "*draw 2"]
        ln z of the first of these redshifts, and the step.
    kind : str
        Name of the form.
    components : int
        Number of components.
    base : str
        Fingerprint of the mass prior that they were fitted with; they hold with no other.

    See Also
    --------
    Population : The form and the beliefs.
    """

    values: dict[str, Float[Array | np.ndarray, "*draw"]]
    ln_norm: Float[Array | np.ndarray, "*draw node"] | None
    lattice: Float[Array | np.ndarray, "*draw 2"]
    kind: Kind = eqx.field(static=True)
    components: int = eqx.field(static=True, default=1)
    base: str = eqx.field(static=True, default="")

    @classmethod
    def of(cls, population: Population, values: Mapping, pivot_z, base: "Lattice") -> "PopulationDraws":
        """Make one set of values of a population, with the integral that normalises it.

        Parameters
        ----------
        population : Population
            The form.
        values : dict of str to Float[Array, ""]
            Its parameters.
        pivot_z : Float[Array, ""]
            The redshift z_p that `centre` belongs to.
        base : Lattice
            The mass prior at the redshifts of the lattice.

        Returns
        -------
        PopulationDraws
            The values. Under `jax.vmap`, a batch.
        """
        shape = jnp.shape(pivot_z)
        values = {p: jnp.asarray(values[p], dtype=float) for p in population.parameters}
        values["pivot_z"] = jnp.asarray(pivot_z, dtype=float)
        axis = jnp.broadcast_to(jnp.asarray(base.axis, dtype=float), (*shape, 2))
        plain = cls(values, None, axis, population.kind, population.components, base.fingerprint)
        if population.kind != "hmf_completeness":
            return plain
        factor = jax.vmap(plain.ln_factor, (None, 0))(base.ln_mass, base.redshift)
        ln_norm = jax.nn.logsumexp(base.ln_density_step + factor, axis=1)
        return eqx.tree_at(lambda p: p.ln_norm, plain, ln_norm, is_leaf=lambda x: x is None)

    @property
    def cosmologies(self) -> dict[str, Float[Array | np.ndarray, "*draw"]]:
        """The parameters of the cosmology by name, where each draw has its own; else none."""
        return {}

    def centre_at(self, z) -> Float[Array, "..."]:
        """Give the centre at a redshift.

        Parameters
        ----------
        z : Float[Array, "..."]
            Redshifts; below 0.001 they count as 0.001.

        Returns
        -------
        Float[Array, "..."]
            ln M of the centre [ln Msun], for one set of values.
        """
        v: dict[str, Any] = self.values
        centre = v["centre"]
        if "drift_ln_z" not in v:
            return centre
        z = jnp.maximum(z, _LEAST_Z)
        return (
            centre
            + v["drift_ln_z"] * jnp.log(z / v["pivot_z"])
            + v["drift_ln_1z"] * (jnp.log1p(z) - jnp.log1p(v["pivot_z"]))
        )

    def scales(self, z) -> list[tuple[Any, Any]]:
        """Give centre and width of everything that makes the density vary faster than the mass function does.

        Parameters
        ----------
        z : Float[Array, ""]
            One redshift.

        Returns
        -------
        list of tuple of (Float[Array, ""], Float[Array, ""])
            ln M [ln Msun] and width in ln M of the completeness, or of each normal, for one set of values.
        """
        if self.kind == "fixed":
            return []
        centre = self.centre_at(z)
        if self.kind == "mixture":
            return [(centre + offset, width) for offset, width, _ in self._components()]
        return [(centre, self.values["width"])]

    def _components(self):
        """Offset, width and ln share of each component of a mixture."""
        v, numbers = self.values, range(2, self.components + 1)
        logits = jnp.stack([jnp.zeros_like(v["width"]), *(v[f"logit_{i}"] for i in numbers)])
        offsets = [jnp.zeros_like(v["width"]), *(v[f"offset_{i}"] for i in numbers)]
        return zip(offsets, [v["width"], *(v[f"width_{i}"] for i in numbers)], jax.nn.log_softmax(logits), strict=True)

    def ln_factor(self, ln_mass, z) -> Float[Array, "..."]:
        """Evaluate what stands beside the mass function, or instead of it, for one set of values.

        Parameters
        ----------
        ln_mass : Float[Array, "..."]
            ln of the masses [ln Msun].
        z : Float[Array, ""]
            One redshift.

        Returns
        -------
        Float[Array, "..."]
            ln of the completeness, or of the density per ln M.
        """
        if self.kind == "fixed":
            return jnp.zeros_like(ln_mass)
        centre, width = self.centre_at(z), self.values["width"]
        d = (ln_mass - centre) / width
        if self.kind == "hmf_completeness":
            return log_ndtr(d)
        if self.kind == "mixture":
            parts = [share + _ln_normal(ln_mass - centre - offset, w**2) for offset, w, share in self._components()]
            return reduce(jnp.logaddexp, parts)
        normal = _ln_normal(ln_mass - centre, width**2)
        if self.kind == "gaussian":
            return normal
        return normal + np.log(2.0) + log_ndtr(self.values["skewness"] * d)

    def ln_norm_at(self, z) -> Float[Array, ""]:
        """Interpolate the ln of the integral of mass function x completeness, for one set of values.

        Parameters
        ----------
        z : Float[Array, ""]
            One redshift.

        Returns
        -------
        Float[Array, ""]
            ln of the integral; 0 for a form that is normalised by itself.
        """
        if self.ln_norm is None:
            return jnp.zeros_like(z)
        start, step = self.lattice[0], self.lattice[1]
        place = (jnp.log(jnp.maximum(z, _LEAST_Z)) - start) / step
        return panels.cubic_at(jnp.asarray(self.ln_norm), place)

    def ln_density(self, ln_base, ln_mass, z) -> Float[Array, "..."]:
        """Evaluate ln p(ln M | z), for one set of values.

        Parameters
        ----------
        ln_base : Float[Array, "..."]
            ln of the mass prior's density at these masses and this redshift.
        ln_mass : Float[Array, "..."]
            ln of the masses [ln Msun].
        z : Float[Array, ""]
            One redshift.

        Returns
        -------
        Float[Array, "..."]
            ln of the normalised density per ln M.
        """
        if self.kind == "fixed":
            return ln_base
        factor = self.ln_factor(ln_mass, z)
        return ln_base + factor - self.ln_norm_at(z) if self.kind == "hmf_completeness" else factor

    def _bounds(self, left, right, z):
        """Lower and upper bound of `ln_factor` in blocks of masses that follow one another."""
        if self.kind in ("fixed", "hmf_completeness"):
            # It rises with mass, and a block begins where the one before it ends.
            ends = self.ln_factor(jnp.append(left, right[-1]), z)
            return ends[:-1], ends[1:]
        centre, width = self.centre_at(z), self.values["width"]

        def normal(middle, w):
            top = (jnp.clip(middle, left, right) - middle) / w
            low = jnp.maximum(jnp.abs(left - middle), jnp.abs(right - middle)) / w
            return -0.5 * low**2 - jnp.log(w) - _HALF_LN_2PI, -0.5 * top**2 - jnp.log(w) - _HALF_LN_2PI

        if self.kind == "mixture":
            pairs = [(share, *normal(centre + offset, w)) for offset, w, share in self._components()]
            return tuple(jax.nn.logsumexp(jnp.stack([p[0] + p[i] for p in pairs]), axis=0) for i in (1, 2))
        lowest, highest = normal(centre, width)
        if self.kind == "skew_normal":
            ends = log_ndtr(self.values["skewness"] * (jnp.stack([left, right]) - centre) / width)
            lowest, highest = lowest + np.log(2.0) + ends.min(axis=0), highest + np.log(2.0) + ends.max(axis=0)
        return lowest, highest

    def posterior_range(self, prior: MassPrior, z, centre, width):
        """Find the interval of ln M that holds population x Gaussian, for one set of values.

        Parameters
        ----------
        prior : MassPrior
            The mass prior.
        z : Float[Array, ""]
            One redshift.
        centre, width : Float[Array, ""]
            Mean and standard deviation of the Gaussian [ln Msun].

        Returns
        -------
        low, high : Float[Array, ""]
            Ends of the interval [ln Msun], inside the mass nodes.
        narrowest : Float[Array, ""]
            Length of the interval, or that which one normal of the population's own width would have, if shorter.
        """
        return self._range_in(prior.blocks_at(z), z, centre, width)

    def _range_in(self, blocks: panels.Blocks, z, centre, width):
        """The same, with the mass function between these bounds."""
        lowest, highest = self._bounds(blocks.left, blocks.right, z)
        if self.kind in ("fixed", "hmf_completeness"):
            lowest, highest = blocks.lowest + lowest, blocks.highest + highest
        blocks = panels.Blocks(lowest, highest, blocks.left, blocks.right)
        low, high, narrowest = panels.posterior_range(blocks, centre[None], width[None])
        if self.kind != "fixed":
            scales = [w for name, w in self.values.items() if name.startswith("width")]
            narrowest = jnp.minimum(narrowest, 2 * np.sqrt(2 * panels.DEPTH) * jnp.stack(scales).min())
        return low, high, narrowest

    def range_of_draws(self, prior: MassPrior, z, centre, width):
        """Find the interval of ln M that holds population x Gaussian under every draw of a batch.

        Parameters
        ----------
        prior : MassPrior
            The mass prior.
        z : Float[Array, ""]
            One redshift.
        centre, width : Float[Array, "draw"]
            Mean and standard deviation of each draw's Gaussian [ln Msun].

        Returns
        -------
        low, high : Float[Array, ""]
            Ends of the interval [ln Msun], inside the mass nodes.
        narrowest : Float[Array, ""]
            Length of the shortest interval of a draw, as in `posterior_range`.

        Notes
        -----
        The extreme draws are enough: the posterior moves up in mass with the centre of the population and with that of
        the Gaussian, whatever the widths. The range of a mixture is that of its components.
        """
        return self._range_of_draws_in(prior.blocks_at(z), z, centre, width)

    def _range_of_draws_in(self, blocks: panels.Blocks, z, centre, width):
        """The same, with the mass functions of all draws between these bounds."""
        middle = centre if self.kind == "fixed" else jax.vmap(lambda draw: draw.centre_at(z))(self)
        values = self.values
        parts: list[dict[str, Any]] = [
            {name: values[name] for name in ("width", "skewness") if name in values} | {"centre": middle}
        ]
        for i in range(2, self.components + 1):
            parts.append({"width": values[f"width_{i}"], "centre": middle + values[f"offset_{i}"]})
        kind = "gaussian" if self.kind == "mixture" else self.kind
        found = []
        for part in parts:
            names = [name for name in part if name != "centre"]
            (middles, centres), (widths,), *others = panels.corners(
                [[part["centre"], centre], [width], *([part[name]] for name in names)]
            )
            at: dict[str, Any] = {"centre": middles} | {
                name: other for name, (other,) in zip(names, others, strict=True)
            }
            extreme = PopulationDraws(at, None, jnp.zeros((middles.size, 2)), kind)
            found.append(jax.vmap(lambda draw, c, w: draw._range_in(blocks, z, c, w))(extreme, centres, widths))
        low, high, narrowest = (jnp.concatenate(ends) for ends in zip(*found, strict=True))
        return low.min(), high.max(), narrowest.min()

    def log_evidence_of_row(self, prior: MassPrior, row, centre, z, width) -> Float[Array, ""]:
        """Compute G, the ln of the integral of population x Gaussian, for one set of values and one object.

        Parameters
        ----------
        prior : MassPrior
            The mass prior.
        row : Float[Array, "k"]
            ln of its density at the mass nodes at this redshift, from `ln_density_at`.
        centre : Float[Array, ""]
            Mean of the Gaussian [ln Msun].
        z : Float[Array, ""]
            The redshift.
        width : Float[Array, ""]
            Standard deviation of the Gaussian [ln Msun].

        Returns
        -------
        Float[Array, ""]
            ln of the integral of p(ln M|z) N(ln M; centre, width^2) d ln M.
        """
        if self.kind == "fixed":
            return prior.log_evidence_of_row(row, centre, z, width)
        if self.kind != "hmf_completeness":
            return self._log_evidence_of_normals(centre, z, width)

        # Nothing of the range is differentiated: its gradient would be traced and thrown away.
        still = jax.lax.stop_gradient((self, centre, z, width))
        low, high = still[0]._range_of_completeness(prior, row, *still[1:])
        ln_mass = panels.panel_nodes(low, high, _PANELS)
        density = self.ln_density(_without_kinks(prior, row, ln_mass), ln_mass, z)
        density = density - 0.5 * ((ln_mass - centre) / width) ** 2
        peak = jax.lax.stop_gradient(density.max())
        total = (panels.panel_weights(low, high, _PANELS) * jnp.exp(density - peak)).sum()
        return peak + jnp.log(total) - jnp.log(width) - _HALF_LN_2PI

    def _log_evidence_of_normals(self, centre, z, width):
        """G of a population made of normals, in closed form."""
        middle, own = self.centre_at(z), self.values["width"]
        if self.kind == "mixture":
            parts = [
                share + _ln_normal(centre - middle - offset, w**2 + width**2) for offset, w, share in self._components()
            ]
            return reduce(jnp.logaddexp, parts)
        variance = own**2 + width**2
        normal = _ln_normal(centre - middle, variance)
        if self.kind == "gaussian":
            return normal
        # 2 N Phi(a d / w) times a Gaussian: Phi of a normal's mean over its spread (Azzalini 1985, eq. 7).
        skewness = self.values["skewness"]
        spread = jnp.sqrt(1 + (skewness * width) ** 2 / variance)
        return normal + np.log(2.0) + log_ndtr(skewness * own * (centre - middle) / variance / spread)

    def _range_of_completeness(self, prior: MassPrior, row, centre, z, width):
        """Ends of the interval that holds mass function x completeness x Gaussian.

        They follow the parameters smoothly, unlike those of `posterior_range`: what is summed over many objects must
        not jump while a fit searches.
        """
        middle, own = self.centre_at(z), self.values["width"]
        # The mass function over a part of the Gaussian's width, so that no single cell of its table decides.
        part = 0.25 * width

        def expand(ln_mass):
            """Value of ln(mass function x completeness x Gaussian), slope, and curvature downwards."""
            below, here, above = prior.interpolate(row, ln_mass + part * np.array([-1.0, 0.0, 1.0]))
            d, x = (ln_mass - middle) / own, (ln_mass - centre) / width
            ln_ndtr = log_ndtr(d)
            ratio = jnp.exp(-0.5 * d**2 - _HALF_LN_2PI - ln_ndtr)
            slope = (above - below) / (2 * part) + ratio / own - x / width
            bend = jnp.maximum((2 * here - above - below) / part**2, 0.0)
            return here + ln_ndtr - 0.5 * x**2, slope, bend + ratio * (ratio + d) / own**2 + 1 / width**2

        def up(_, peak):
            _, slope, curvature = expand(peak)
            return peak + slope / curvature

        left, right = prior.ln_mass_nodes[0], prior.ln_mass_nodes[-1]
        # Where the logarithm is concave, Newton's steps find the peak, and from outside the two ends.
        peak = jnp.clip(jax.lax.fori_loop(0, _PEAK_STEPS, up, jnp.minimum(centre, middle)), left, right)
        depth = expand(peak)[0] - panels.DEPTH

        def inwards(_, ends):
            value, slope, _ = jax.vmap(expand)(ends)
            side = np.array([1.0, -1.0])
            inner = ends + (depth - value) / slope
            # A slope towards the wrong side, beyond another peak: stay outside.
            return jnp.where(slope * side > 0, jnp.clip(inner, left, right), ends)

        reach = np.sqrt(2 * panels.DEPTH) * width
        ends = jnp.clip(jnp.stack([peak - reach, peak + reach]), left, right)
        low, high = jax.lax.fori_loop(0, _END_STEPS, inwards, ends)
        return low, high


def _ln_normal(distance, variance):
    """ln of a normal density."""
    return -0.5 * distance**2 / variance - 0.5 * jnp.log(variance) - _HALF_LN_2PI


class Lattice(eqx.Module):
    """A mass prior at redshifts equal in ln z, for the integral that normalises mass function x completeness.

    Attributes
    ----------
    redshift : Float[Array, "node"]
        The redshifts.
    ln_mass : Float[Array, "mass"]
        Masses of the sum [ln Msun].
    ln_density_step : Float[Array, "node mass"]
        ln of density x step in ln M.
    axis : Float[Array, "2"]
        ln z of the first redshift, and the step in ln z.
    fingerprint : str
        Of the mass prior.
    """

    redshift: Float[Array | np.ndarray, "node"]
    ln_mass: Float[Array | np.ndarray, "mass"]
    ln_density_step: Float[Array | np.ndarray, "node mass"]
    axis: Float[Array | np.ndarray, "2"]
    fingerprint: str = eqx.field(static=True)

    @classmethod
    def of(cls, prior: MassPrior) -> "Lattice":
        """Tabulate a mass prior.

        Parameters
        ----------
        prior : MassPrior
            The mass prior.

        Returns
        -------
        Lattice
            The table, over all redshifts of the prior between 0.001 and 10.
        """
        ln_z = np.linspace(np.log(max(prior.z_min, _LEAST_Z)), np.log(min(prior.z_max, _MOST_Z)), LATTICE)
        nodes = np.asarray(prior.ln_mass_nodes, dtype=np.float64)
        thin = max(1, int(_NORM_STEP / np.diff(nodes).max())) if prior.uniform else 1
        thin = thin if (nodes.size - 1) % thin == 0 else 1
        redshift = np.clip(np.exp(ln_z), prior.z_min, prior.z_max)
        masses = nodes[::thin]
        axis = np.array([ln_z[0], ln_z[1] - ln_z[0]])
        return cls(redshift, masses, np.asarray(_density_steps(prior, redshift, masses)), axis, fingerprint(prior))

    def under(self, prior: MassPrior) -> "Lattice":
        """Tabulate another mass prior with the same nodes, which may be traced by JAX.

        Parameters
        ----------
        prior : MassPrior
            The other mass prior.

        Returns
        -------
        Lattice
            Its table, with the fingerprint of the first one.
        """
        return eqx.tree_at(lambda s: s.ln_density_step, self, _density_steps(prior, self.redshift, self.ln_mass))


@partial(jax.jit, inline=True)
def _density_steps(prior: MassPrior, redshift, ln_mass) -> Float[Array, "node mass"]:
    """ln of density x step at masses that are every so many nodes of the prior."""
    rows = jax.vmap(prior.ln_density_at)(jnp.asarray(redshift))
    step = jnp.asarray(jnp.gradient(jnp.asarray(ln_mass))).at[np.array([0, -1])].divide(2)
    return rows[:, :: (rows.shape[1] - 1) // (step.size - 1)] + jnp.log(step)


def fingerprint(prior: MassPrior) -> str:
    """Tell one mass prior from another by its table.

    Parameters
    ----------
    prior : MassPrior
        The mass prior.

    Returns
    -------
    str
        12 hexadecimal digits; the same in float32 and float64.
    """
    digest = hashlib.sha256()
    for table in (prior.redshift_nodes, prior.ln_mass_nodes, prior.ln_density):
        # Rounded: to float32 first, then to three decimals, which tells apart what matters; + 0 makes -0 to 0.
        digest.update((np.round(np.asarray(table, dtype=np.float32), 3) + np.float32(0)).tobytes())
    return digest.hexdigest()[:12]


def _without_kinks(prior: MassPrior, row, ln_mass):
    """ln of the density by cubics through four nodes of the table, and linearly where these are not equally spaced.

    Nodes of a quadrature move past the kinks of the linear interpolation while a fit searches. Over 100,000 objects the
    error of each, 1e-6, moved the maximum by 0.3 of an error from where the gradient is 0.
    """
    linear = prior.interpolate(row, ln_mass)
    if not prior.uniform or row.shape[0] < 4:
        return linear
    cell, fraction = prior.locate(ln_mass)
    smooth = panels.cubic_at(row, cell + fraction)
    # Beside a density of 0 there is no cubic.
    return jnp.where(jnp.isfinite(smooth), smooth, linear)


def population_of(relation) -> PopulationDraws | None:
    """Give the population that the draws of a relation bring along.

    Parameters
    ----------
    relation : Relation
        Any relation.

    Returns
    -------
    PopulationDraws or None
        None for a relation that was not fitted with one.
    """
    return getattr(relation, "population", None)


def check_base(relation, prior: MassPrior) -> None:
    """Refuse a mass prior with a relation whose population was fitted with another one.

    Parameters
    ----------
    relation : Relation
        Any relation.
    prior : MassPrior
        The mass prior.

    Raises
    ------
    MassmapError
        If the relation has a population that belongs to another mass prior.
    """
    population = population_of(relation)
    if population is not None and population.base != fingerprint(prior):
        raise MassmapError(
            "the relation was fitted jointly with a population, or paired with cosmologies, under another mass prior"
            " than the one given here: give that one"
        )


def _items(beliefs: Mapping | None) -> tuple[tuple[str, object], ...]:
    return tuple((beliefs or {}).items())
