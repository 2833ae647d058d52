"""The draws of a relation in ArviZ and GetDist: moments, weights, chains and labels as these programs give them."""

import dataclasses
import warnings

import jax
import numpy as np
import pytest

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.catalogue.relation_files import read_relation
from massmap_jax.errors import MassmapError
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.exports import resampled
from massmap_jax.relation.fit import fit_relation

NUM = 2000


@pytest.fixture(scope="module")
def plain():
    catalogue = HaloCatalogue.from_arrays(
        luminosity=[2500.0, 4200.0, 3100.0, 6800.0, 5200.0],
        redshift=[0.3, 0.5, 0.8, 1.1, 1.4],
        sigma_ln_luminosity=0.05,
        lum_unit="bigmali2017 luminosity unit",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit_relation(catalogue, MassPrior.default(), "bigmali2017", key=jax.random.key(0), num_draws=NUM)


@pytest.fixture(scope="module")
def weighted(plain):
    """Weights that move the mean of alpha2 by half its standard deviation, as those of a bad importance fit would."""
    score = (plain.draws.alpha2 - plain.mean["alpha2"]) / plain.sd["alpha2"]
    return dataclasses.replace(
        plain, draws=dataclasses.replace(plain.draws, log_weight=0.5 * score), method="importance"
    )


@pytest.fixture(scope="module")
def chained(plain):
    return dataclasses.replace(plain, num_chains=4, method="nuts")


def away(values, fit, p):
    """Of a mean, in standard deviations."""
    return abs(values - fit.mean[p]) / fit.sd[p]


def test_arviz_has_the_moments_of_weighted_draws(plain, weighted):
    """At the defaults of its summary; without the weights alpha2 would be half a standard deviation off."""
    arviz = pytest.importorskip("arviz", reason="ArviZ is an extra")
    assert away(plain.mean["alpha2"], weighted, "alpha2") > 0.4
    data = weighted.to_arviz()
    table = arviz.summary(data, round_to=10)
    for p in weighted.free:
        assert away(float(table.loc[p, "mean"]), weighted, p) < 0.01
        assert float(table.loc[p, "sd"]) == pytest.approx(weighted.sd[p], rel=0.02)
    told = data["posterior"].attrs
    assert told["weights"].startswith(f"resampled: {NUM} draws") and told["method"] == "importance"
    assert told["alpha3"] == float(weighted.maximum.alpha3) and told["mass_definition"] == "200m"


def test_arviz_keeps_chains_and_equal_draws(chained):
    pytest.importorskip("arviz", reason="ArviZ is an extra")
    data = chained.to_arviz()["posterior"]
    assert data.attrs["weights"] == "equal"
    np.testing.assert_array_equal(data["scatter"].values, np.reshape(chained.draws.scatter, (4, -1)))


def test_arviz_writes_a_file_that_is_read_as_a_relation(weighted, tmp_path):
    pytest.importorskip("arviz", reason="ArviZ is an extra")
    pytest.importorskip("h5py", reason="h5py is an extra")
    weighted.to_arviz().to_netcdf(tmp_path / "fit.nc")
    read = read_relation(tmp_path / "fit.nc", columns={"alpha3": 2.35e14})
    assert away(read["alpha2"].mean(), weighted, "alpha2") < 0.01


def test_resampling_takes_each_draw_as_often_as_its_weight_says():
    weights = np.array([0.0, 0.5, 0.1, 0.0, 0.4])
    counts = np.bincount(resampled(np.repeat(weights, 20) / 20), minlength=100).reshape(5, 20)
    assert counts[[0, 3]].sum() == 0
    assert abs(counts.sum(axis=1) - 100 * weights).max() <= 1
    assert (np.diff(resampled(weights)) >= 0).all()
    np.testing.assert_array_equal(resampled(np.full(7, 1 / 7)), np.arange(7))


def test_getdist_has_weights_and_chains(weighted, chained):
    pytest.importorskip("getdist", reason="GetDist is an extra")
    samples = weighted.to_getdist()
    for i, p in enumerate(weighted.free):
        assert away(samples.mean(p), weighted, p) < 1e-6
        assert samples.std(p) == pytest.approx(weighted.sd[p], rel=1e-6)
        assert samples.paramNames.list()[i] == p
    assert len(chained.to_getdist().getSeparateChains()) == 4
    assert chained.to_getdist().getGelmanRubin() < 0.05


def test_getdist_reads_the_chain_that_is_written(weighted, tmp_path):
    getdist = pytest.importorskip("getdist", reason="GetDist is an extra")
    weighted.write_getdist(tmp_path / "fit")
    samples = getdist.loadMCSamples(str(tmp_path / "fit"))
    assert samples.paramNames.list() == list(weighted.free)  # the others are fixed
    assert away(samples.mean("alpha2"), weighted, "alpha2") < 1e-6


def test_the_chain_is_read_as_a_relation(weighted, tmp_path):
    weighted.write_getdist(tmp_path / "fit")
    assert {path.name for path in tmp_path.iterdir()} == {"fit.txt", "fit.paramnames"}
    read = read_relation(tmp_path / "fit.txt")
    for p in ("alpha1", "alpha2", "alpha3", "alpha4", "scatter"):
        np.testing.assert_array_equal(read[p], np.broadcast_to(getattr(weighted.draws, p), NUM))
    weights = np.exp(read["log_weight"])
    np.testing.assert_allclose(weights / weights.sum(), weighted.weights, rtol=1e-6)
    assert (
        read["mass_definition"] == "200m"
        and read["lum_unit"] == "bigmali2017 luminosity unit"
        and read["evolution"] == "power"
    )


def test_a_chain_is_not_overwritten(weighted, tmp_path):
    (tmp_path / "fit.paramnames").write_text("mine")
    with pytest.raises(MassmapError, match=r"fit\.paramnames exists"):
        weighted.write_getdist(tmp_path / "fit")
    assert [path.name for path in tmp_path.iterdir()] == ["fit.paramnames"]


def test_notebooks_show_the_parameters(weighted):
    page = dataclasses.replace(weighted, selection="L > 3 & <all>")._repr_html_()
    assert "L &gt; 3 &amp; &lt;all&gt;" in page and "<all>" not in page
    assert page.count("<tr>") == 1 + len(weighted.free)
    assert "note: " in page and f"{weighted.mean['alpha2']:.5g}" in page
