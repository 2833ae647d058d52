"""What a MassPosterior gives to other programs, read by them: astropy, pandas, qp; its rows; its page in a notebook."""

import re

import jax
import numpy as np
import pandas as pd
import pytest
from astropy.io.votable.ucd import check_ucd
from astropy.table import Table

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.catalogue.read import read_catalogue
from massmap_jax.likelihood.terms import TabulatedTerm
from massmap_jax.posterior.columns import KNOWN_COLUMNS, column_info
from massmap_jax.posterior.mass_posterior import mass_posterior
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.law import MassLuminosityRelation

IDS = ["Böhringer <1>", "B & C", "c", "d"]
KEY = jax.random.key(2)
PRIOR = MassPrior.default()
RELATION = MassLuminosityRelation.create(
    alpha1=[0.0, 0.1], alpha2=1.0, alpha3=1e14, scatter=0.2, lum_unit="1e44 erg/s", source="made up"
)


def catalogue(**changes):
    given = {"luminosity": [1.0, 3.0, -99.0, 2.0], "redshift": [0.1, 0.2, 0.3, 0.4], "ids": IDS}
    place = {"ra": [1.0, 2.0, 3.0, 4.0], "dec": [0.0, 1.0, 2.0, 3.0]}
    return HaloCatalogue.from_arrays(
        **given | place | {"lum_unit": "1e44 erg/s", "sigma_ln_luminosity": 0.05} | changes
    )


@pytest.fixture(scope="module")
def posterior():
    return mass_posterior(catalogue(), PRIOR, RELATION, relation_from="fixed_draws")


def test_every_column_is_described(posterior):
    table = posterior.to_table()
    told = column_info(table)
    assert set(told["descriptions"]) == set(table)
    assert "0.025 of log10" in told["descriptions"]["log10_mass_q025"]
    assert set(told["ucds"]) >= {name for name in table if "mass" in name}
    assert column_info(["of the catalogue's own"]) == {"units": {}, "descriptions": {}, "ucds": {}}


def test_ucds_are_words_of_the_standard():
    ucds = column_info([*KNOWN_COLUMNS, "log10_mass_q16", "log10_mass_q50"])["ucds"]
    assert ucds["log10_mass_q50"] == "phys.mass;stat.median"
    assert not [ucd for ucd in ucds.values() if not check_ucd(ucd, check_controlled_vocabulary=True)]


@pytest.mark.parametrize("suffix", ["ecsv", "parquet", "vot", "fits"])
def test_to_astropy_is_written_by_astropy_and_read_again(posterior, tmp_path, suffix):
    table = posterior.to_astropy()
    assert table["id"].tolist() == IDS and str(table["ra"].unit) == "deg"
    assert table["z"].meta == {"ucd": "src.redshift"}
    assert table.meta["relation_source"] == "made up" and table.meta["luminosity_unit"] == "1e44 erg/s"
    assert "base 10" in table.meta["logarithms"] and "natural" in table.meta["logarithms"]
    np.testing.assert_array_equal(table["mass_mean"], posterior.mean_mass)
    if suffix == "fits":
        table["id"] = np.arange(4)  # FITS is ASCII
    path = tmp_path / f"masses.{suffix}"
    table.write(path, **({"format": "votable"} if suffix == "vot" else {}))
    back = Table.read(path)
    np.testing.assert_array_equal(back["log10_mass_q16"], posterior.quantiles[:, 1] / np.log(10))
    assert str(back["mass_mean"].unit) == "solMass"


def test_to_pandas(posterior, tmp_path):
    frame = posterior.to_pandas(["id", "log10_mass_mean", "mass_mean"])
    assert list(frame.columns) == ["id", "log10_mass_mean", "mass_mean"] and frame["id"].tolist() == IDS
    assert frame.attrs["units"] == {"mass_mean": "solMass"}
    assert frame.attrs["relation_from"] == "fixed_draws"
    frame.to_parquet(tmp_path / "masses.parquet")
    assert pd.read_parquet(tmp_path / "masses.parquet").attrs == frame.attrs


