"""The draws of a fitted relation for ArviZ and GetDist."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from massmap_jax.errors import MassmapError

if TYPE_CHECKING:
    from massmap_jax.relation.fitted import RelationPosterior

_LATEX = {"alpha1": r"\alpha_1", "alpha2": r"\alpha_2", "alpha3": r"\alpha_3", "alpha4": r"\alpha_4", "scatter": "S"}
_LATEX |= {"gamma": r"\gamma", "extra_bias": "b"}
_LATEX |= {"omega_m": r"\Omega_m", "sigma8": r"\sigma_8", "h": "h", "n_s": "n_s", "omega_b": r"\Omega_b"}


def to_arviz(fitted: RelationPosterior) -> Any:
    """Convert the draws to ArviZ; see `RelationPosterior.to_arviz`."""
    try:
        import arviz
    except ImportError:
        raise MassmapError("to_arviz needs ArviZ: pip install arviz") from None
    draws = {p: np.asarray(fitted.draws.parameter(p)) for p in fitted.free}
    if equal_weights(fitted.weights):
        chains, told = fitted.num_chains, "equal"
    else:
        chosen = resampled(fitted.weights)
        draws, chains = {p: values[chosen] for p, values in draws.items()}, 1
        told = f"resampled: {chosen.size} draws, of which {np.unique(chosen).size} differ, taken by importance weight"
    columns = {p: values.reshape(chains, -1) for p, values in draws.items()}
    new = int(arviz.__version__.split(".")[0]) >= 1
    data = arviz.from_dict({"posterior": columns}) if new else arviz.from_dict(posterior=columns)
    data["posterior"].attrs.update(_labels(fitted) | {"weights": told, "method": fitted.method})
    return data


def equal_weights(weights: Float[np.ndarray, draw]) -> bool:
    """Tell whether draws have one weight, but for rounding."""
    return bool(np.ptp(weights) <= 1e-9 * weights.max())


def resampled(weights: Float[np.ndarray, draw]) -> Int[np.ndarray, draw]:
    """Choose as many draws with equal weights as there are with these.

    Parameters
    ----------
    weights : Float[np.ndarray, "draw"]
        Weights that add up to 1.

    Returns
    -------
    Int[np.ndarray, "draw"]
        Numbers of the draws in their order. Each occurs as often as its weight times their number, rounded up or down:
        systematic resampling, whose noise is far below that of the draws and needs no random numbers.
    """
    steps = (np.arange(weights.size) + 0.5) / weights.size
    return np.minimum(np.searchsorted(np.cumsum(weights), steps), weights.size - 1)


def to_getdist(fitted: RelationPosterior) -> Any:
    """Convert the draws to GetDist; see `RelationPosterior.to_getdist`."""
    try:
        from getdist import MCSamples
    except ImportError:
        raise MassmapError("to_getdist needs GetDist: pip install getdist") from None
    draws = np.stack([np.asarray(fitted.draws.parameter(p)) for p in fitted.free], axis=1)
    weights = np.split(_multiplicities(fitted), fitted.num_chains)
    return MCSamples(
        samples=np.split(draws, fitted.num_chains),
        weights=weights,
        loglikes=[np.zeros(chain.size) for chain in weights],  # its test of convergence fails without any
        names=list(fitted.free),
        labels=[_label(p) for p in fitted.free],
        sampler="mcmc" if fitted.method == "nuts" else "uncorrelated",
        label=f"{fitted.num_halos} objects, {fitted.method}",
    )


def write_getdist(fitted: RelationPosterior, root) -> None:
    """Write the draws as a text chain of GetDist; see `RelationPosterior.write_getdist`."""
    from massmap_jax.catalogue.write import atomic_file

    columns = {p: np.asarray(values) for p, values in fitted.to_table().items() if p != "log_weight"}
    weight = _multiplicities(fitted)
    rows = np.column_stack([weight, np.zeros(weight.size), *columns.values()])
    header = "\n".join(f"{key} = {value}" for key, value in _labels(fitted).items())
    names = "".join(f"{p} {_label(p)}\n" for p in columns)
    root = Path(root)
    with contextlib.ExitStack() as stack:
        chain = stack.enter_context(atomic_file(root.with_name(root.name + ".txt")))
        paramnames = stack.enter_context(atomic_file(root.with_name(root.name + ".paramnames")))
        np.savetxt(chain, rows, fmt="%.17g", header=header)
        paramnames.write_text(names)


def _label(name: str) -> str:
    """The symbol of a parameter in LaTeX, or its name where it has none."""
    return _LATEX.get(name, r"\mathrm{" + name.replace("_", r"\_") + "}")


def _multiplicities(fitted: RelationPosterior) -> Float[np.ndarray, draw]:
    """Weights whose largest is 1."""
    return fitted.weights / fitted.weights.max()


def _labels(fitted: RelationPosterior) -> dict[str, Any]:
    """What the parameters belong to: `read_relation` reads it back from the header of a chain."""
    draws = fitted.draws
    return {
        "program": "massmap-jax",
        "relation_source": draws.source,
        "mass_definition": draws.mass_definition,
        "luminosity_unit": draws.lum_unit or "unknown",
        "evolution": draws.evolution,
        "omega_m": float(draws.omega_m),
        "alpha3": float(fitted.maximum.alpha3),
        "logarithms": "natural",
    }
