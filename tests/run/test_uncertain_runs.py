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
        (["--z-err", "z_err"], ["--z-contains", "went into", "--lum-moves"]),
        (["--z-err", "z_err", "--z-contains", "likelihood"], ["--lum-moves", "richness"]),
        (["--z-err", "0.03", *SAID], ["--z-err-kind", "1 + z"]),
        (["--z-err", "nothing", *SAID], ["nothing", "z_err"]),
        (["--z-err", "z_err", "--z-err-kind", "percent", *SAID], ["percent", "relative"]),
        (["--z-err", "0", "--z-err-kind", "z", *SAID], ["0 in 12 rows", "--z-err-zero exact"]),
        (["--z-err", "lx", *SAID], ["both column 'lx'"]),
        (["--lum-moves", "yes"], ["--lum-moves", "no effect"]),
        (["--z-grid", "0:1:9"], ["--z-grid", "no effect", "--z-pdf"]),
        (["--z-pdf", "lx", *SAID], ["--z-grid", "0:3:301"]),
        (["--z-pdf", "lx", "--z-grid", "0:1:9", *SAID], ["'lx'", "one array of numbers"]),
        (["--z-pdf", "lx", "--z-err", "z_err", *SAID], ["--z-err", "--z-pdf", "said once"]),
        (["--z-quantiles", "16:z,50:z,84:z", *SAID], ["3 quantiles", "9 or more"]),
        (["--z-err", "z_err", "--lum-moves", "yes", "--z-contains", "posterior"], ["--z-code-prior"]),
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


@pytest.fixture
def with_p_of_z(tmp_path):
    rows = Table.read(ROWS, format="ascii.csv")
    z = np.linspace(0.0, 1.0, 201)
    rows["pz"] = np.exp(-0.5 * ((z - np.array(rows["z"])[:, None]) / 0.03) ** 2)
    rows["pz"][4] = 0.0
    path = tmp_path / "clusters.fits"
    rows.write(path)
    (tmp_path / "grid.txt").write_text("z\n" + "".join(f"{x:.3f}\n" for x in z))
    return path


def test_p_of_z_of_a_file_by_options_and_by_a_file_of_options(with_p_of_z):
    """A grid of a normal density gives the masses of that normal error; options in a file are those of the line."""
    done, out = run(with_p_of_z, "--z-pdf", "pz", "--z-grid", "0:1:201", *SAID)
    assert done.returncode == 0, done.stderr
    told = done.stdout + done.stderr
    assert "'pz', at 201 redshifts from 0 to 1" in told and "1 of 12 cannot be used" in told
    assert "do not integrate to 1 in 11 of 12 rows" in told
    table = Table.read(next(out.glob("masses.*")))
    assert np.flatnonzero(np.asarray(table["flag"])).tolist() == [4] and table["flag_reason"][4] == "Z_ERROR_BAD"
    done, normal = run(with_p_of_z, "--z-err", "0.03", "--z-err-kind", "z", *SAID, "--overwrite")
    assert done.returncode == 0, done.stderr
    expected = Table.read(next(normal.glob("masses.*")))
    good = np.asarray(table["flag"]) == 0
    for name in ("z_mean", "log10_mass_mean"):
        difference = np.asarray(table[name]) - np.asarray(expected[name])
        assert np.abs(difference[good]).max() < 1e-3, name
    options = with_p_of_z.parent / "run.yaml"
    options.write_text("z_pdf: pz\nz_grid: grid.txt\nz_contains: likelihood\nlum_moves: yes\n")
    done, again = run(with_p_of_z, "--config", str(options), "--overwrite")
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(Table.read(next(again.glob("masses.*")))["z_mean"][good], table["z_mean"][good])
    assert json.loads((again / "run.json").read_text())["inputs"]["z_grid"]["path"] == "grid.txt"


def test_slices_of_a_map(clusters):
    """Their sum is the mass of the map, as all p(z) lie between the outer edges."""
    from astropy.io import fits

    rows = Table.read(clusters, format="ascii.csv")
    rows["ra"], rows["dec"] = np.linspace(150.0, 150.2, 12), np.linspace(2.0, 2.2, 12)
    rows.write(clusters, overwrite=True)
    out = clusters.parent / "out"
    options = [option for option in RUN if option != "--no-map"] + ["--num-map-draws", "20"]
    sliced = ["--map-slices", "0.01,0.25,0.6", "--z-err", "0.03", "--z-err-kind", "z", *SAID]
    done = warm_start.run(["run", str(clusters), "--out", str(out), *options, *sliced], clusters.parent)
    assert done.returncode == 0, done.stderr
    table = Table.read(next(out.glob("masses.*")))
    with fits.open(out / "mass_map.fits") as hdus:
        cube = hdus["MEAN"].data
        assert cube.shape[0] == 2 and (cube.sum(axis=(1, 2)) > 0).all()
        assert cube.sum() == pytest.approx(np.sum(table["mass_mean"]), rel=1e-4)


def test_a_completeness_moves_redshifts_and_is_only_for_them(clusters):
    """Where objects are found twice as often at each step to lower redshifts, they are nearer than without it."""
    table = clusters.parent / "found.csv"
    rows = [f"{z:g},{lx:g},{2.0 ** (-z / 0.02):g}" for z in np.arange(0.0, 0.62, 0.02) for lx in (0.1, 10.0)]
    table.write_text("z,lx,completeness\n" + "\n".join(rows) + "\n")
    found = []
    for more in ([], ["--completeness", str(table)]):
        done, out = run(clusters, "--z-err", "zflag", *SAID, *more, "--overwrite")
        assert done.returncode == 0, done.stderr
        found.append(Table.read(next(out.glob("masses.*")))["z_mean"][6])
    # A normal p(z) times exp(-k z) moves by its variance times k; n(z) rises, and its wings count.
    assert 0.6 < (found[0] - found[1]) / (0.03**2 * np.log(2) / 0.02) < 1.2
    done, _ = run(clusters, "--completeness", str(table), "--overwrite")
    assert done.returncode == 2 and "at known redshifts do not depend on that" in done.stderr


def test_quantiles_and_a_code_prior(clusters):
    from scipy.special import ndtri

    rows = Table.read(clusters, format="ascii.csv")
    levels = [1, 5, 16, 30, 50, 70, 84, 95, 99]
    for level in levels:
        rows[f"q{level}"] = np.asarray(rows["z"]) + 0.03 * ndtri(level / 100)
    rows.write(clusters, overwrite=True)
    (clusters.parent / "prior.txt").write_text("z density\n0 1\n2 1\n")
    given = ["--z-quantiles", ",".join(f"{level}:q{level}" for level in levels), "--lum-moves", "yes"]
    flat = ["--z-contains", "posterior", "--z-code-prior", "prior.txt"]
    found = []
    for said in (["--z-contains", "likelihood"], flat):
        done, out = run(clusters, *given, *said, "--overwrite")
        assert done.returncode == 0, done.stderr
        found.append(np.asarray(Table.read(next(out.glob("masses.*")))["z_mean"]))
    assert "redshifts have 9 quantiles" in done.stdout + done.stderr
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


def test_errors_that_are_not_used_are_told(clusters):
    catalogue = mm.read_catalogue(clusters, lum="lx", z="z", sigma=0.1)
    assert any("'z_err'" in note and "z_err= takes them into account" in note for note in catalogue.notes)
    with pytest.raises(MassmapError, match="no effect"):
        mm.read_catalogue(clusters, lum="lx", z="z", sigma=0.1, z_contains="likelihood")