@pytest.mark.parametrize("as_bytes", [False, True])
def test_ids_of_a_data_frame_are_text(as_bytes):
    names = pd.Series([b"A", b"B"] if as_bytes else ["A", "B"])
    objects = read_catalogue(pd.DataFrame({"name": names, "L": [1.0, 2.0], "z": [0.1, 0.2]}), lum="L", z="z", id="name",
                             sigma=0.1, lum_unit="1e44 erg/s", lum_in="1e44 erg/s")  # fmt: skip
    ids = mass_posterior(objects, PRIOR, RELATION, relation_from="fixed_draws").to_table()["id"]
    assert ids.tolist() == ["A", "B"]


def test_to_qp_keeps_the_ids(posterior, tmp_path):
    qp = pytest.importorskip("qp", reason="qp is an extra")
    ensemble = posterior.to_qp()
    usable = np.flatnonzero(posterior.usable)
    assert usable.tolist() == [0, 1, 3]
    for level in (0.05, 0.5, 0.9):
        # Linear between quantiles 0.01 apart.
        np.testing.assert_allclose(ensemble.ppf(level).ravel(), posterior.quantile(level)[usable, 0], atol=1e-6)
    mass = posterior.mean + 0.3 * posterior.sd
    np.testing.assert_allclose(ensemble.cdf(mass[usable, None]).ravel(), posterior.cdf(mass)[usable], atol=2e-3)
    ensemble.write_to(str(tmp_path / "masses.hdf5"))
    back = qp.read(str(tmp_path / "masses.hdf5"))
    assert list(back.ancil["id"]) == [IDS[row] for row in usable] and list(back.ancil["row"]) == usable.tolist()


@pytest.mark.parametrize("rows", [1, -1, slice(1, 3), [3, 0], np.array([True, False, False, True])])
def test_rows_of_a_posterior_are_a_posterior(posterior, rows):
    some = posterior[rows]
    chosen = np.atleast_1d(np.arange(4)[rows])
    assert len(some) == len(some.catalogue) == chosen.size and some.ids.tolist() == [IDS[row] for row in chosen]
    for name, values in some.to_table().items():
        np.testing.assert_array_equal(values, posterior.to_table()[name][chosen])
    np.testing.assert_array_equal(some.sample(KEY, 5), posterior.sample(KEY, 5)[chosen])
    np.testing.assert_array_equal(some.quantile(0.3), posterior.quantile(0.3)[chosen])


def test_rows_without_ids_keep_their_random_numbers():
    posterior = mass_posterior(catalogue(ids=None), PRIOR, RELATION, relation_from="fixed_draws")
    np.testing.assert_array_equal(posterior[3].sample(KEY, 5), posterior.sample(KEY, 5)[3:])


def test_rows_with_a_likelihood_of_their_own():
    nodes = np.linspace(30.0, 34.0, 9)
    extra = TabulatedTerm(nodes, -0.5 * (nodes - np.array([[31.0], [32.0], [32.0], [33.0]])) ** 2)
    posterior = mass_posterior(catalogue(), PRIOR, RELATION, relation_from="fixed_draws", extra=extra)
    np.testing.assert_allclose(posterior[[3, 1]].quantile(0.5), posterior.quantile(0.5)[[3, 1]], rtol=1e-6)


def test_rows_of_a_surface():
    posterior = mass_posterior(
        catalogue(luminosity=[1.0, 3.0, 2.5, 2.0]), PRIOR, RELATION, relation_from="fixed_draws", method="surface"
    )
    assert posterior.num_beside_surface == 0
    assert posterior[1:].num_beside_surface == 0 and "0 rows outside" in posterior[1:].summary()


def test_posteriors_are_iterated_over_and_end(posterior):
    assert [one.ids[0] for one in posterior] == IDS
    with pytest.raises(IndexError):
        posterior[4]


def test_notebooks_show_a_table_and_no_markup_of_others(posterior):
    page = posterior._repr_html_()
    assert "Böhringer &lt;1&gt;" in page and "B &amp; C" in page and "<1>" not in page
    assert page.count("<tr>") == 1 + 4 and "LUM_SENTINEL" in page
    assert "3 with a mass" in re.sub("<.*?>", " ", page)
    assert "4 of 4 rows" in page
