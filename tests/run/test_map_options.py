"""The program's options for the form of its map: one run with all of them, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
import warm_start
from astropy.table import Table

from massmap_jax.catalogue.read import read_catalogue
from massmap_jax.errors import MassmapError
from massmap_jax.maps.convergence_files import IMAGES as CONVERGENCE_IMAGES
from massmap_jax.maps.convergence_files import read_convergence
from massmap_jax.maps.files import read_map
from massmap_jax.run.citations import citations
from massmap_jax.run.clock import Clock
from massmap_jax.run.info import describe_path
from massmap_jax.run.job import compute
from massmap_jax.run.options import JobOptions, check_options
from massmap_jax.run.outputs import map_line, write_outputs


def execute(folder, *args):
    return warm_start.run(args, folder)


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """A small catalogue as a file, with its columns."""
    folder, rng = tmp_path_factory.mktemp("options"), np.random.default_rng(0)
    table = np.stack(
        [rng.uniform(0.2, 1.4, 60), rng.normal(9.5, 0.3, 60), rng.uniform(9, 11, 60), rng.uniform(-1, 1, 60)]
    )
    rows = [f"{z},{np.exp(lum)},{ra},{dec}" for z, lum, ra, dec in table.T]
    (folder / "field.csv").write_text("z,lum,ra,dec\n" + "\n".join(rows) + "\n")
    return folder, table


def test_a_run_with_all_of_them(field):
    pytest.importorskip("astropy_healpix")
    folder, (z, _, ra, dec) = field
    args = ["--map-slices", "0.3,0.6,1.2", "--smooth", "40", "--map-unit", "Msun/Mpc2", "--nside", "256"]
    own = [
        "--sigma",
        "0.05",
        "--relation",
        "bigmali2017",
        "--num-relation-draws",
        "10",
        "--num-map-draws",
        "20",
        "--seed",
        "4",
    ]
    ran = execute(folder, "run", "field.csv", "--out", "out", "--healpix-order", "NESTED", "--no-figures", *args, *own)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert "HEALPix pixels (nside 256, NESTED" in ran.stdout and "2 redshift slices" in ran.stdout
    assert "smoothed to 40 arcmin" in ran.stdout
    found = read_map(folder / "out" / "mass_map.fits")
    assert (found["grid"].nside, found["grid"].order) == (256, "NESTED")
    assert found["redshift_edges"] == (0.3, 0.6, 1.2)
    meta = found["meta"]
    assert (meta["unit"], meta["cosmology"], meta["fwhm_arcmin"], meta["seed"]) == ("Msun/Mpc2", "Planck18", 40.0, 4)
    place = found["grid"].index(ra, dec)
    for number, (low, high) in enumerate(((0.3, 0.6), (0.6, 1.2))):
        inside = (z >= low) & (z < high)
        counts = np.bincount(place[inside], minlength=found["grid"].num_pixels)
        np.testing.assert_array_equal(found["nobj"][number], counts)
    assert meta["n_beyond"] == ((z < 0.3) | (z >= 1.2)).sum() > 0
    assert (found["sd"] > 0).sum() > 3 * (found["nobj"] > 0).sum()  # spread over neighbours
    record = json.loads((folder / "out" / "run.json").read_text())
    assert record["map"]["redshift_edges"] == [0.3, 0.6, 1.2] and record["options"]["map_slices"] == [0.3, 0.6, 1.2]
    assert sum(record["map"]["slice_mass_msun"]) == pytest.approx(meta["total_mass"])
    told = execute(folder, "info", "out/mass_map.fits")
    assert told.returncode == 0 and "redshift slices: 0.3, 0.6, 1.2" in told.stdout and "nside 256" in told.stdout


def test_halos_at_their_size_and_what_they_lens(field, tmp_path):
    """In this process: mass map, convergence.fits, figures as PNG and PDF, and the report, of one run."""
    from astropy.io import fits
    from astropy.wcs import WCS

    folder, (z, _, ra, dec) = field
    options = JobOptions(
        relation="bigmali2017", num_relation_draws=10, num_map_draws=20, seed=4, relation_from="fixed_draws",
        halo_profile="nfw", source_redshift=1.0, pixel_arcmin=4.0, pdf_figures=True,
    )  # fmt: skip
    clock = Clock(lambda stage: None)
    result = compute(read_catalogue(folder / "field.csv", sigma=0.05), options, clock)
    record = write_outputs(tmp_path, result, options, clock, {"catalogue": "field.csv"})
    assert "NFW halos" in map_line(result.mass_map)

    found = read_map(tmp_path / "mass_map.fits")
    assert (found["meta"]["halo_profile"], found["meta"]["cosmology"]) == ("nfw", "Planck18")
    assert found["mean"].sum() == pytest.approx(found["meta"]["total_mass"], rel=1e-9)
    assert (found["mean"] > 0).sum() > (found["nobj"] > 0).sum() == 60 - (found["nobj"] > 1).sum()
    kappa = read_convergence(tmp_path / "convergence.fits")
    assert kappa["meta"]["source_redshift"] == 1.0 and kappa["meta"]["n_behind"] == (z >= 1.0).sum() > 0
    assert kappa["meta"]["n_lenses"] + kappa["meta"]["n_outside"] == (z < 1.0).sum()
    assert kappa["meta"]["prior"] == found["meta"]["prior"] and kappa["mean"].max() > 0
    assert set(kappa) == {"grid", "meta", *CONVERGENCE_IMAGES}
    with fits.open(tmp_path / "convergence.fits") as hdus:
        hdus.verify("exception")
        x, y = WCS(hdus["GAMMA2"].header).world_to_pixel_values(ra, dec)
        at = np.round(y).astype(int), np.round(x).astype(int)
    assert np.median(kappa["mean"][at][z < 0.8]) > 5 * np.median(kappa["mean"])

    names = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert "convergence" in names
    for name in names:
        pdf = (tmp_path / "figures" / f"{name}.pdf").read_bytes()
        assert pdf.startswith(b"%PDF") and b"/Type3" not in pdf and b"CreationDate" not in pdf
        assert f'alt="{name.replace("_", " ")}' in (tmp_path / "report.html").read_text(encoding="utf-8")
    cited = "\n".join(citations(record))
    assert "Duffy et al. 2008" in cited and "Baltz" in cited
    assert "sources at z = 1" in describe_path(tmp_path / "convergence.fits")
    assert "halo_profile: nfw" in describe_path(tmp_path / "mass_map.fits")
    with pytest.raises(MassmapError, match="not a map of convergence"):
        read_convergence(tmp_path / "mass_map.fits")
    with pytest.raises(MassmapError, match=r"in front of all 60 halos, the nearest of which has z = 0\.2"):
        compute(read_catalogue(folder / "field.csv", sigma=0.05), replace(options, source_redshift=0.1), clock)


def test_a_refusal_is_one_line(field):
    folder, _ = field
    ran = execute(folder, "run", "field.csv", "--out", "bad", "--relation", "bigmali2017", "--map-slices", "0.3,much")
    assert ran.returncode == 2 and not (folder / "bad").exists()
    assert ran.stderr == "error: map_slices is '0.3,much': give edges in redshift, such as 0.1,0.3,0.5\n"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (dict(nside=100), "nside is 100: give a power of two"),
        (dict(nside=64, pixel_arcmin=2.0), "nside is 64 and pixel_arcmin 2: a map has one kind of pixels"),
        (dict(healpix_order="nest"), "order 'nest' is not known: give RING or NESTED"),
        (dict(map_unit="kg"), "map unit 'kg' is not known: give one of Msun, Msun/arcmin2, Msun/Mpc2"),
        (dict(map_slices=(0.5, 0.2)), "map_slices must rise, and 1 do not, the first 0.2 after 0.5"),
        (dict(map_slices=(0.5,)), r"map_slices has shape \(1,\): give at least two"),
        (dict(halo_profile="king"), "halo profile 'king' is not known: give nfw"),
        (dict(halo_profile="nfw", nside=64), "drawn on a plane, and the pixels are HEALPix"),
        (dict(source_redshift=-1.0), "source_redshift is -1: give a finite number above 0"),
        (dict(source_redshift=1.0, nside=64), "source_redshift is 1 and nside is 64: a convergence map is made on"),
        (dict(source_redshift=1.0, make_map=False), "source_redshift is 1 and no map is asked for"),
        (dict(smooth_arcmin=0.0), "FWHM to smooth by is 0 arcmin: give a finite width above 0"),
    ],
)
def test_options_that_are_none(options, says):
    with pytest.raises(MassmapError, match=says):
        check_options(JobOptions(relation="bigmali2017", **options))


def test_mass_in_a_circle_under_the_names_of_act(field):
    """`--circle` without a map, in run.json, the report and the summary; beside it `--column-names`."""
    folder, (_, _, ra, dec) = field
    own = [
        "--sigma",
        "0.05",
        "--relation",
        "bigmali2017",
        "--num-relation-draws",
        "10",
        "--num-map-draws",
        "40",
        "--no-figures",
    ]
    args = ["--no-map", "--circle", "10,0.1,40", "--column-names", "act_dr5", "--format", "csv", "--sigma", "0.05"]
    ran = execute(folder, "run", "field.csv", "--out", "circle", *args, *own)
    assert ran.returncode == 0, ran.stderr[-3000:]
    record = json.loads((folder / "circle" / "run.json").read_text())["circle"]
    inside = np.hypot((ra - 10) * np.cos(np.radians(dec)), dec - 0.1) < 40 / 60
    assert record["objects"] == inside.sum() > 3 and record["objects_without_mass"] == 0
    table = Table.read(folder / "circle" / "masses.csv")
    assert record["mass_msun"] == pytest.approx(table["mass_mean"][inside].sum(), rel=1e-4)
    assert record["q16_msun"] < record["mass_msun"] < record["q84_msun"] and record["draws"] == 40
    assert f"circle: 40 arcmin about 10, 0.1, {inside.sum()} objects" in ran.stdout
    assert "In the circle of 40 arcmin" in (folder / "circle" / "report.html").read_text()
    np.testing.assert_allclose(table["M200m"], 10 ** table["log10_mass_q50"] / 1e14)


@pytest.mark.parametrize("circle", ["10,0.1", "10,0.1,0", "10,95,3", "10,much,3", "nan,0,3"])
def test_no_circle_is_refused(field, circle):
    args = ["--sigma", "0.05", "--relation", "bigmali2017", "--circle", circle]
    ran = execute(field[0], "run", "field.csv", "--out", "bad", *args)
    assert ran.returncode == 2 and "circle is" in ran.stderr and "150.1,2.2,5" in ran.stderr
    assert not (field[0] / "bad").exists()
