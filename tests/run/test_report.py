"""The page about a run: whatever the catalogue's names hold, it stays one page; citations follow the options."""

from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest

from massmap_jax.run.citations import citations
from massmap_jax.run.options import JobOptions, PriorOptions
from massmap_jax.run.report import html_report

HOSTILE = '<script>alert("1 & 2")</script>'


def record(**changes):
    known = {
        **{"program": "massmap-jax", "version": "0.1", "mass_definition": "200m", "mass_unit": "Msun without h"},
        **{"prior": "a table", "relation": "draws.csv", "relation_source": "draws.csv", "relation_from": "fixed_draws"},
        **{
            "selection": "none",
            "method": "analytic",
            "seed": 3,
            "luminosity_unit": "unknown",
            "device": {"kind": "cpu", "platform": "cpu", "count": 1},
        },
        **{
            "float64": False,
            "versions": {"jax": "0.10"},
            "rows": 3,
            "rows_with_mass": 2,
            "notes": [],
            "map": None,
            "convergence": None,
        },
        **{"flags": {"LUM_MISSING": 1}, "fit": None, "median_sd_log10_mass": 0.1, "catalogue": "a.csv"},
        "options": asdict(JobOptions()),
    }
    return known | changes


def result(truth=None):
    mass = np.array([14.2, np.nan, 13.1])
    columns = {"id": np.array(["one", "bad", HOSTILE]), "z": np.array([0.3, np.nan, 0.6])}
    columns |= {"log10_mass_mean": mass, "log10_mass_sd": np.full(3, 0.1)}
    columns |= {f"log10_mass_{q}": mass + d for q, d in {"q025": -0.2, "q16": -0.1, "q84": 0.1, "q975": 0.2}.items()}
    relation = SimpleNamespace(num_draws=2, alpha1=np.array([10.0, 10.2]), scatter=np.array([0.1, 0.1]))
    posterior = SimpleNamespace(relation=relation, catalogue=SimpleNamespace(truth_ln_mass=truth))
    return SimpleNamespace(table=lambda: columns, posterior=posterior)


def test_names_are_text():
    """Markup in a catalogue's name, its ids and the notes is shown, not obeyed."""
    page = html_report(record(catalogue=HOSTILE, notes=[HOSTILE], columns={"lum": HOSTILE}), result(), {})
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 5  # title, heading, note, column, id
    assert "luminosity missing" in page and "10.1 ± 0.1" in page


def test_an_extrapolation_of_a_published_relation_is_in_the_box():
    """Where most objects are beyond what it was measured for, and not where few are."""
    for number, told in ((2, True), (1, False)):
        page = html_report(record(flags={"OUTSIDE_RELATION": number}), result(), {})
        assert ("2 of 3 objects lie outside the masses or redshifts" in page) is told
        assert ('class="problems"' in page) is told


def test_coverage_is_of_known_truths():
    """Of the three rows one has no mass; the two others: one truth inside both intervals, one inside the wider."""
    page = html_report(record(), result(truth=np.log(10) * np.array([14.25, 13.0, 13.25])), {})
    assert "2 objects with a true mass" in page
    assert "<td>68 %</td><td>50.00 %</td>" in page and "<td>95 %</td><td>100.00 %</td>" in page
    assert "Against the true masses" not in html_report(record(), result(truth=np.full(3, np.nan)), {})


def test_measured_masses_and_where_they_are_from():
    fit = {"mean": {"alpha1": 1.0}, "sd": {"alpha1": 0.1}, "prior_sd": {"alpha1": 3.0}, "prior_mean": {"alpha1": 0.0}}
    fit |= {"objects": 40, "method": "laplace", "alpha3": 3e14, "selection": "none", "problems": []}
    check = {"calibrators": 40, "chosen_by": "random", "shared_error_ln_mass": 0.05, "p_value": 0.3, "left_out": ""}
    told = {
        "fit": fit,
        "calibrators_check": check | {"mass_definition": "200m"},
        "prior_check": {"summary": "it fits", "p_value": 0.5},
    }
    for path, shown in ((HOSTILE, "&lt;script&gt;"), (None, "from the catalogue")):
        page = html_report(record(**told, options=asdict(JobOptions(calib_file=path))), result(), {})
        assert "Calibrated on 40 measured masses" in page and "The masses (200m) are from" in page
        assert shown in page and "<script" not in page
    told["calibrators_check"]["left_out"] = "only masses at given luminosity were checked: <chosen>"
    page = html_report(record(**told), result(), {})
    assert "p = 0.3 (only masses at given luminosity were checked: &lt;chosen&gt;). The masses" in page


def test_no_object_with_a_mass():
    empty = result()
    empty.table()["log10_mass_mean"][:] = np.nan
    page = html_report(record(rows_with_mass=0, median_sd_log10_mass=None), empty, {})
    assert "No object has a mass" in page


@pytest.mark.parametrize(
    ("options", "fit", "words"),
    [
        (JobOptions(cosmology_draws="planck18"), None, ("doi:10.1051/0004-6361/201833910",)),
        (JobOptions(), None, ("Tinker et al. 2010", "hmf: Murray", "draws.csv")),
        (JobOptions(prior=PriorOptions("hmf", hmf_model="Tinker08")), {"method": "nuts"}, ("2008", "NumPyro")),
        (JobOptions(prior=PriorOptions("hmf", hmf_model="Ishiyama")), None, ("Ishiyama",)),
        (JobOptions(prior=PriorOptions("t.npz"), method="nuts", nside=64), None, ("a table", "NumPyro", "HEALPix")),
    ],
)
def test_citations_follow_what_was_used(options, fit, words):
    lines = "\n".join(citations(record(options=asdict(options), fit=fit)))
    assert [word for word in words if word not in lines] == []
    assert ("NumPyro" in lines) == ("NumPyro" in words) and ("HEALPix" in lines) == ("HEALPix" in words)
