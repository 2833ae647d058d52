"""What a fit of relation and cosmology says of the cosmology: which of it the data inform, and what goes together."""

from collections.abc import Mapping

import numpy as np

from massmap_jax.relation.law import MassLuminosityRelation

# A parameter of the cosmology whose error is at most this share of the belief's counts as informed by the catalogue.
_INFORMED = 0.9
# Beyond this share of its variance, a note says that the normalisation rests on the belief about sigma8.
_RESTS = 0.5
# Where h is known to less than this, a note says what lensing masses have of it.
_WIDE_H = 0.02


def cosmology_notes(
    names: tuple[str, ...], sd: Mapping, prior_sd: Mapping, together: Mapping, belief: Mapping, apart: str
) -> list[str]:
    """Say what a fit learned of the cosmology, one sentence each.

    Parameters
    ----------
    names : tuple of str
        The parameters of the cosmology that vary.
    sd, prior_sd : dict of str to float
        Standard deviations of posterior and prior, by name.
    together : dict of str to float
        The result of `with_sigma8`; empty where sigma8 does not vary.
    belief : dict of str to object
        "source" and "not_normal" of the draws that were given.
    apart : str
        What could tell sigma8 and the normalisation apart, and is not in the fit; empty where it is.

    Returns
    -------
    list of str
        The sentences.
    """
    found = []
    share = {p: sd[p] / prior_sd[p] for p in names}
    told = [f"{p} ({sd[p]:.2g}, {v:.2f} of the belief's error)" for p, v in share.items() if v < _INFORMED]
    if told:
        found.append(f"of the cosmology, the catalogue informs {', '.join(told)}")
    elif names:
        found.append(
            "the catalogue does not narrow the cosmology: the errors of"
            f" {', '.join(names)} are those of the belief ({belief['source']})"
        )
    if together and together["correlation"] ** 2 > _RESTS:
        more = apart and f", and luminosities and redshifts alone cannot tell the two apart: {apart}"
        found.append(
            f"sigma8 and the normalisation of the relation (at {together['pivot_mass']:.2g} Msun and z ="
            f" {together['pivot_z']:.2f}) go together, with a correlation of {together['correlation']:+.2f} and"
            f" d ln L / d sigma8 = {together['slope']:+.2f}: {together['correlation'] ** 2:.0%} of the variance of"
            f" the normalisation is that of sigma8{more}"
        )
    for p, shape in belief["not_normal"].items():
        found.append(
            f"the draws of {p} are not normal in its ln (skewness {shape['skewness']:+.1f}, excess kurtosis"
            f" {shape['kurtosis']:+.1f}), and the fit takes their mean and covariance alone"
        )
    return found


def note_of_h(mean: Mapping, sd: Mapping) -> list[str]:
    """Say where the belief about h is so wide that it belongs into measured masses, too.

    Parameters
    ----------
    mean, sd : dict of str to float
        Means and standard deviations of the beliefs, by name.

    Returns
    -------
    list of str
        One sentence, or none.
    """
    wide = sd["h"] / mean["h"] if "h" in sd else 0.0
    if not wide > _WIDE_H:
        return []
    return [
        f"h is known to {wide:.0%}, and measured masses are taken as given under every cosmology: masses in Msun from"
        " lensing go as 1 / h, so that as much belongs into the belief about their bias"
    ]


def with_sigma8(draws: MassLuminosityRelation, pivot: tuple[float, float]) -> dict[str, float]:
    """Tell how the normalisation of a relation goes with sigma8.

    Parameters
    ----------
    draws : MassLuminosityRelation
        A batch of draws, each with its cosmology.
    pivot : tuple of (float, float)
        ln(M / alpha3), and ln(1 + z) or ln E(z), where the normalisation is taken.

    Returns
    -------
    dict of str to float
        "correlation", "slope" (d ln L / d sigma8 at fixed mass), "pivot_mass" [Msun] and "pivot_z".
    """
    ln_mass, evolution = pivot
    a = draws.alpha1 + draws.alpha2 * ln_mass + draws.alpha4 * evolution
    shares, sigma8 = draws.shares, draws.parameter("sigma8")
    a, sigma8 = a - shares @ a, sigma8 - shares @ sigma8
    together, variance = float(shares @ (a * sigma8)), float(shares @ sigma8**2)
    correlation = together / np.sqrt(variance * float(shares @ a**2))
    return {
        "correlation": float(correlation),
        "slope": together / variance,
        "pivot_mass": float(np.ravel(draws.alpha3)[0] * np.exp(ln_mass)),
        "pivot_z": float(_redshift_of(draws, evolution)),
    }


def _redshift_of(relation: MassLuminosityRelation, evolution: float) -> float:
    """Redshift of a value of what alpha4 multiplies."""
    if relation.evolution == "power":
        return float(np.expm1(evolution))
    cubed = (np.exp(2 * evolution) - 1 + relation.omega_m) / relation.omega_m
    return float(np.cbrt(cubed) - 1)
