"""A fit that does not describe its catalogue: exit code 3 and nothing written, or a warning on top of every file."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import warm_start
from astropy.io import fits
from astropy.table import Table

from massmap_jax.catalogue.read import read_catalogue
from massmap_jax.errors import MisfitError
from massmap_jax.run.misfit import (
    CHECK_LEVEL,
    CONFLICT_SD,
    CONTRADICTION_LEVEL,
    EDGE_SHARE,
    SHIFT_SD,
    misfits,
    paragraph,
    refuse,
)

WARNING = "MISFIT ACCEPTED BY THE USER"


def fitted(**changes):
    """A fit without any sign of a misfit."""
    good = {
        "mean": {"alpha1": 1.0, "alpha2": 1.0},
        "sd": {"alpha1": 0.1, "alpha2": 0.1},
        "prior_mean": {"alpha1": 1.0, "alpha2": 1.0},
        "prior_sd": {"alpha1": 1.0, "alpha2": 1.0},
        "shift_if_lowest_mass_doubles": {"alpha1": 0.0, "alpha2": 0.0},
        "diagnostics": {},
    }
    return SimpleNamespace(**good | changes)


def prior(support="extend"):
    return SimpleNamespace(support=support, ln_mass_min=23.0, ln_mass_max=37.0)


def posterior(leaning, number=100):
    flag = np.zeros(number, dtype=int)
    from massmap_jax.catalogue.flags import Flag

    flag[number - leaning :] = int(Flag.EDGE)
    return SimpleNamespace(flag=flag, usable=np.ones(number, dtype=bool))


def against(p_value):
    return {"p_value": p_value, "name": "alpha1", "found": 5.1, "error": 0.3}


def checked(p_value):
    return SimpleNamespace(p_value=p_value, p_place=p_value, mean_pit=0.4)


@pytest.mark.parametrize(("error", "loose"), [(0.4, True), (0.1, False)])
def test_a_slope_that_may_be_0_is_the_first_cause(error, loose):
    """A luminosity limit and beliefs as loose as slope 1 +- 0.5 gave 300 clusters such a fit, and other causes."""
    fit = fitted(sd={"alpha1": 1.8, "alpha2": error})
    for found in (misfits(prior(), fit, checked(1e-6)), misfits(prior(), fit, None, posterior(100))):
        assert ("(1) slope and scatter are hardly believed in" in paragraph(found)) == loose


@pytest.mark.parametrize(
    ("name", "first"), [("alpha4", "at one mass change with redshift"), ("alpha1", "--calib-mass")]
)
def test_an_evolution_that_was_not_believed_is_no_wrong_unit(name, first):
    """31 clusters from shells in redshift, each with a limit in luminosity, asked for (1 + z)^20."""
    wrong = fitted(num_calibrators=31, diagnostics={"against_beliefs": against(1e-6) | {"name": name}})
    for of in (wrong.mean, wrong.sd, wrong.prior_mean, wrong.prior_sd):
        of.setdefault(name, 1.0)
    cause = paragraph(misfits(prior(), wrong)).partition("(1) ")[2].partition("; (2)")[0]
    assert first in cause and ("alpha4=0" in cause) == (name == "alpha4")


def just_above(limit):
    return limit * 1.01


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        (
            {"fit": fitted(mean={"alpha1": 1 + CONFLICT_SD * 0.99, "alpha2": 1.0})},
            {"fit": fitted(mean={"alpha1": 1 + just_above(CONFLICT_SD), "alpha2": 1.0})},
            ("alpha1 = 6.05", "5 standard deviations of its prior from 1"),
        ),
        (
            {"fit": fitted(mean={"alpha1": 1.0, "alpha2": 0.01})},
            {"fit": fitted(mean={"alpha1": 1.0, "alpha2": -0.01})},
            ("alpha2 = -0.01", "the other sign"),
        ),
        (
            {"fit": fitted(shift_if_lowest_mass_doubles={"alpha1": 0.0, "alpha2": -0.1 * SHIFT_SD * 0.99})},
            {"fit": fitted(shift_if_lowest_mass_doubles={"alpha1": 0.0, "alpha2": -0.1 * just_above(SHIFT_SD)})},
            ("no selection was given", "alpha2 moves by -3.0 of its errors"),
        ),
        (
            {"fit": fitted(shift_if_lowest_mass_doubles={"alpha1": 0.0, "alpha2": 0.0})},
            {"fit": fitted(shift_if_lowest_mass_doubles={"alpha1": np.nan, "alpha2": 0.0})},
            ("alpha1 moves by +nan",),
        ),
        (
            {"fit": fitted(diagnostics={"against_beliefs": against(CONTRADICTION_LEVEL)})},
            {"fit": fitted(diagnostics={"against_beliefs": against(0.9 * CONTRADICTION_LEVEL)})},
            ("the data ask for alpha1 = 5.1 +- 0.3", "where 1 +- 1 was believed", "p = 1.4e-05"),
        ),
        (
            {"fit": fitted()},
            {"fit": fitted(diagnostics={"against_beliefs": against(float("nan"))})},
            ("the data ask for alpha1",),
        ),
        (
            {"check": checked(just_above(CHECK_LEVEL))},
            {"check": checked(CHECK_LEVEL * 0.99)},
            ("p = 9.9e-05", "mean PIT 0.400"),
        ),
        (
            {"posterior": posterior(int(100 * EDGE_SHARE))},
            {"posterior": posterior(int(100 * EDGE_SHARE) + 1)},
            ("11 of 100 objects lean on the edge", "first row 89"),
        ),
    ],
)
def test_each_sign_at_its_limit(right, wrong, words):
    """On one side of its limit there is no finding, on the other there is this one and no other."""

    def found(how):
        return misfits(prior(), how.get("fit", fitted()), how.get("check"), how.get("posterior"))

    assert found(right) == []
    (finding,) = found(wrong)
    assert not [word for word in words if word not in finding.what], finding.what
    assert finding.causes


def test_a_sharp_end_of_the_prior_may_carry_the_fit():
    moved = fitted(shift_if_lowest_mass_doubles={"alpha1": 9.0, "alpha2": 0.0})
    assert misfits(prior("sharp"), moved) == [] and len(misfits(prior("extend"), moved)) == 1
    assert misfits(prior(), fitted(shift_if_lowest_mass_doubles=None)) == []


def test_a_shape_alone_is_no_reason_to_write_nothing():
    """The twin, masses or luminosities that lie elsewhere, is among the signs above."""
    shape = SimpleNamespace(p_value=1e-9, p_place=0.5, mean_pit=0.5, in_place=True, fits=False)
    assert misfits(prior(), fitted(), shape, calibrators=shape) == []


def test_the_paragraph_says_what_why_and_what_to_do():
    findings = misfits(prior(), fitted(mean={"alpha1": 90.0, "alpha2": -1.0}), checked(1e-9))
    text = paragraph(findings)
    assert len(findings) == 3 and all(finding.what in text for finding in findings)
    numbers = [int(number) for number in re.findall(r"\((\d)\)", text.partition("Likely causes")[2])]
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) == 4  # each cause once
    assert all(word in text for word in ("Nothing was written", "--accept-misfit", "massmap-jax relations"))
    with pytest.raises(MisfitError, match="does not describe this catalogue"):
        refuse(findings)
    refuse([])


def test_measured_masses_that_do_not_fit_are_looked_for_by_their_options():
    """Where masses were measured, the lowest mass of the prior is not to blame, and to calibrate is no advice."""
    wrong = fitted(mean={"alpha1": 90.0, "alpha2": 1.0}, num_calibrators=50, shift_if_lowest_mass_doubles=None)
    text = paragraph(misfits(prior(), wrong))
    assert "--calib-unit" in text and "lowest mass" not in text and "calibrate it on" not in text


def test_what_was_done_to_the_unit_is_told_beside_the_cause_that_it_may_be():
    """An error shows no notes, and `--lum-unit 1e44erg/s` alone is what put alpha1 34 errors off."""
    wrong = misfits(prior(), fitted(mean={"alpha1": 90.0, "alpha2": 1.0}))
    told = "luminosity: multiplied by 1e+44, the scale in its unit, to erg/s; lum_in='1e44erg/s' keeps"
    text = paragraph(wrong, ["redshift column: guessed 'z'", told])
    assert f"--lum-in); {told}" in text and "guessed" not in text
    assert told not in paragraph(misfits(prior(), fitted(), checked(1e-9))[:0] + wrong)
    with pytest.raises(MisfitError, match="multiplied by 1e"):
        refuse(wrong, [told])


# -- the program -------------------------------------------------------------------------------------------------------

BELIEFS = "alpha1={}:0.3,alpha2=1:0.1,alpha4=0,scatter=0.2:0.05,alpha3=1e14"
SMALL = ["--prior-support", "sharp", "--num-map-draws", "4", "--format", "fits", "--no-figures"]


def program(folder, *args):
    return warm_start.run(args, folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Luminosities far above those that a relation's prior with alpha1 = 0 predicts."""
    path = tmp_path_factory.mktemp("misfit")
    rng = np.random.default_rng(8)
    table = {"ra": rng.uniform(10, 10.3, 80), "dec": rng.uniform(0, 0.3, 80), "z": rng.uniform(0.1, 0.6, 80)}
    pd.DataFrame(table | {"lum": rng.lognormal(9.0, 0.5, 80)}).to_csv(path / "in.csv", index=False)
    return path


