"""A limit that is far below all luminosities is in another unit, or a logarithm."""

import numpy as np
import pytest

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.selection import FluxLimit, NoSelection, RedshiftLimit
from massmap_jax.run.beside_limit import check_limit

N = 40
Z = np.linspace(0.1, 0.5, N)
CATALOGUE = HaloCatalogue.from_arrays(luminosity=1e10 * (1.0 + np.arange(N)), redshift=Z, sigma_ln_luminosity=0.05)


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        (FluxLimit(8e9), ""),
        (FluxLimit(3e9), ""),
        (FluxLimit(5e8), "told"),
        (FluxLimit(9.9), "refused"),
        (RedshiftLimit.tabulated([0.05, 1.0], [5e9, 1e10]), ""),
        (RedshiftLimit.tabulated([0.05, 1.0], [5e-34, 1e-33]), "refused"),
        (NoSelection(), ""),
        (None, ""),
    ],
)
def test_limits_far_below_all_luminosities(limit, told):
    notes = []
    if told == "refused":
        with pytest.raises(MassmapError, match=r"the faintest of 40 objects, row 0, is .* times above the limit"):
            check_limit(limit, CATALOGUE, notes)
        return
    check_limit(limit, CATALOGUE, notes)
    assert bool(notes) is (told == "told")
    check_limit(limit, CATALOGUE.subset(np.arange(5)), few := [])
    assert not few
