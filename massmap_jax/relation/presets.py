"""Published mass-observable relations by name, with everything a label needs. Data only: no JAX is imported.

A preset is the distribution of an observable O at FIXED mass, in natural logarithms:

    ln O ~ N(alpha1 + alpha2 ln(M / alpha3) + alpha4 ln(1 + z) + gamma ln E(z), scatter^2),   E = H(z) / H0

with M in Msun without h. Figures that a paper gives in log10, in units with h, or about a pivot redshift are converted
where they are written down here, and `published` keeps the paper's own form; a test evaluates that form by itself.

A relation published the other way, as the mass at fixed observable, is not a preset and is not turned round: the
inverse of a mean E[M | O] is not P(O | M). For optical richness the difference is a factor of 1.6 to 2.9 in mass
(`AT_FIXED_OBSERVABLE`).
"""

from dataclasses import dataclass, field
from difflib import get_close_matches

import numpy as np

from massmap_jax.errors import MassmapError

LN10 = float(np.log(10.0))
E_PLANCK = 0.3
"""Omega_m of E(z) in the presets: flat, H0 = 70 km/s/Mpc, Omega_m = 0.3, as in the papers."""


@dataclass(frozen=True)
class Value:
    """A published number with its statistical errors and its systematic error.

    Attributes
    ----------
    value : float
        The number.
    up : float
        Upper error (standard deviation), in the value's unit. 0 where the paper gives none or fixes the value.
    down : float or None
        Lower error, None where it equals the upper one.
    systematic : float
        A systematic error, added in quadrature when draws are made.
    """

    value: float
    up: float = 0.0
    down: float | None = None
    systematic: float = 0.0

    @property
    def sd(self) -> float:
        """Standard deviation of the draws: the mean of the two errors, with the systematic one added in quadrature.

        Returns
        -------
        float
            In the value's unit.
        """
        down = self.up if self.down is None else self.down
        return float(np.hypot(0.5 * (self.up + down), self.systematic))


@dataclass(frozen=True)
class Preset:
    """One published relation, with its source and the range of masses and redshifts that it was measured in.

    Attributes
    ----------
    name : str
        The name that `--relation` takes.
    observable : str
        What is observed, with band and aperture.
    lum_unit : str
        Unit of the observable, as a catalogue states it.
    mass_definition : str
        Definition of the masses; "unknown" where the source does not state it.
    cosmology : str
        Cosmology, as the source states it.
    parameters : dict of str to Value
        alpha1, alpha2, alpha4, gamma and the scatter in ln O. The scatter is None where it is not published, and the
        user has to give it.
    alpha3 : float
        Pivot mass [Msun, no h].
    mass_range : tuple of (float, float)
        Masses that the source's data cover [Msun].
    redshift_range : tuple of (float, float)
        Redshifts that the source's data cover.
    selection : str
        How the objects were chosen, and how far this was modelled.
    source : str
        The paper, and the public file against which the numbers were checked.
    published : str
        The relation in the form in which the source prints it.
    law : str
        "power", or the name of a law of `massmap_jax.relation.laws`.
    constant_below : float
        Mass below which a scatter that changes with mass is held constant [Msun].
    notes : tuple of str
        What a user should know.
    """

    name: str
    observable: str
    lum_unit: str
    mass_definition: str
    cosmology: str
    parameters: dict[str, Value | None]
    alpha3: float
    mass_range: tuple[float, float]
    redshift_range: tuple[float, float]
    selection: str
    source: str
    published: str
    law: str = "power"
    constant_below: float = 0.0
    notes: tuple[str, ...] = field(default_factory=tuple)

    @property
    def needs_scatter(self) -> bool:
        """Whether the source gives no scatter at fixed mass, so that the user has to give it.

        Returns
        -------
        bool
            True if the scatter is needed.
        """
        return self.parameters.get("scatter") is None


def _ln_e(z: float) -> float:
    return 0.5 * float(np.log(E_PLANCK * (1 + z) ** 3 + 1 - E_PLANCK))


