"""Redshift errors on the command line: what has to be said, what comes out, and what is refused."""

import json

import numpy as np
import pytest
import warm_start
from astropy.table import Table

import massmap_jax as mm
from massmap_jax.errors import MassmapError

ROWS = "id,z,z_err,zflag,lx\n" + "".join(
    f"c{i},{0.2 + 0.01 * i:.2f},{0.02 + 0.001 * i:.3f},{'' if i == 3 else 0.03},{1 + 0.1 * i:.2f}\n" for i in range(12)
)
SAID = ["--z-contains", "likelihood", "--lum-moves", "yes"]
RUN = ["--lum", "lx", "--z", "z", "--sigma", "0.1", "--relation", "identity", "--pivot", "1e14", "--no-map",
       "--no-figures", "--no-report"]  # fmt: skip


@pytest.fixture
def clusters(tmp_path):
    path = tmp_path / "clusters.csv"
    path.write_text(ROWS)
    return path


def run(clusters, *more):
    out = clusters.parent / "out"
    done = warm_start.run(["run", str(clusters), "--out", str(out), *RUN, *more], clusters.parent)
    return done, out


def test_masses_and_redshifts_are_written(clusters):
    done, out = run(clusters, "--z-err", "zflag", *SAID)
    assert done.returncode == 0, done.stderr
    told = done.stdout + done.stderr
    assert "redshifts have errors ('zflag', an error of z; median" in told
    table = Table.read(next(out.glob("masses.*")))
    assert {"z_mean", "z_sd"} <= set(table.colnames)
    lost = np.flatnonzero(np.asarray(table["flag"]) != 0)
    assert lost.tolist() == [3] and table["flag_reason"][3] == "Z_ERROR_BAD"
    good = np.asarray(table["flag"]) == 0
    assert np.all((np.asarray(table["z_sd"])[good] > 0.02) & (np.asarray(table["z_sd"])[good] < 0.035))
    record = json.loads((out / "run.json").read_text())
    # The record repeats the run, through the same catalogue in Python.
    again = mm.read_catalogue(
        clusters, lum="lx", z="z", sigma=0.1, z_err="zflag", z_contains="likelihood", lum_moves="yes"
    )
    assert record["columns"]["z_err"] == "zflag" and again.redshift_distributions.lum_moves


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--z-err", "z_err"], ["--z-contains", "went into"]),
        (["--z-err", "z_err", "--z-contains", "likelihood"], ["--lum-moves", "richness"]),
        (["--z-err", "0.03", *SAID], ["--z-err-kind", "1 + z"]),
        (["--z-err", "nothing", *SAID], ["nothing", "z_err"]),
        (["--z-err", "z_err", "--z-err-kind", "percent", *SAID], ["percent", "relative"]),
        (["--z-err", "0", "--z-err-kind", "z", *SAID], ["0 in 12 rows", "--z-err-zero exact"]),
        (["--z-err", "lx", *SAID], ["say nothing"]),
        (["--lum-moves", "yes"], ["--lum-moves", "no effect"]),
        (["--z-err", "z_err", *SAID, "--method", "surface"], ["not exact"]),
        (["--z-err", "z_err", *SAID, "--method", "nuts"], ["distributions"]),
        (["--z-err", "z_err", "--z-contains", "likelihood", "--lum-moves", "no", "--k-correction", "0.5"],
         ["--k-correction"]),
    ],
)  # fmt: skip
def test_what_is_not_said_or_cannot_be_is_refused(clusters, more, words):
    done, out = run(clusters, *more)
    assert done.returncode == 2, done.stdout
    assert all(word in done.stderr for word in words), done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not out.exists()


def test_errors_that_are_not_used_are_told(clusters):
    catalogue = mm.read_catalogue(clusters, lum="lx", z="z", sigma=0.1)
    assert any("'z_err'" in note and "z_err= takes them into account" in note for note in catalogue.notes)
    with pytest.raises(MassmapError, match="no effect"):
        mm.read_catalogue(clusters, lum="lx", z="z", sigma=0.1, z_contains="likelihood")