def arguments(command, out, *more):
    common = [command, "in.csv", "--out", out, "--sigma", "0.1", "--relation-prior", BELIEFS.format(2)]
    few = [arg for arg in SMALL if command == "run" or arg in ("--prior-support", "sharp", "--no-figures")]
    return [*common, *few, *more]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["run", "fit"])
def test_a_misfit_ends_with_3_and_writes_nothing(command, folder):
    before = sorted(folder.iterdir())
    ran = program(folder, *arguments(command, "refused"))
    assert ran.returncode == 3, ran.stdout + ran.stderr
    assert ran.stdout == "" and ran.stderr.count("\n") == 1 and "Traceback" not in ran.stderr
    said = ("error: the fitted relation does not describe this catalogue", "Likely causes", "(1)", "--accept-misfit")
    assert not [word for word in said if word not in ran.stderr], ran.stderr
    assert sorted(folder.iterdir()) == before


@pytest.mark.slow
def test_a_unit_that_is_not_that_of_the_prior(tmp_path):
    """L500 in 1e37 W, a prior for 1e44 erg/s as in docs/quickstart.md: what was done is said, and what to give."""
    rng = np.random.default_rng(1)
    light = rng.lognormal(0.5, 0.4, 60)
    table = Table({"z": rng.uniform(0.1, 0.4, 60), "L500": light, "L500_err": 0.1 * light})
    table["L500"].unit = table["L500_err"].unit = "1e37 W"
    table.write(tmp_path / "clusters.fits")
    found = read_catalogue(tmp_path / "clusters.fits", lum="L500", sigma="L500_err", sigma_kind="linear")
    assert 84 < found.ln_lum_obs.mean() < 87
    assert (
        "luminosity: multiplied by 1e+37, the scale in its unit, to W; lum_in='1e+37 W' keeps the numbers as they are"
        in found.notes
    )
    asked = {"lum": "L500", "sigma": "L500_err", "sigma_kind": "linear", "lum_in": "1e44 erg/s"}
    inside = read_catalogue(tmp_path / "clusters.fits", **asked)
    np.testing.assert_allclose(inside.ln_lum_obs, np.log(light), rtol=1e-9)
    assert not any("keeps the numbers" in note for note in inside.notes)
    beliefs = "alpha1=0:5,alpha2=1:0.5,alpha4=0:1,scatter=0.3:0.2,alpha3=1e14"
    common = ["fit", "clusters.fits", "--out", "out", "--lum", "L500", "--sigma", "L500_err", "--sigma-kind", "linear"]
    ran = program(tmp_path, *common, "--relation-prior", beliefs, "--no-figures")
    # Before the fit.
    assert ran.returncode in (2, 3), ran.stdout + ran.stderr
    assert re.search("unit of the luminosity|--lum-in", ran.stderr) and "e+35 times brighter" in ran.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_an_accepted_misfit_is_written_on_top_of_everything(folder):
    ran = program(folder, *arguments("run", "accepted", "--accept-misfit"))
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(f"warning: {WARNING}")
    out = folder / "accepted"
    record = json.loads((out / "run.json").read_text())
    assert record["misfits"] and record["warning"].startswith(WARNING)
    assert all(what in record["warning"] for what in record["misfits"])
    page = (out / "report.html").read_text()
    box, first = page.index('<div class="misfit">'), page.index("<section")
    assert box < first and "do not use them as measurements" in page[box:first]
    for name in ("masses.fits", "mass_map.fits"):
        with fits.open(out / name) as file:
            cards = "".join(str(value) for hdu in file for value in hdu.header.values())
            assert WARNING in cards, name
    assert WARNING in (out / "relation.csv-metadata.json").read_text()
    again = program(folder, *arguments("fit", "accepted_fit", "--accept-misfit"))
    assert again.returncode == 0, again.stderr
    assert json.loads((folder / "accepted_fit" / "run.json").read_text())["warning"].startswith(WARNING)


@pytest.mark.parametrize(("mean_pit", "says"), [(0.999, "was not tested"), (0.3, "fainter than those")])
def test_a_given_relation_and_selected_objects(mean_pit, says, monkeypatch):
    """Brighter objects tell nothing of a given relation, and are no problem in the report; fainter ones do, and are."""
    from massmap_jax.run import job
    from massmap_jax.run.clock import Clock
    from massmap_jax.run.report import _problems

    monkeypatch.setattr(job, "prior_check", lambda *a, **k: SimpleNamespace(p_value=1e-9, mean_pit=mean_pit))
    notes = []
    job._check_given(None, None, None, None, notes, Clock())
    assert len(notes) == 1 and says in notes[0]
    record = {"fit": None, "prior_check": {"p_value": 1e-9, "mean_pit": mean_pit}, "rows": 10, "flags": {}}
    assert bool(_problems(record)) is (mean_pit < 0.5)
    assert _problems(record | {"fit": {"problems": []}})