H70 = "flat LambdaCDM, H0 = 70 km/s/Mpc, Omega_m = 0.3"
_H = 0.7
_MCXC_SELECTION = "REXCESS, X-ray luminosity selected, 0.056 < z < 0.183; Malmquist bias is not modelled here"

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="lx_mcxc11",
            observable="X-ray luminosity L500, 0.1-2.4 keV rest frame, within R500",
            lum_unit="1e44 erg/s",
            mass_definition="500c",
            cosmology=H70,
            # log10 C = 0.274
            parameters={"alpha1": Value(0.274 * LN10), "alpha2": Value(1.64), "gamma": Value(7 / 3), "scatter": None},
            alpha3=3e14,
            mass_range=(1e14, 8e14),
            redshift_range=(0.056, 0.183),
            selection=_MCXC_SELECTION,
            source="Pratt et al. 2009; Arnaud et al. 2010; Piffaretti et al. 2011 (MCXC), whose table returns log10 C "
            "= 0.27400 and the slope 1.64000",
            published="E(z)^(-7/3) L500 / 1e44 erg/s = C (M500 / 3e14 Msun)^1.64, log10 C = 0.274",
            notes=(
                "the errors of C and of the slope are not given in the catalogue paper, so draws do not vary",
                "MCXC masses are L500 through the inverse of this relation without scatter: they are no test of it",
            ),
        ),
        Preset(
            name="lx_capasso20",
            observable="X-ray luminosity of CODEX clusters (the abstract does not state the band)",
            lum_unit="1e44 erg/s",
            mass_definition="200c",
            cosmology=H70,
            # The abstract gives pivots M = 3e14 Msun and z = 0.16; E^2 and (1+z)^gamma are both 1 there.
            parameters={
                "alpha1": Value(
                    float(np.log(0.62)) + 2.77 * float(np.log1p(0.16)) - 2 * _ln_e(0.16),
                    0.05 / 0.62,
                    0.06 / 0.62,
                    0.06 / 0.62,
                ),
                "alpha2": Value(2.35, 0.21, 0.18, 0.09),
                "alpha4": Value(-2.77, 1.06, 1.05, 0.79),
                "gamma": Value(2.0),
                "scatter": None,
            },
            alpha3=3e14,
            mass_range=(5e13, 1.5e15),
            redshift_range=(0.0, 0.66),
            selection="CODEX: 344 X-ray selected clusters with dynamical masses",
            source="Capasso et al. 2020, MNRAS 494, 2736 (published version; arXiv v1 has other numbers)",
            published="L_X = 0.62e44 erg/s (M200c / 3e14 Msun)^2.35 [E(z)/E(0.16)]^2 [(1+z)/1.16]^-2.77",
            notes=(
                "the abstract does not state the X-ray band: see the paper before you compare luminosities",
                "the mass range is that of the clusters' richness and is not stated in the abstract",
            ),
        ),
        Preset(
            name="lambda_murata18",
            observable="redMaPPer richness lambda (SDSS)",
            lum_unit="richness",
            mass_definition="200m",
            cosmology="Planck (fixed)",
            parameters={
                "alpha1": Value(3.207, 0.044, 0.046),
                "alpha2": Value(0.993, 0.041, 0.055),
                "scatter": Value(0.456, 0.047, 0.039),
                "scatter_slope": Value(-0.169, 0.035, 0.026),
            },
            alpha3=3e14 / _H,
            mass_range=(1e14 / _H, 2e15),
            redshift_range=(0.10, 0.33),
            selection="20 <= lambda <= 100; counts and lensing in a forward model",
            source="Murata et al. 2018, ApJ 854, 120 (arXiv:1707.01907 v3)",
            published="<ln lambda> = 3.207 + 0.993 ln(M / 3e14 Msun/h), scatter 0.456 - 0.169 ln(M / 3e14 Msun/h)",
            law="scatter_slope",
            constant_below=1e13 / _H,
            notes=(
                "below 1e13 Msun/h the scatter is held constant, where the fit says nothing of it: the mean mass at "
                "richness 20 to 92 then is that of stacked lensing to 25 %, and without it halos a thousand times too "
                "light would outnumber the massive ones",
                "the scatter falls with mass and would reach 0 at 4.5e15 Msun/h: it is held at 0.05 and above",
                "the abstract says 'halo mass'; 200m is what the paper's model of the counts uses",
            ),
        ),
        Preset(
            name="lambda_kiiveri21",
            observable="richness lambda from CFHT photometry (not the SDSS lambda)",
            lum_unit="richness",
            mass_definition="200c",
            cosmology=H70,
            parameters={
                "alpha1": Value(float(np.log(84.0)), 9.2 / 84.0, 14.8 / 84.0),
                "alpha2": Value(0.49, 0.20, 0.15),
                "scatter": Value(0.17, 0.13, 0.09),
            },
            alpha3=10**14.81,
            mass_range=(1e14, 2e15),
            redshift_range=(0.35, 0.65),
            selection="CODEX, X-ray and optical selection modelled; 25 lensing masses",
            source="Kiiveri et al. 2021, MNRAS 502, 1494 (arXiv:2101.02257)",
            published="<ln lambda> = ln 84.0 + 0.49 ln(M200c / 10^14.81 Msun), scatter 0.17",
        ),
        Preset(
            name="ysz_planck15",
            observable="D_A^2 Y500, spherical, Planck",
            lum_unit="1e-4 Mpc2",
            mass_definition="500c",
            cosmology=H70,
            # E^-2/3 D_A^2 Y / 1e-4 Mpc^2 = 10^-0.19 [(1-b) M / 6e14]^1.79: 1 - b is `mass_bias`, which moves alpha3.
            parameters={
                "alpha1": Value(-0.19 * LN10, 0.02 * LN10),
                "alpha2": Value(1.79, 0.08),
                "gamma": Value(0.66, 0.50),
                "scatter": Value(0.173, 0.023),
            },
            alpha3=6e14,
            mass_range=(1e14, 1.5e15),
            redshift_range=(0.0, 1.0),
            selection="Planck SZ clusters, hydrostatic masses (XMM)",
            source="Planck Collaboration XX 2013 and XXIV 2015, and the team's likelihood code",
            published="E(z)^(-0.66) D_A^2 Y500 / 1e-4 Mpc^2 = 10^-0.19 [(1-b) M500 / 6e14 Msun]^1.79",
            notes=(
                "the masses are hydrostatic: give mass_bias = 1-b (0.688 +- 0.072 WtG, 0.780 +- 0.092 CCCP, 0.8 in "
                "2013); without it 1-b = 1",
            ),
        ),
        Preset(
            name="y0_act_a10",
            observable="central Compton y0 without the filter's mismatch: y0~ / (Q f_rel)",
            lum_unit="",
            mass_definition="500c",
            cosmology=H70,
            parameters={
                "alpha1": Value(float(np.log(4.95e-5))),
                "alpha2": Value(1.08),
                "gamma": Value(2.0),
                "scatter": Value(0.2),
            },
            alpha3=3e14,
            mass_range=(1e14, 2e15),
            redshift_range=(0.0, 2.0),
            selection="ACT SZ clusters; the scaling is that of X-ray masses (Arnaud et al. 2010)",
            source="Hasselfield et al. 2013; Hilton et al. 2021; the figures are those of the nemo pipeline",
            published="y0~ = 4.95e-5 E(z)^2 (M500 / 3e14 Msun)^1.08 Q(theta500) f_rel, scatter 0.2 in ln",
            notes=("divide the catalogue's y0~ by Q(theta500) and f_rel first: Q is not a power law of mass",),
        ),
        Preset(
            name="y0_act_dr6",
            observable="central Compton y0 without the filter's mismatch: y0~ / (Q f_rel)",
            lum_unit="",
            mass_definition="500c",
            cosmology=H70,
            parameters={
                "alpha1": Value(float(np.log(3.0e-5))),
                "alpha2": Value(1.08),
                "gamma": Value(2.0),
                "scatter": Value(0.2),
            },
            alpha3=3e14,
            mass_range=(1e14, 2e15),
            redshift_range=(0.0, 2.0),
            selection="ACT DR6 SZ clusters",
            source="the configuration of the nemo pipeline for ACT DR6 (tenToA0 = 3.0e-5, B0 = 0.08)",
            published="y0~ = 3.0e-5 E(z)^2 (M500 / 3e14 Msun)^1.08 Q(theta500) f_rel, scatter 0.2 in ln",
            notes=("a pipeline's setting, not a measurement with errors",),
        ),
        Preset(
            name="mgas_akino22",
            observable="gas mass within R500",
            lum_unit="1e12 Msun",
            mass_definition="500c",
            cosmology=H70,
            # ln(O E) = a + b ln(M E / p): O carries E^(b - 1).
            parameters={
                "alpha1": Value(1.95, 0.08),
                "alpha2": Value(1.29, 0.16, 0.10),
                "gamma": Value(0.29),
                "scatter": None,
            },
            alpha3=1e14,
            mass_range=(1e13, 1e15),
            redshift_range=(0.0, 1.0),
            selection="136 XXL groups and clusters; selection and covariance modelled",
            source="Akino et al. 2022 (arXiv:2111.10080); normalisation as in the public file of the SWIFTSIM "
            "comparison data (HaloMassGasFractions/conversion/convertHSC-XXL.py)",
            published="ln(M_gas E / 1e12 Msun) = 1.95 + 1.29 ln(M500 E / 1e14 Msun)",
        ),
        Preset(
            name="mstar_akino22",
            observable="total stellar mass within R500",
            lum_unit="1e12 Msun",
            mass_definition="500c",
            cosmology=H70,
            parameters={
                "alpha1": Value(0.76, 0.09),
                "alpha2": Value(0.85, 0.12, 0.09),
                "gamma": Value(-0.15),
                "scatter": None,
            },
            alpha3=1e14,
            mass_range=(1e13, 1e15),
            redshift_range=(0.0, 1.0),
            selection="136 XXL groups and clusters; selection and covariance modelled",
            source="Akino et al. 2022 (arXiv:2111.10080); normalisation as in the public file of the SWIFTSIM "
            "comparison data (HaloMassStellarFractions/conversion/convertHSC-XXL.py)",
            published="ln(M_star E / 1e12 Msun) = 0.76 + 0.85 ln(M500 E / 1e14 Msun)",
        ),
        Preset(
            name="sigv_evrard08",
            observable="velocity dispersion of dark matter in one dimension (galaxies have a velocity bias)",
            lum_unit="km/s",
            mass_definition="200c",
            cosmology="any: the relation depends on h(z) M",
            # log s = log 1082.9 + 0.3361 log(h(z) M / 1e15), h(z) = H(z) / 100
            parameters={
                "alpha1": Value(float(np.log(1082.9)), 4.0 / 1082.9),
                "alpha2": Value(0.3361, 0.0026),
                "gamma": Value(0.3361),
                "scatter": Value(0.0426, 0.015),
            },
            alpha3=1e15 / _H,
            mass_range=(1e14, 3e15),
            redshift_range=(0.0, 2.0),
            selection="simulations (N-body), all halos",
            source="Evrard et al. 2008 (arXiv:astro-ph/0702241)",
            published="sigma = 1082.9 km/s [h(z) M200c / 1e15 Msun]^0.3361, scatter 0.0426 in ln",
            notes=("about 10 % of the halos, mergers, lie in a tail to high dispersions",),
        ),
        Preset(
            name="sigv_munari13",
            observable="velocity dispersion of galaxies in one dimension",
            lum_unit="km/s",
            mass_definition="200c",
            cosmology="any: the relation depends on h(z) M",
            parameters={
                "alpha1": Value(float(np.log(1177.0)), 4.2 / 1177.0),
                "alpha2": Value(0.364, 0.0021),
                "gamma": Value(0.364),
                "scatter": None,
            },
            alpha3=1e15 / _H,
            mass_range=(1e13, 1e15),
            redshift_range=(0.0, 2.0),
            selection="hydrodynamic simulations with AGN feedback",
            source="Munari et al. 2013, figures as in public code (cristobal-sifon/astro, astro/clusters/scalings.py)",
            published="sigma = 1177 km/s [h(z) M200c / 1e15 Msun]^0.364",
        ),
        Preset(
            name="mbcg_abdullah26",
            observable="stellar mass of the brightest cluster galaxy",
            lum_unit="1e11 Msun",
            mass_definition="unknown",
            cosmology="h = 1 units, converted with h = 0.7",
            # log10(Mstar h^2) = 11.04 + 0.17 (log10(M h) - 14.2)
            parameters={
                "alpha1": Value(LN10 * (11.04 - 11.0) - 2 * float(np.log(_H)), 0.01 * LN10),
                "alpha2": Value(0.17, 0.03),
                "scatter": Value(0.19 * LN10, 0.01 * LN10),
            },
            alpha3=10**14.2 / _H,
            mass_range=(10**13.6 / _H, 2e15),
            redshift_range=(0.02, 0.125),
            selection="SDSS GalWCat19, log10(M h / Msun) >= 13.6",
            source="Abdullah et al. 2026 (preprint, arXiv:2603.14330)",
            published="log10(M_star / h^-2 Msun) = 11.04 + 0.17 (log10(M200 / h^-1 Msun) - 14.2), scatter 0.19 dex",
            notes=("the abstract says M200 and not whether of the critical or the mean density: no label is set",),
        ),
        Preset(
            name="mstar_kravtsov18",
            observable="total stellar mass within R500",
            lum_unit="Msun",
            mass_definition="500c",
            cosmology=H70,
            parameters={
                "alpha1": Value(12.399 * LN10),
                "alpha2": Value(0.6, 0.1),
                "scatter": Value(0.1 * LN10),
            },
            alpha3=1e14,
            mass_range=(5e13, 1e15),
            redshift_range=(0.0, 0.1),
            selection="9 nearby clusters with X-ray masses",
            source="Kravtsov et al. 2018 (arXiv:1401.7329): slope and scatter of the paper; normalisation refitted to "
            "its table of 9 clusters, log10 M_star = 12.399 + 0.597 log10(M500 / 1e14)",
            published="log10 M_star = 12.399 + 0.6 log10(M500 / 1e14 Msun), scatter 0.1 dex",
        ),
        Preset(
            name="lc_cacciato09",
            observable="r-band luminosity of the central galaxy",
            lum_unit="Lsun",
            mass_definition="180m",
            cosmology="WMAP3; converted with h = 0.7",
            # log10 L0 = 9.935 [h^-2 Lsun], log10 M1 = 11.07 [h^-1 Msun]
            parameters={
                "ln_norm": Value(9.935 * LN10 - 2 * float(np.log(_H))),
                "low": Value(3.273),
                "high": Value(0.255),
                "scatter": Value(0.143 * LN10),
            },
            alpha3=10**11.07 / _H,
            mass_range=(1e11, 1e15),
            redshift_range=(0.01, 0.2),
            selection="SDSS central galaxies",
            source="Cacciato et al. 2009 (arXiv:0807.4932, table 3), figures as in halotools "
            "(occupation_models/cacciato09_components.py)",
            published="L_c = L0 (M/M1)^3.273 / (1 + M/M1)^3.018, log10 L0 = 9.935 h^-2 Lsun, log10 M1 = 11.07 "
            "h^-1 Msun",
            law="broken_power",
        ),
        Preset(
            name="smhm_moster13",
            observable="stellar mass of the central galaxy",
            lum_unit="Msun",
            mass_definition="200c",
            cosmology="h = 0.704",
            parameters={"scatter": None},
            alpha3=10**11.59,
            mass_range=(1e11, 1e15),
            redshift_range=(0.0, 4.0),
            selection="abundance matching, central galaxies",
            source="Moster, Naab & White 2013, figures as in halotools (smhm_models/moster13.py)",
            published="M_star / M = 2 N / [(M/M1)^-b + (M/M1)^c], f = z/(1+z): log10 M1 = 11.590 + 1.195 f, "
            "N = 0.0351 - 0.0247 f, b = 1.376 - 0.826 f, c = 0.608 + 0.329 f",
            law="moster13",
        ),
        Preset(
            name="smhm_behroozi19",
            observable="true stellar mass of the central galaxy (median)",
            lum_unit="Msun",
            mass_definition="vir",
            cosmology="Omega_m = 0.307, h = 0.678",
            parameters={"scatter": None},
            alpha3=10**12.074023,
            mass_range=(10**10.5, 1e15),
            redshift_range=(0.0, 10.0),
            selection="UniverseMachine, central galaxies; M is the peak virial mass (Bryan & Norman 1998)",
            source="Behroozi et al. 2019, the author's parameter file, row 'true, median, centrals' "
            "(smhm_true_med_cen_params.txt)",
            published="log10(M_star / M1) = eps - log10(10^(-al x) + 10^(-be x)) + ga exp(-0.5 (x/de)^2), "
            "x = log10(M/M1)",
            law="behroozi19",
            notes=("M is the peak mass of the halo's history, not the present one",),
        ),
    )
}

