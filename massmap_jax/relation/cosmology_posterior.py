"""The result of a fit of relation and cosmology together, draw by draw: `CosmologyPosterior`."""

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import jax
import numpy as np

from massmap_jax.catalogue.archives import members, read_npz, told_of_archive, write_npz
from massmap_jax.prior.cosmology_draws import PARAMETERS
from massmap_jax.prior.mass_function_draws import MassFunctionDraws
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.cosmology_prior import CosmologyPrior
from massmap_jax.relation.cosmology_told import cosmology_notes, with_sigma8
from massmap_jax.relation.fitted import RelationPosterior, around
from massmap_jax.relation.law import LABELS
from massmap_jax.relation.search import MAX_PARETO_K
from massmap_jax.relation.with_cosmology import RelationAndCosmology, joined

# Arrays of the mass functions that are the same in all draws.
_ONCE = ("redshift_nodes", "ends")
# Where the normal approximation is off by more than this, in standard deviations of a parameter, a note says so.
_MUCH_OFF = 0.4


class CosmologyPosterior(RelationPosterior):
    """The posterior of a relation together with the cosmology, as `fit_relation(..., cosmology=)` returns it.

    It has everything that a `RelationPosterior` has; `free`, `mean`, `sd` and the other columns by name also hold the
    parameters of the cosmology that vary in the draws it was given, and `prior_mean` and `prior_sd` are those of these
    draws.

    Attributes
    ----------
    draws : RelationAndCosmology
        A batch of draws, each with its cosmology and its mass function.
    maximum : RelationAndCosmology
        Those of highest density.
    with_sigma8 : dict of str to float
        How the normalisation of the relation goes with sigma8, of the draws: "correlation", "slope" (d ln L / d sigma8
        at fixed mass), and where: "pivot_mass" [Msun] and "pivot_z". Empty where sigma8 does not vary.
    belief : dict of str to object
        "source" of the draws of the cosmology that were given, and "not_normal", by parameter the skewness and excess
        kurtosis of its ln where they are large: the fit takes mean and covariance of the ln alone.

    See Also
    --------
    fit_relation : The fit, with an example.
    CosmologyDraws : What is known of the cosmology.
    """

    draws: RelationAndCosmology
    maximum: RelationAndCosmology
    with_sigma8: dict[str, float]
    belief: dict[str, Any]

    @classmethod
    def of_fit(
        cls,
        both: CosmologyPrior,
        prior: MassPrior,
        belief: dict[str, Any],
        pivot: tuple[float, float],
        *,
        values: Mapping,
        maximum: Mapping,
        **made,
    ) -> "CosmologyPosterior":
        """Make the posterior from draws of the reported parameters at alpha3.

        Parameters
        ----------
        both : CosmologyPrior
            Prior of relation and cosmology.
        prior : MassPrior
            The mass prior.
        belief : dict of str to object
            The attribute `belief`.
        pivot : tuple of (float, float)
            ln(M / alpha3), and ln(1 + z) or ln E(z), where the normalisation is compared with sigma8.
        values : dict of str to Float[np.ndarray, "draw"]
            Draws of each parameter.
        maximum : dict of str to float
            The parameters at the maximum.
        **made : object
            Further arguments of `RelationPosterior.assemble`.

        Returns
        -------
        CosmologyPosterior
            The posterior.
        """
        of_relation, names = both.relation_prior, both.belief.varying
        own = RelationPosterior.assemble(
            of_relation,
            values={p: values[p] for p in of_relation.free},
            maximum={p: maximum[p] for p in of_relation.free},
            **made,
        )
        fixed = dict(zip(PARAMETERS, np.exp(np.asarray(both.belief.mean)), strict=True))
        number = own.draws.num_draws
        cosmologies = {
            p: np.append(values[p], maximum[p]) if p in names else np.full(number + 1, fixed[p]) for p in PARAMETERS
        }
        functions = MassFunctionDraws.of(prior, cosmologies)
        draws = joined(own.draws, jax.tree.map(lambda a: a[:-1], functions), own.draws.log_weight)
        believed = both.of_cosmology
        places = {p: around(values[p], own.weights) for p in names}
        densities, middle = believed.density(places), believed.central()
        kept = {f.name: getattr(own, f.name) for f in fields(RelationPosterior)} | {
            "draws": draws,
            "maximum": joined(own.maximum, jax.tree.map(lambda a: a[-1], functions), own.maximum.log_weight),
            "prior_curve": own.prior_curve | {p: np.stack([places[p], densities[p]]) for p in names},
            "prior_mean": own.prior_mean | {p: middle[p] for p in names},
            "prior_sd": own.prior_sd | believed.sd(),
            "free": (*own.free, *names),
        }
        return cls(with_sigma8=with_sigma8(draws, pivot) if "sigma8" in names else {}, belief=belief, **kept)

    @property
    def of_cosmology(self) -> tuple[str, ...]:
        """Names of the parameters of the cosmology that vary."""
        return tuple(p for p in self.free if p in PARAMETERS)

    @property
    def informed(self) -> dict[str, float]:
        """By how much the data reduced the variance of each free parameter: 1 is all by data, 0 all by belief."""
        sd = self.sd
        return {p: float(1 - (sd[p] / self.prior_sd[p]) ** 2) for p in self.free}

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the numbers has to know, one sentence each."""
        found = list(super().notes)
        measured = "with_mass_likelihood" in self.diagnostics
        apart = "" if measured else "measured masses (calibration= or extra=, --calib-mass or --mass-likelihood) can"
        found += cosmology_notes(self.of_cosmology, self.sd, self.prior_sd, self.with_sigma8, self.belief, apart)
        off = self.diagnostics.get("off_normal")
        if off is not None:
            p, shift = max(off["shift"].items(), key=lambda item: abs(item[1]))
            if not off["pareto_k"] < MAX_PARETO_K and not abs(shift) < _MUCH_OFF:
                found.append(
                    f"the posterior is far from the normal distribution that the draws are from: {p} is off by about"
                    f" {abs(shift):.1f} of its error (Pareto k = {off['pareto_k']:.2f}): use method='nuts'"
                )
        return tuple(found)

    def to_table(self) -> dict[str, np.ndarray]:
        """Give the draws as columns.

        Returns
        -------
        dict of str to Float[np.ndarray, "draw"]
            The columns of `RelationPosterior.to_table`, and omega_m, sigma8, h, n_s and omega_b.
        """
        return super().to_table() | {p: np.asarray(v) for p, v in self.draws.population.values.items()}

    def save(self, path) -> None:
        """Write the posterior to a .npz file that `load` reads back unchanged.

        Parameters
        ----------
        path : str or Path
            The file; 11 MB for 1000 draws under the default mass prior, whose mass functions are kept.

        Raises
        ------
        MassmapError
            The file exists already.
        """
        arrays: dict[str, Any] = {"covariance": self.covariance}
        for name, relation in (("draws", self.draws), ("maximum", self.maximum)):
            arrays |= {f"{name}.{p}": np.asarray(v) for p, v in relation.columns().items()}
            functions = relation.population.arrays()
            # The same in draws and maximum: kept once.
            arrays |= {p: functions.pop(p) for p in _ONCE}
            arrays |= {f"{name}.{p}": v for p, v in functions.items()}
        arrays |= {f"prior_curve.{p}": curve for p, curve in self.prior_curve.items()}
        own = [f.name for f in fields(self) if f.name not in ("draws", "maximum", "covariance", "prior_curve")]
        meta = {
            "labels": {name: getattr(self.draws, name) for name in LABELS},
            "base": self.draws.population.base,
            "own": {name: getattr(self, name) for name in own},
        }
        write_npz(path, arrays | {"cosmology": json.dumps(meta)})

    @staticmethod
    def is_saved(path) -> bool:
        """Tell whether a file looks like one that `save` wrote.

        Parameters
        ----------
        path : str or Path
            The file.

        Returns
        -------
        bool
            True for a file of `save`; False for one of `RelationPosterior.save`.
        """
        return "cosmology.npy" in members(path)

    @classmethod
    def load(cls, path) -> "CosmologyPosterior":
        """Read a posterior that `save` wrote.

        Parameters
        ----------
        path : str or Path
            The file.

        Returns
        -------
        CosmologyPosterior
            The posterior as it was.

        Raises
        ------
        MassmapError
            The file does not exist, or `save` did not write it.
        """
        with told_of_archive(f"relation posterior {path}", "is not a file that CosmologyPosterior.save() wrote"):
            columns = read_npz(path)
            meta = json.loads(str(columns["cosmology"]))
            own = meta["own"] | {"free": tuple(meta["own"]["free"])}
            own["draws"], own["maximum"] = (_relation_of(columns, f"{name}.", meta) for name in ("draws", "maximum"))
            own["prior_curve"] = {p: columns[f"prior_curve.{p}"] for p in own["free"]}
            return cls(covariance=columns["covariance"], **own)


def _relation_of(columns: Mapping, prefix: str, meta: Mapping) -> RelationAndCosmology:
    """A relation with its mass functions, from the arrays of `save`."""
    own = {p.removeprefix(prefix): v for p, v in columns.items() if p.startswith(prefix)}
    of_functions = {p: own.pop(p) for p in list(own) if p == "coefficients" or p.startswith("cosmology.")}
    functions = MassFunctionDraws.of_arrays(of_functions | {p: columns[p] for p in _ONCE}, meta["base"])
    return RelationAndCosmology(population=functions, **own, **meta["labels"])
