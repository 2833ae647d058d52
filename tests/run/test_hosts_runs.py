"""`massmap-jax hosts`: host masses and map are those of the library, and one sentence where something is wrong."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
import warm_start
from pages_that_run import run_page

import massmap_jax as mm

NUMBER = 40
SATELLITES = {"norm": [-1.8, 1.0, -0.04], "ratio": 0.56, "slope_low": -1.1, "mass_definition": "200m"}
LAW = {"alpha1": 24.6, "alpha2": 0.35, "alpha3": 1e13, "alpha4": 0.0, "scatter": 0.35}
OTHERS = "Om0=0.3,Ob0=0.05,sigma8=0.8,n_s=0.95"
GIVEN = ("--relation", "relation.csv", "--relation-from", "fixed_draws", "--satellites", "satellites.json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("hosts")
    rng = np.random.default_rng(2)
    group = np.repeat(np.arange(NUMBER // 2), 2)
    is_central = np.tile([1, 0], NUMBER // 2)
    lum = 10 ** np.where(is_central, rng.uniform(10.6, 11, NUMBER), rng.uniform(10.1, 10.5, NUMBER))
    z = np.repeat(rng.uniform(0.05, 0.2, NUMBER // 2), 2)
    table = {"id": np.arange(NUMBER), "L": lum, "z": z, "central": is_central, "group": group}
    table |= {
        "p": np.where(is_central, 0.8, 0.3),
        "ra": rng.uniform(150, 150.3, NUMBER),
        "dec": rng.uniform(2, 2.3, NUMBER),
    }
    frame = pd.DataFrame(table)
    frame.to_csv(path / "g.csv", index=False, float_format="%.17g")
    frame.assign(p=frame["p"].where(frame["id"] != 3, 1.4)).to_csv(path / "odd.csv", index=False)
    pd.DataFrame([LAW, LAW | {"alpha1": 24.7}]).to_csv(path / "relation.csv", index=False)
    (path / "satellites.json").write_text(json.dumps(SATELLITES))
    (path / "broken.json").write_text('{"norm": [1.0], "rate": 2}')
    return path


def run(folder, *more, out="out", table="g.csv"):
    lum = ["--lum", "L", "--sigma", "0.1", "--sigma-kind", "ln"]
    return warm_start.run(["hosts", table, "--out", out, *lum, *more], folder)


def library(folder, membership, **more):
    catalogue = mm.read_catalogue(folder / "g.csv", lum="L", sigma=0.1, sigma_kind="ln")
    laws = {name: [value, 24.7 if name == "alpha1" else value] for name, value in LAW.items() if name != "alpha3"}
    relation = mm.MassLuminosityRelation.from_draws(**laws, alpha3=LAW["alpha3"])
    prior, satellites = mm.MassPrior.default(), mm.SchechterSatellites(**SATELLITES)
    told = {"membership": membership, "relation_from": "fixed_draws"}
    return mm.host_posterior(catalogue, prior, relation, satellites, **told, **more)


def test_galaxies_with_flags(folder):
    ran = run(folder, *GIVEN, "--is-central", "central", "--purity", "0.85", "--num-map-draws", "20", out="flags")
    assert ran.returncode == 0, ran.stderr
    found = pd.read_parquet(folder / "flags" / "hosts.parquet")
    own = library(folder, mm.Membership.from_flags(np.tile([1, 0], NUMBER // 2), purity=0.85))
    np.testing.assert_allclose(found["log10_host_mass_mean"] * np.log(10), own.mean, atol=1e-4)
    np.testing.assert_allclose(found["p_sat"], own.p_sat, atol=1e-4)
    unknown = library(folder, None)
    assert np.abs(unknown.p_sat - own.p_sat).max() > 0.1  # the twin: without the flags
    record = json.loads((folder / "flags" / "run.json").read_text())
    assert abs(record["expected_satellites"] - own.p_sat.sum()) < 1e-3
    assert set(record["files"]) >= {"hosts.parquet", "host_map.fits", "figures/host_map.png"}
    image = mm.read_map(folder / "flags" / "host_map.fits")
    key, grid = jax.random.split(jax.random.key(0))[1], mm.PixelGrid.fit(own.catalogue.ra, own.catalogue.dec)
    again = mm.host_map(key, own, grid, num_draws=20)
    np.testing.assert_allclose(image["mean"], np.asarray(again.mean), rtol=1e-4)
    assert "satellites expected among them" in ran.stdout


def test_groups_share_a_host(folder):
    asked = ("--is-central", "central", "--group", "group", "--lum-limit", "1e10", "--no-map")
    ran = run(folder, *GIVEN, *asked, out="groups")
    assert ran.returncode == 0, ran.stderr
    found = pd.read_parquet(folder / "groups" / "hosts.parquet")
    mean = found["log10_host_mass_mean"].to_numpy()
    assert (mean[::2] == mean[1::2]).all() and not (folder / "groups" / "host_map.fits").exists()
    membership = mm.Membership.from_groups(np.repeat(np.arange(NUMBER // 2), 2), np.tile([1, 0], NUMBER // 2))
    own = library(folder, membership, selection=mm.FluxLimit(1e10))
    np.testing.assert_allclose(mean * np.log(10), own.mean, atol=1e-4)


def test_a_bad_probability_is_counted(folder):
    ran = run(folder, *GIVEN, "--central-probability", "p", "--no-map", "--format", "csv", out="odd", table="odd.csv")
    assert ran.returncode == 0, ran.stderr
    found = pd.read_csv(folder / "odd" / "hosts.csv")
    assert np.isnan(found["p_sat"]).sum() == 1 and found["flag_reason"][3] == "MEMBERSHIP_BAD"
    assert "39 with a mass, 1 without" in ran.stdout


@pytest.mark.parametrize(
    "asked, words",
    [
        (("--satellites", "cacciato2009"), "--relation is needed"),
        (("--relation", "lc_cacciato09"), "--satellites is needed"),
        ((*GIVEN, "--is-central", "central"), "needs either --purity"),
        ((*GIVEN, "--is-central", "central", "--purity", "0.9", "--group", "group"), "needs either --purity"),
        ((*GIVEN, "--purity", "0.9"), "--purity needs --is-central"),
        ((*GIVEN, "--is-central", "central", "--group", "group"), "--group needs --lum-limit"),
        ((*GIVEN, "--lum-limit", "1e10"), "--lum-limit has no effect on galaxies one by one"),
        ((*GIVEN, "--central-probability", "p", "--is-central", "central"), "in two ways"),
        ((*GIVEN, "--central-fraction", "0.7"), "--central-fraction has no effect"),
        ((*GIVEN, "--no-map", "--pixel-arcmin", "1"), "--pixel-arcmin has no effect"),
        ((*GIVEN, "--central-probability", "q"), "'q'"),
        ((*GIVEN, "--is-central", "central", "--purity", "85"), "purity is 85"),
        ((*GIVEN[:4], "--satellites", "broken.json"), "broken.json does not hold the arguments"),
        ((*GIVEN[:4], "--satellites", "yang"), "'yang' is not known"),
        (("--relation", "lc_cacciato09", "--satellites", "cacciato2009"), "180m"),
    ],
)
def test_refused_in_one_sentence(folder, asked, words):
    ran = run(folder, *asked, out="refused")
    assert ran.returncode == 2 and words in ran.stderr and ran.stderr.count("\n") == 1, ran.stderr
    assert not (folder / "refused").exists()


def test_satellites_of_a_preset_belong_to_their_relation(folder):
    prior = replace(mm.MassPrior.default(), mass_definition="180m")
    prior.save(folder / "prior.npz")
    asked = (
        "--relation",
        "lc_cacciato09",
        "--satellites",
        "cacciato2009",
        "--prior",
        "prior.npz",
        "--lum-unit",
        "Lsun",
    )
    ran = run(folder, *asked, "--no-map", out="preset")
    assert ran.returncode == 0, ran.stderr
    record = json.loads((folder / "preset" / "run.json").read_text())
    assert "Cacciato" in record["satellites_source"] and record["mass_definition"] == "180m"
    assert "nothing is known of the galaxies' types" in ran.stdout


@pytest.mark.parametrize(
    ("cells", "words"),
    [(("C", "S"), ""), (("yes", "no"), ""), (("C", "X"), "'X'"), ((1, 2), "write 0 for 2")],
)
def test_flags_in_words_are_those_in_numbers(folder, cells, words):
    from massmap_jax.run.hosts import HostOptions
    from massmap_jax.run.membership_columns import read_membership

    frame = pd.read_csv(folder / "g.csv")
    frame.assign(kind=np.where(frame["central"] == 1, *cells)).to_csv(folder / "words.csv", index=False)
    options = HostOptions(is_central="kind", purity=0.85)
    if words:
        with pytest.raises(mm.MassmapError, match=words):
            read_membership(str(folder / "words.csv"), {}, options)
        return
    found = read_membership(str(folder / "words.csv"), {}, options)
    assert found.central.tolist() == mm.Membership.from_flags(frame["central"], purity=0.85).central.tolist()


@pytest.mark.parametrize(
    "name", ["is_sat", "SATELLITE", "p_sat", "f_sat", "satflag", "nsat", "flag_sat", "isSatellite", "SatProb"]
)
def test_columns_of_satellites_are_refused_for_centrals(folder, name):
    from massmap_jax.run.hosts import HostOptions
    from massmap_jax.run.membership_columns import read_membership

    frame = pd.read_csv(folder / "g.csv").assign(**{name: 0.2})
    frame.to_csv(folder / "satellites.csv", index=False)
    for options in (HostOptions(is_central=name, purity=0.9), HostOptions(central_probability=name)):
        with pytest.raises(mm.MassmapError, match="by its name of satellites"):
            read_membership(str(folder / "satellites.csv"), {}, options)


@pytest.mark.parametrize(
    ("column", "values", "given"),
    [
        ("RankIterCen", (1, 2), "RankIterCen=1"),  # GAMA
        ("upid", (-1, 77), "upid=-1"),  # Rockstar
        ("type", (0, 1), "type=0"),
        ("SubGroupNumber", (0, 3), "SubGroupNumber = 0"),  # EAGLE
        ("role", ("BCG", "member"), "role=bcg"),
        ("is_sat", (False, True), "is_sat=False"),
    ],
)
def test_one_value_of_a_column_means_central(folder, column, values, given):
    """Ranks, types and host ids of group finders and simulations are flags by the value that centrals have."""
    from massmap_jax.run.hosts import HostOptions
    from massmap_jax.run.membership_columns import read_membership

    frame = pd.read_csv(folder / "g.csv")
    central = frame["central"] == 1
    kinds = pd.Series(np.where(central, *values), dtype=object)
    kinds[4] = np.nan
    frame.assign(**{column: kinds}).to_csv(folder / "kinds.csv", index=False)
    found = read_membership(str(folder / "kinds.csv"), {}, HostOptions(is_central=given, purity=0.85))
    wanted = np.where(central, 0.85, 0.15)
    wanted[4] = np.nan
    np.testing.assert_array_equal(np.round(found.central, 12), np.round(wanted, 12))
    with pytest.raises(mm.MassmapError, match=r"no row of .* has that value; among others there are"):
        read_membership(str(folder / "kinds.csv"), {}, HostOptions(is_central=f"{column}=9", purity=0.85))


def test_the_probability_of_a_satellite_is_taken_from_1(folder):
    from massmap_jax.run.hosts import HostOptions
    from massmap_jax.run.membership_columns import read_membership

    frame = pd.read_csv(folder / "g.csv").assign(P_sat=lambda f: np.linspace(0, 1, len(f)))
    frame.to_csv(folder / "probabilities.csv", index=False)
    for given in ("1-P_sat", "1 - p_sat"):
        found = read_membership(str(folder / "probabilities.csv"), {}, HostOptions(central_probability=given))
        np.testing.assert_allclose(found.central, 1 - frame["P_sat"])
    with pytest.raises(mm.MassmapError, match="give central_probability='1-P_sat'"):
        read_membership(str(folder / "probabilities.csv"), {}, HostOptions(central_probability="P_sat"))
    frame.assign(rank=3).to_csv(folder / "rank.csv", index=False)
    with pytest.raises(mm.MassmapError, match="is_central='rank=1' takes those with a 1"):
        read_membership(str(folder / "rank.csv"), {}, HostOptions(is_central="rank", purity=0.9))


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("P", True),
        ("PFREE", True),
        ("p_mem", True),
        ("pmember", True),
        ("type", True),
        ("gal_type", True),
        ("cen", False),
    ],
)
def test_columns_of_members_and_numbers_of_types(folder, name, refused):
    from massmap_jax.run.hosts import HostOptions
    from massmap_jax.run.membership_columns import read_membership

    pd.read_csv(folder / "g.csv").assign(MEM_MATCH_ID=5, **{name: 1}).to_csv(folder / "types.csv", index=False)
    options = HostOptions(is_central=name, purity=0.9)
    if not refused:
        assert read_membership(str(folder / "types.csv"), {}, options) is not None
        return
    with pytest.raises(mm.MassmapError, match=r"by its name .*of members|numbers of a type by its name"):
        read_membership(str(folder / "types.csv"), {}, options)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (mm.Membership.from_flags([1, 0, 1], purity=0.9), ()),
        (mm.Membership.from_flags([0, 0, 0], purity=0.9), ("all 3 galaxies are more likely satellites",)),
        (mm.Membership.from_probability([1.0, 0.0, 1.0]), ("types of all galaxies are taken as certain",)),
        (mm.Membership.from_probability([0.7, 0.2, np.nan]), ()),
        (mm.Membership.from_groups(["A", "A", "B"], [1, 0, 1]), ()),
        (mm.Membership.from_groups([0, 0, 7], [1, 1, 1]), ("2 of which are in no group",)),
        (None, ()),
    ],
)
def test_what_is_told_of_types(given, words):
    from massmap_jax.run.hosts import _told_of_types

    found = _told_of_types(given)
    assert len(found) == len(words) and all(word in one for word, one in zip(words, found, strict=True)), found


def test_luminosities_of_no_halo_are_refused(folder):
    """Luminosities in 1e10 Lsun beside a relation in Lsun, where masses of 10^15 Msun came out."""
    pd.read_csv(folder / "g.csv").assign(L=lambda table: table["L"] / 1e10).to_csv(folder / "faint.csv", index=False)
    ran = run(folder, *GIVEN, out="refused", table="faint.csv")
    assert ran.returncode == 2 and "median luminosity of the galaxies is" in ran.stderr and "fainter" in ran.stderr


def test_apparent_magnitudes_take_their_distances_from_the_cosmology(folder):
    """The program reads luminosities of the cosmology asked for: 5 log10(70 / 50) magnitudes apart at any redshift."""
    frame = pd.read_csv(folder / "g.csv").drop(columns=["central", "group", "p"])
    frame.assign(mag=17.0 + frame["z"]).to_csv(folder / "mag.csv", index=False)
    given = ("--magnitudes", "apparent", "--mag-zero", "4.65", "--cosmology", f"H0=50,{OTHERS}", "--no-map")
    asked = ["hosts", "mag.csv", "--out", "mag50", "--lum", "mag", "--sigma", "0.1", "--sigma-kind", "ln"]
    ran = warm_start.run([*asked, *given, *GIVEN], folder)
    assert ran.returncode == 0, ran.stderr
    columns = json.loads((folder / "mag50" / "run.json").read_text())["columns"]
    of_run, other = (
        mm.read_catalogue(folder / "mag.csv", **columns | told).ln_lum_obs
        for told in ({}, {"cosmology": f"H0=70,{OTHERS}"})
    )
    # To the radiation, of which more is in the lesser critical density.
    assert of_run - other == pytest.approx(2 * np.log(70 / 50), abs=1e-4)
    told = pd.read_parquet(folder / "mag50" / "hosts.parquet")["ln_lum_obs"].to_numpy()
    assert told == pytest.approx(of_run)


def test_the_tutorial_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).resolve().parents[2] / "docs" / "tutorial_satellites.md"
    run_page(page.read_text(encoding="utf-8"), tmp_path)