AT_FIXED_OBSERVABLE: dict[str, str] = {
    "m_lambda_mcclintock19": "McClintock et al. 2019 (DES Y1), mean M200m at fixed richness",
    "m_lambda_simet17": "Simet et al. 2017 (SDSS), mean M200m at fixed richness",
    "m_lambda_melchior17": "Melchior et al. 2017 (DES SV), mean M200m at fixed richness",
    "m_lambda_phriksee20": "Phriksee et al. 2020 (CODEX), M200c at fixed richness",
    "m_t_arnaud05": "Arnaud et al. 2005, M at fixed X-ray temperature",
    "m_t_lieu16": "Lieu et al. 2016 (XXL), M at fixed X-ray temperature",
    "m_yx_arnaud10": "Arnaud et al. 2010, M500 at fixed Y_X",
    "m_yx_vikhlinin09": "Vikhlinin et al. 2009, M500 at fixed Y_X",
    "m_lx_hoekstra11": "Hoekstra et al. 2011, M2500 at fixed X-ray luminosity",
    "m_lx_leauthaud10": "Leauthaud et al. 2010, M200 at fixed X-ray luminosity",
    "m_l200_johnston07": "Johnston et al. 2007, M200 at fixed optical luminosity",
}
"""Relations published as the mass at fixed observable, by name; asking for one explains why it is no preset."""


def find_preset(name: str) -> Preset:
    """Find a published relation by its name.

    Parameters
    ----------
    name : str
        The name, in any case. `PRESETS` holds all names.

    Returns
    -------
    Preset
        The relation's parameters, range and source.

    Raises
    ------
    MassmapError
        For an unknown name, and for a relation that is published as the mass at fixed observable.

    See Also
    --------
    massmap_jax.relation.published.published_relation : Make the relation, or draws of it.
    """
    key = name.lower()
    if key in AT_FIXED_OBSERVABLE:
        raise MassmapError(
            f"{name} ({AT_FIXED_OBSERVABLE[key]}) is published as the mass at fixed observable: turned round it would "
            "be wrong by a factor of about 2 in mass, as the mass function enters; use a relation published at fixed "
            "mass, or the published masses with relation='identity'"
        )
    if key not in PRESETS:
        near = get_close_matches(key, [*PRESETS, *AT_FIXED_OBSERVABLE], 3, 0.4)
        hint = f"did you mean {', '.join(near)}? " if near else ""
        raise MassmapError(
            f"relation {name!r} is not known: {hint}massmap-jax relations lists the published "
            "ones, and fit, identity, bigmali2017 and a file of draws are the others"
        )
    return PRESETS[key]
