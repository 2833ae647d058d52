"""The main job with the core packages alone: prior, relation, posterior, map, figure. Prints a summary.

Run by test_core_without_extras.py, as a program of its own, in an environment without the optional packages. Nothing
from tests is imported, so that it runs in an environment without pytest.
"""

import sys
import tempfile
import warnings
from pathlib import Path

OPTIONAL = {"hmf", "astropy", "pyarrow", "pandas", "typer", "click", "rich", "camb", "qp", "arviz", "healpy"}
OPTIONAL |= {"dask", "distributed", "lsdb"}


def main() -> None:
    for name in ("astropy", "hmf", "pyarrow", "pandas", "typer", "rich"):
        try:
            __import__(name)
        except ImportError:
            continue
        raise SystemExit(f"{name} can be imported here, so this run proves nothing")

    import jax
    import matplotlib
    import numpy as np

    matplotlib.use("Agg")
    import massmap_jax as mm
    from massmap_jax import plot
    from massmap_jax.maps.pixels import PixelGrid

    rng = np.random.default_rng(7)
    num = 300
    redshift = rng.uniform(0.1, 2.0, num)
    ln_mass = rng.normal(np.log(3e13), 0.7, num)
    prior = mm.MassPrior.default()
    relation = mm.MassLuminosityRelation.preset("bigmali2017")
    ln_lum = np.asarray(relation.mean_ln_lum(ln_mass, redshift)) + rng.normal(0, 0.16, num)
    catalogue = mm.HaloCatalogue.from_arrays(
        luminosity=np.exp(ln_lum),
        redshift=redshift,
        sigma_ln_luminosity=0.05,
        ra=150 + rng.uniform(-0.3, 0.3, num),
        dec=2 + rng.uniform(-0.3, 0.3, num),
        truth_mass=np.exp(ln_mass),
    )
    draws = mm.MassLuminosityRelation.preset_draws("bigmali2017", jax.random.key(1), 4)
    posterior = mm.mass_posterior(catalogue, prior, draws, relation_from="fixed_draws")
    assert np.isfinite(posterior.mean).all(), "a mean is not finite"
    assert np.corrcoef(posterior.mean, ln_mass)[0, 1] > 0.7, "masses do not follow the truth"

    grid = PixelGrid.fit(catalogue.ra, catalogue.dec)
    mass_map = mm.mass_map(jax.random.key(2), catalogue, prior, draws, grid, relation_from="fixed_draws", num_draws=20)
    assert int(np.sum(mass_map.nobj)) == num, "objects were lost from the map"

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = mm.fit_relation(catalogue, prior, "bigmali2017", num_draws=50)
    assert np.isfinite(fit.covariance).all(), "the fit has no covariance"
    assert 0 <= mm.prior_check(catalogue, prior, fit.maximum).p_value <= 1

    with tempfile.TemporaryDirectory() as folder:
        for name, figure in (
            ("posterior.png", plot.posterior_panel(posterior)),
            ("map.png", plot.mass_map_image(mass_map).figure),
            ("true.png", plot.predicted_vs_true(posterior).figure),
        ):
            figure.savefig(Path(folder) / name)
            assert (Path(folder) / name).stat().st_size > 1000
        prior.save(Path(folder) / "prior.npz")
        assert mm.MassPrior.load(Path(folder) / "prior.npz").mass_definition == "200m"

    try:
        mm.MassPrior.from_hmf()
    except mm.MassmapError as error:
        message = str(error)
    else:
        message = "it ran"
    assert "pip install" in message, f"from_hmf without hmf: {message}"

    loaded = sorted(OPTIONAL & {name.partition(".")[0] for name in sys.modules})
    assert not loaded, f"{loaded} were imported"
    print(f"core works: {num} halos, total {float(np.nansum(mass_map.mean)):.3e} Msun")


if __name__ == "__main__":
    main()
