"""Relations that are no power law of constant scatter: published forms behind presets, through `Relation`.

Masses and maps take them like any other relation; `fit_relation` fits the power law only.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from massmap_jax.relation.law import Relation

LN10 = float(np.log(10.0))
# The scatter of a relation whose scatter changes with mass is held at this and above, in ln O.
LEAST_SCATTER = 0.05


class Labelled(Relation):
    """A relation with the labels that the package compares (`labels`).

    Attributes
    ----------
    lum_unit, mass_definition, source : str
        Unit of the observable, definition of the masses, and where the relation is from.
    """

    lum_unit: eqx.AbstractVar[str]
    mass_definition: eqx.AbstractVar[str]
    source: eqx.AbstractVar[str]


class ScatterSlope(Labelled):
    """Power law in mass whose scatter is linear in ln M (Murata et al. 2018, eq. 18).

    Attributes
    ----------
    alpha1, alpha2, alpha3 : Float[Array, "draw"]
        ln O at alpha3, the slope, and the pivot mass [Msun].
    scatter_at_pivot, scatter_slope : Float[Array, "draw"]
        Scatter in ln O at alpha3, and its change per unit of ln M.
    log_weight : Float[Array, "draw"]
        ln weight of each draw.
    constant_below : float
        The scatter of lighter halos is that at this mass [Msun]. Without it the line, fitted to massive halos, gives
        the light ones so much scatter that, being many, they outnumber the massive ones at any richness.
    """

    alpha1: Float[Array, "*draw"]
    alpha2: Float[Array, "*draw"]
    alpha3: Float[Array, "*draw"]
    scatter_at_pivot: Float[Array, "*draw"]
    scatter_slope: Float[Array, "*draw"]
    log_weight: Float[Array, "*draw"]
    lum_unit: str = eqx.field(static=True, default="")
    mass_definition: str = eqx.field(static=True, default="unknown")
    source: str = eqx.field(static=True, default="given by the user")
    constant_below: float = eqx.field(static=True, default=0.0)

    def mean_ln_lum(self, ln_mass, z):
        """Mean of ln O at ln_mass [ln Msun]; it does not depend on z."""
        return self.alpha1 + self.alpha2 * (ln_mass - jnp.log(self.alpha3)) + 0 * z

    def scatter_ln_lum(self, ln_mass, z):
        """Scatter of ln O at ln_mass [ln Msun], at least `LEAST_SCATTER`; constant below `constant_below`."""
        held = ln_mass if self.constant_below <= 0 else jnp.maximum(ln_mass, np.log(self.constant_below))
        offset = held - jnp.log(self.alpha3)
        return jnp.maximum(self.scatter_at_pivot + self.scatter_slope * offset, LEAST_SCATTER)


class BrokenPower(Labelled):
    """Double power law of mass, L = L0 (M/M1)^low / (1 + M/M1)^(low - high) (Cacciato et al. 2009, eq. 35).

    Attributes
    ----------
    ln_norm : Float[Array, "draw"]
        ln L0 [ln of the unit].
    alpha3 : Float[Array, "draw"]
        M1 [Msun].
    low, high : Float[Array, "draw"]
        Slopes far below and far above M1.
    scatter : Float[Array, "draw"]
        Scatter in ln L at fixed mass.
    log_weight : Float[Array, "draw"]
        ln weight of each draw.
    """

    ln_norm: Float[Array, "*draw"]
    alpha3: Float[Array, "*draw"]
    low: Float[Array, "*draw"]
    high: Float[Array, "*draw"]
    scatter: Float[Array, "*draw"]
    log_weight: Float[Array, "*draw"]
    lum_unit: str = eqx.field(static=True, default="")
    mass_definition: str = eqx.field(static=True, default="unknown")
    source: str = eqx.field(static=True, default="given by the user")

    def mean_ln_lum(self, ln_mass, z):
        """Mean of ln L at ln_mass [ln Msun]; it does not depend on z."""
        x = ln_mass - jnp.log(self.alpha3)
        return self.ln_norm + self.low * x - (self.low - self.high) * jnp.logaddexp(0.0, x) + 0 * z

    def scatter_ln_lum(self, ln_mass, z):
        """Scatter of ln L, the same at all masses."""
        return self.scatter + 0 * ln_mass


class Moster13(Labelled):
    """Stellar mass of a central galaxy at fixed halo mass (Moster, Naab & White 2013, eqs. 2 and 11-14).

    Attributes
    ----------
    scatter : Float[Array, "draw"]
        Scatter in ln M_star at fixed halo mass, given by the user.
    log_weight : Float[Array, "draw"]
        ln weight of each draw.
    """

    scatter: Float[Array, "*draw"]
    log_weight: Float[Array, "*draw"]
    lum_unit: str = eqx.field(static=True, default="Msun")
    mass_definition: str = eqx.field(static=True, default="200c")
    source: str = eqx.field(static=True, default="Moster et al. 2013")

    def mean_ln_lum(self, ln_mass, z):
        """ln M_star [ln Msun] at ln_mass [ln Msun] and z."""
        f = z / (1 + z)
        x = ln_mass - LN10 * (11.590 + 1.195 * f)
        low, high = 1.376 - 0.826 * f, 0.608 + 0.329 * f
        return ln_mass + jnp.log(2 * (0.0351 - 0.0247 * f)) - jnp.logaddexp(-low * x, high * x)

    def scatter_ln_lum(self, ln_mass, z):
        """Scatter of ln M_star, the same at all masses."""
        return self.scatter + 0 * ln_mass


# Best-fitting row "true, median, centrals" of the authors' file: value at z = 0, then the coefficients of (a - 1),
# ln a and z (Behroozi et al. 2019, appendix J); be and ga have no term in ln a.
_BEHROOZI19 = {
    "eps": (-1.431495, 1.757030, 1.350451, -0.217846),
    "log10_m1": (12.074023, 4.599896, 4.423389, -0.732499),
    "al": (1.973839, -2.468417, -1.816299, 0.182080),
    "be": (0.470227, -0.875164, 0.0, -0.486642),
    "log10_ga": (-1.160189, -3.633671, 0.0, -1.218900),
}
_BEHROOZI19_DE = 0.382296


class Behroozi19(Labelled):
    """Median true stellar mass of a central galaxy at fixed peak halo mass (Behroozi et al. 2019, appendix J).

    Attributes
    ----------
    scatter : Float[Array, "draw"]
        Scatter in ln M_star at fixed halo mass, given by the user.
    log_weight : Float[Array, "draw"]
        ln weight of each draw.
    """

    scatter: Float[Array, "*draw"]
    log_weight: Float[Array, "*draw"]
    lum_unit: str = eqx.field(static=True, default="Msun")
    mass_definition: str = eqx.field(static=True, default="vir")
    source: str = eqx.field(static=True, default="Behroozi et al. 2019")

    def mean_ln_lum(self, ln_mass, z):
        """ln M_star [ln Msun] at ln_mass [ln Msun] and z."""
        a = 1 / (1 + z)
        at = {
            name: zero + first * (a - 1) - log * jnp.log(a) + last * z
            for name, (zero, first, log, last) in _BEHROOZI19.items()
        }
        x = ln_mass / LN10 - at["log10_m1"]
        two = jnp.logaddexp(-LN10 * at["al"] * x, -LN10 * at["be"] * x) / LN10
        bump = 10 ** at["log10_ga"] * jnp.exp(-0.5 * (x / _BEHROOZI19_DE) ** 2)
        return LN10 * (at["log10_m1"] + at["eps"] - two + bump)

    def scatter_ln_lum(self, ln_mass, z):
        """Scatter of ln M_star, the same at all masses."""
        return self.scatter + 0 * ln_mass


LAWS = {
    "scatter_slope": ScatterSlope,
    "broken_power": BrokenPower,
    "moster13": Moster13,
    "behroozi19": Behroozi19,
}
"""Laws by the name that a preset gives."""
