"""References that a paper using a run should cite: the program, and the sources of what the run used."""

from collections.abc import Mapping

_MASS_FUNCTIONS = {
    "PS": "Press & Schechter 1974, ApJ 187, 425",
    "SMT": "Sheth, Mo & Tormen 2001, MNRAS 323, 1",
    "Jenkins": "Jenkins et al. 2001, MNRAS 321, 372",
    "Warren": "Warren et al. 2006, ApJ 646, 881",
    "Tinker08": "Tinker et al. 2008, ApJ 688, 709, doi:10.1086/591439",
    "Tinker10": "Tinker et al. 2010, ApJ 724, 878, doi:10.1088/0004-637X/724/2/878",
    "Watson": "Watson et al. 2013, MNRAS 433, 1230",
    "Bocquet200mDMOnly": "Bocquet et al. 2016, MNRAS 456, 2361",
}
_HMF = "hmf: Murray, Power & Robotham 2013, Astronomy and Computing 3, 23, doi:10.1016/j.ascom.2013.11.001"
_PLANCK = "Planck Collaboration 2020, A&A 641, A6, doi:10.1051/0004-6361/201833910"
_JAX = "JAX: Bradbury et al. 2018, github.com/jax-ml/jax"
_NUMPYRO = "NumPyro: Phan, Pradhan & Jankowiak 2019, arXiv:1912.11554"
_ASTROPY = "Astropy: Astropy Collaboration 2022, ApJ 935, 167, doi:10.3847/1538-4357/ac7c74"
_NFW = "halo profiles: Navarro, Frenk & White 1997, ApJ 490, 493, doi:10.1086/304888"
_CONCENTRATION = "concentrations: Duffy et al. 2008, MNRAS 390, L64, doi:10.1111/j.1745-3933.2008.00537.x"
_BMO = "truncated profiles: Baltz, Marshall & Oguri 2009, JCAP 01, 015, doi:10.1088/1475-7516/2009/01/015"
_HEALPIX = "HEALPix: Gorski et al. 2005, ApJ 622, 759, doi:10.1086/427976"


def citations(record: Mapping) -> list[str]:
    """List the references, one line each.

    Parameters
    ----------
    record : Mapping
        The content of the run's run.json.

    Returns
    -------
    list of str
        The references.
    """
    options, lines = record["options"], [f"massmap_jax {record['version']} (CITATION.cff of the package)"]
    prior = options["prior"]
    if prior["source"] in ("default", "hmf"):
        model = "Tinker10" if prior["source"] == "default" else prior["hmf_model"]
        source = _MASS_FUNCTIONS.get(model, f"the paper of {model} that the documentation of hmf names")
        lines += [f"halo mass function: {source}", _HMF]
    else:
        lines.append(f"mass prior: the source of {record['prior']}")
    if record["fit"] is None:
        lines.append(f"relation of mass and luminosity: the source of {record['relation_source']}")
    if options["cosmology_draws"] is not None:
        draws = options["cosmology_draws"]
        source = _PLANCK if draws == "planck18" else f"the source of {draws}"
        lines.append(f"draws of the cosmology: {source}")
    lines.append(_JAX)
    if "nuts" in (options["method"], record["fit"] and record["fit"]["method"]):
        lines.append(_NUMPYRO)
    shapes = (options["halo_profile"], options["shear"])
    if record["convergence"] is not None or any(one is not None for one in shapes) or options["calib_convert"]:
        lines += [_NFW, _CONCENTRATION]
    if record["convergence"] is not None:
        lines.append(_BMO)
    lines.append(_ASTROPY)
    if options["nside"] is not None:
        lines.append(_HEALPIX)
    return lines
