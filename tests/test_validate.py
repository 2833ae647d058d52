"""The validation page: what reads as met, what the page says of it, and a dry run of every section."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from warm_start import environment_of_runs

REPOSITORY = Path(__file__).resolve().parent.parent
PATHS = [str(REPOSITORY / "benchmarks"), str(REPOSITORY / "tests")]


RUN = {"versions": {}, "quick": False, "commit": "abc", "processor": "cpu", "cores": 2}


@pytest.fixture
def modules(monkeypatch):
    """`record`, `page` and `__main__` of benchmarks/validate."""
    for path in PATHS:
        monkeypatch.syspath_prepend(path)
    names = ("record", "page", "__main__")
    yield [__import__(f"validate.{name}", fromlist=[name]) for name in names]
    for name in [name for name in sys.modules if name.split(".")[0] in ("validate", "provenance")]:
        del sys.modules[name]


def row(record, value=0.5, found=1, **more):
    numbers = {"error": record.Number(value, 0.1)}
    limits = {"error": record.at_most(1.0)}
    return record.Row("A claim", numbers, "10 objects", limits, record.Twin("a fault", found, 1, 1), **more)


def test_a_row_is_met_only_within_its_limits_and_if_its_twin_is_found(modules):
    record = modules[0]
    assert row(record).verdict == record.MET
    assert row(record, 1.5).verdict == record.NOT_MET
    assert row(record, np.nan).verdict == record.NOT_MET
    assert row(record, found=0).verdict == record.TWIN_MISSED and "NOT MET" in record.TWIN_MISSED
    assert row(record)._replace(limits={}).verdict == record.REPORTED
    assert row(record, not_run="data absent").verdict == "not run: data absent"


def test_numbers_have_the_digits_of_their_error(modules):
    number = modules[0].Number
    assert number(0.123456, 0.0123).text() == "0.123 +- 0.012"
    assert number(1234.5, 30.0).text() == "1234 +- 30"
    assert number(3.21e-6).text() == "3.2e-06" and number(20).text() == "20"


def test_the_page_says_what_is_not_met_and_what_was_not_run(modules, tmp_path):
    record, page, _ = modules
    rows = [row(record), row(record, 1.5)._replace(claim="A wrong claim"), row(record, not_run="data absent")]
    section = record.Section("some", "Some section", "Words.", rows)
    text = page.write([section], {"some": 1.0}, {"some": RUN}, "## Kept\n", tmp_path).read_text()
    assert "**1 of 2 claims are met**, 1 are not" in text and "1 parts were not run" in text
    assert (
        "- A wrong claim: error 1.50 +- 0.10 (accepted: error at most 1)" in text and "- A claim: data absent" in text
    )
    assert text.endswith("## Kept\n")
    kept = json.loads((tmp_path / "benchmarks" / "results" / "validation.json").read_text())
    assert [one["verdict"] for one in kept["sections"]["some"]] == ["met", "NOT MET", "not run: data absent"]
    assert kept["sections"]["some"][0]["accepted"] == {"error": [None, 1.0]}


def test_sections_of_several_runs_are_joined(modules, tmp_path, monkeypatch):
    """A section that was run again stands in the place of the old one, and the page says of which run each is."""
    record, page, main = modules

    def drawn():
        from matplotlib.figure import Figure

        return Figure((1, 1))

    def section(name, value):
        return record.Section(name, f"About {name}", "Words.", [row(record, value)], figures={name: (drawn, "Seen.")})

    first, again = tmp_path / "first", tmp_path / "again"
    old = [section("one", 0.5), section("two", 1.5)]
    page.write(old, {"one": 1.0, "two": 60.0}, dict.fromkeys(["one", "two"], RUN), "## Kept\n", first)
    page.write([section("two", 0.5)], {"two": 2.0}, {"two": RUN | {"commit": "def"}}, "## Kept\n", again)
    kept, _, _ = page.read(first)
    assert kept["two"].rows == old[1].rows and kept["two"].block.startswith("## About two")
    monkeypatch.setattr(main, "REPOSITORY", first)
    monkeypatch.setattr(main, "SECTIONS", ("one", "two"))
    text = main.joined([again], first).read_text()
    assert "**2 of 2 claims are met**" in text and text.count("## About two") == 1 and text.count("## What is") == 1
    assert "of several runs" in text and "one of commit `abc`" in text and "two of commit `def`" in text
    found = json.loads((first / "benchmarks" / "results" / "validation.json").read_text())
    assert found["runs"]["two"]["commit"] == "def" and found["seconds"] == {"one": 1.0, "two": 2.0}
    once = main.joined([again], first).read_text()
    assert once == text


def test_power_of_the_best_test_is_that_of_two_normals(modules):
    """With masses that are known, luminosities are normal, and the divergence of two widths has a closed form."""
    from scipy.stats import norm
    from validate import visible

    rng = np.random.default_rng(0)
    table = np.array([0.0, 1.0]), np.exp(32.0 + np.array([-0.005, 0.005])), np.ones((2, 2))
    law = {"alpha1": 1.0, "alpha2": 1.3, "alpha3": np.exp(32.0), "alpha4": 0.0, "scatter": 0.3}
    beliefs = {"alpha1": (1.0, 3.0), "alpha2": (1.3, 0.7), "alpha4": (0.0, 0.01)}
    for scatter in (0.3, 0.33):
        ln_lum = 1.0 + np.hypot(scatter, 0.1) * rng.normal(size=40_000)
        seen = visible.Simulated(ln_lum, 0.1, rng.choice([0.2, 0.5], 40_000), np.full(40_000, np.nan), 0.2)
        reference = visible.PriorReference(*table, per="ln_mass")
        ratio = np.hypot(scatter, 0.1) / np.hypot(0.3, 0.1)
        divergence = 1000 * (0.5 * ratio**2 - 0.5 - np.log(ratio))
        expected = norm.cdf(np.sqrt(2 * divergence) - norm.isf(0.01))
        found = visible.best_power(seen, reference, law, beliefs, 1000, fitted=False)
        # A divergence of 0 is known to 0.05, by which the power of no test is 0.02 or so.
        assert abs(found - expected) < 0.05, (scatter, found, expected)
    # The fit takes the wrong width up.
    assert visible.best_power(seen, reference, law, beliefs, 1000) < 0.06 < found


@pytest.mark.parametrize("arguments", [["--quick"], ["--only", "exactness"], ["--only", "nothing", "--output", "x"]])
def test_a_part_does_not_replace_the_page(modules, arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        modules[2].main(arguments)
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "give --output FOLDER" in said or "no section is called nothing" in said


@pytest.mark.slow
def test_dry_run(tmp_path):
    """Every section runs from scratch, its own process because cosmocnc changes JAX's settings."""
    environment = environment_of_runs() | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), *PATHS])}
    command = [sys.executable, "-m", "validate", "--quick", "--output", str(tmp_path)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    text = (tmp_path / "docs" / "validation.md").read_text()
    assert "This was a dry run" in text
    found = json.loads((tmp_path / "benchmarks" / "results" / "validation.json").read_text())
    exact = found["sections"]["exactness"]
    assert len(exact) == 8 and all(one["verdict"] == "met" for one in exact)
    satellites = next(one for one in found["sections"]["misspecification"] if "satellites" in one["claim"])
    assert satellites["verdict"] == "reported" and satellites["numbers"]["bias of ln M"]["value"] < -0.3
    assert "a harm that these data do not show" in satellites["claim"] and "best possible test" in satellites["remark"]
    for picture in ("exactness", "misspecification", "error_time"):
        assert (tmp_path / "docs" / f"validation_{picture}.png").stat().st_size > 10_000
    assert sum(found["seconds"].values()) < 600
