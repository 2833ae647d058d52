"""Mass maps to FITS and back, read with astropy alone and with read_map."""

import os
import subprocess
import sys
import textwrap
import time
import warnings
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

import massmap_jax
from massmap_jax.errors import MassmapError
from massmap_jax.maps.files import read_map, write_map
from massmap_jax.maps.form import MapForm
from massmap_jax.maps.images import IMAGES
from massmap_jax.maps.pixels import PixelGrid
from massmap_jax.run.info import describe_path

fits = pytest.importorskip("astropy.io.fits")

META = {
    "mass_definition": "200m",
    "prior": "Tinker10, Planck18, Eisenstein-Hu; " + "d'une longueur qui passe la carte " * 6,
    "relation": "bigmali2017, 100 draws",
    "selection": "none",
    "seed": 42,
    "version": "9.9.9",
    "catalogue": "cluster α.fits\nsecond line",
    "snr": float("nan"),
    "columns": {"lum": "L & more &", "rows": np.int64(7), "nodes": np.arange(3)},
    "nothing": None,
}
GRIDS = {
    "sky": PixelGrid.fit(np.array([359.7, 0.4, 0.1234567]), np.array([-10.1, -9.6, -9.9]), pixel_arcmin=1 / 0.7),
    "flat": PixelGrid.fit(np.array([-20.0, 20.0]), np.array([-3.0, 4.123]), frame="flat", pixel_arcmin=0.7),
    "pole": PixelGrid("tangent", (5, 9), 1.0, (77.0, 90.0)),
    "one": PixelGrid.fit([12.3], [4.5]),
}


def fake_map(grid, dtype=np.float64, seed=0):
    """The fields of MassMap, with masses in Msun."""
    rng = np.random.default_rng(seed)
    images = {name: rng.lognormal(31.0, 1.0, grid.shape).astype(dtype) for name in IMAGES if name != "nobj"}
    images["sd"][0, 0] = 0.0
    images["q16"][-1, -1] = np.nan
    nobj, total_draws = rng.poisson(0.5, grid.shape), rng.lognormal(36.0, 0.1, 50)
    return SimpleNamespace(
        grid=grid,
        nobj=nobj,
        total_draws=total_draws,
        total_mass=images["mean"].sum(),
        total_sd=total_draws.std(ddof=1),
        unit="Msun",
        mass_definition="200m",
        form=MapForm(),
        cosmology=None,
        redshift_edges=None,
        fwhm_arcmin=None,
        halo_profile=None,
        n_masked=0,
        n_beyond=0,
        n_outside=np.int64(3),
        n_flagged=4,
        num_draws=50,
        relation_from="fixed_draws",
        draws=None,
        **images,
    )


@pytest.mark.parametrize("name", GRIDS)
def test_round_trip(tmp_path, name):
    mass_map = fake_map(GRIDS[name])
    write_map(tmp_path / "map.fits", mass_map, META)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        back = read_map(tmp_path / "map.fits")
    for field in IMAGES:
        np.testing.assert_array_equal(back[field], getattr(mass_map, field))
        assert back[field].dtype.isnative
    assert back["mean"].dtype == np.float64 and back["nobj"].dtype == np.int32
    assert back["grid"].shape == GRIDS[name].shape and back["grid"].projection == GRIDS[name].projection
    assert back["grid"] == GRIDS[name]
    meta = back["meta"]
    for key in ("mass_definition", "relation", "selection", "seed", "version"):
        assert meta[key] == META[key]
    assert meta["prior"] == META["prior"].strip()
    assert meta["catalogue"] == META["catalogue"] and np.isnan(meta["snr"]) and meta["nothing"] is None
    assert meta["columns"] == {"lum": "L & more &", "rows": 7, "nodes": [0, 1, 2]}
    assert (meta["relation_from"], meta["num_draws"], meta["n_outside"], meta["n_flagged"]) == (
        "fixed_draws",
        50,
        3,
        4,
    )
    assert meta["num_mapped"] == mass_map.nobj.sum()
    assert meta["total_mass"] == pytest.approx(mass_map.mean.sum(), rel=1e-12)
    assert meta["total_sd"] == pytest.approx(mass_map.total_draws.std(ddof=1), rel=1e-12)


@pytest.mark.parametrize("name", GRIDS)
def test_legal_fits_for_others(tmp_path, name):
    """astropy alone, warnings as errors: units, WCS, keywords, orientation."""
    from astropy import units
    from astropy.wcs import WCS

    grid, path = GRIDS[name], tmp_path / "map.fits"
    write_map(path, fake_map(grid), META)
    assert path.stat().st_size % 2880 == 0
    with warnings.catch_warnings(), fits.open(path) as hdus:
        warnings.simplefilter("error")
        hdus.verify("exception")
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "MEAN", "MEAN_MC", "SD", "Q16", "Q50", "Q84", "NOBJ"]
        primary = hdus[0].header
        assert primary["MASSDEF"] == "200m" and primary["RELFROM"] == "fixed_draws" and primary["NOUTSIDE"] == 3
        assert primary["SEED"] == 42 and primary["NDRAWS"] == 50 and primary["NFLAGGED"] == 4
        assert not any(card.image.startswith(("HIERARCH", "COMMENT", "HISTORY")) for card in primary.cards)
        for hdu in hdus[1:]:
            assert hdu.data.shape == grid.shape
            unit = units.Unit(hdu.header["BUNIT"], format="fits")
            assert unit == (units.dimensionless_unscaled if hdu.name == "NOBJ" else units.solMass)
            wcs = WCS(hdu.header)
            units.Unit(hdu.header["CUNIT1"], format="fits")
            rng = np.random.default_rng(2)
            x, y = rng.uniform(-0.5, np.array(grid.shape[::-1]) - 0.5, (50, 2)).T
            np.testing.assert_allclose(wcs.wcs_world2pix(*grid.sky_of(x, y), 0), (x, y), rtol=0, atol=1e-9)
            step = wcs.wcs_pix2world([0.0, 1.0], [0.0, 0.0], 0)[0]
            if name in ("sky", "one"):
                assert (step[1] - step[0] + 180.0) % 360.0 - 180.0 < 0.0
                assert wcs.axis_type_names == ["RA", "DEC"] and wcs.has_celestial
            if name == "flat":
                assert step[1] - step[0] == pytest.approx(0.7) and not wcs.has_celestial


def test_same_input_same_bytes(tmp_path):
    for number in range(2):
        write_map(tmp_path / f"{number}.fits", fake_map(GRIDS["sky"]), META)
    assert (tmp_path / "0.fits").read_bytes() == (tmp_path / "1.fits").read_bytes()
    write_map(tmp_path / "2.fits", fake_map(GRIDS["sky"], seed=1), META)
    assert (tmp_path / "0.fits").read_bytes() != (tmp_path / "2.fits").read_bytes()


def test_jax_float32_and_unknown_provenance(tmp_path):
    mass_map = fake_map(GRIDS["sky"], np.float32)
    for field in IMAGES:
        setattr(mass_map, field, jnp.asarray(getattr(mass_map, field)))
    write_map(tmp_path / "map.fits", mass_map, {"seed": jnp.uint32(7), "prior": "ΛCDM"})
    back = read_map(tmp_path / "map.fits")
    assert back["mean"].dtype == np.float32
    np.testing.assert_array_equal(back["mean"], np.asarray(mass_map.mean))
    assert back["meta"]["relation"] == back["meta"]["selection"] == "unknown"
    assert back["meta"]["version"] == massmap_jax.__version__ and back["meta"]["seed"] == 7
    assert back["meta"]["prior"] == "\\u039bCDM"
    assert "extra" not in back["meta"]


def test_nothing_overwritten_without_asking(tmp_path):
    path = tmp_path / "map.fits"
    path.write_text("mine")
    with pytest.raises(MassmapError, match="exists already"):
        write_map(path, fake_map(GRIDS["sky"]), META)
    assert path.read_text() == "mine" and os.listdir(tmp_path) == ["map.fits"]
    write_map(path, fake_map(GRIDS["sky"]), META, overwrite=True)
    assert read_map(path)["meta"]["seed"] == 42 and os.listdir(tmp_path) == ["map.fits"]


def test_bad_targets(tmp_path):
    with pytest.raises(MassmapError, match=r"cannot write the map .*No such file"):
        write_map(tmp_path / "absent" / "map.fits", fake_map(GRIDS["sky"]), META)
    (tmp_path / "folder").mkdir()
    with pytest.raises(MassmapError, match="cannot write the map"):
        write_map(tmp_path / "folder", fake_map(GRIDS["sky"]), META, overwrite=True)
    assert os.listdir(tmp_path) == ["folder"]
    wrong = fake_map(GRIDS["sky"])
    wrong.sd = wrong.sd[1:]
    with pytest.raises(MassmapError, match="image sd has shape"):
        write_map(tmp_path / "map.fits", wrong, META)
    assert os.listdir(tmp_path) == ["folder"]


def test_full_disk(tmp_path):
    """A real limit on file size, in a process of its own: the old file stays, and no part of the new one."""
    pytest.importorskip("resource")
    code = f"""
    import resource, signal, sys
    sys.path.insert(0, {os.path.dirname(os.path.dirname(__file__))!r})
    from maps.test_map_io import GRIDS, META, MassmapError, PixelGrid, fake_map, write_map
    grid = PixelGrid("tangent", (200, 200), 1.0, (0.0, 0.0))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    sys.dont_write_bytecode = True  # Python 3.11 leaves .pyc files that are cut (gh-126606)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
    try:
        write_map({str(tmp_path / "map.fits")!r}, fake_map(grid), META, overwrite=True)
    except MassmapError as error:
        print("told:", error)
    """
    (tmp_path / "map.fits").write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.stdout.startswith("told: cannot write the map") and done.stdout.count("\n") == 1, done
    assert done.returncode == 0 and done.stderr == ""
    assert os.listdir(tmp_path) == ["map.fits"] and (tmp_path / "map.fits").read_bytes() == b"old"


def test_reading_what_is_not_a_map(tmp_path):
    good = tmp_path / "good.fits"
    write_map(good, fake_map(GRIDS["sky"]), META)
    size = good.stat().st_size
    cases = {
        "absent.fits": (None, "No such file"),
        "empty.fits": (b"", "not a whole FITS file"),
        "text.fits": (b"a,b\n1,2\n", "not a whole FITS file"),
        "half.fits": (good.read_bytes()[: size // 2], "not a whole FITS file"),
        "fewer.fits": (good.read_bytes()[: size - 2 * 2880 * 2], "not a (whole FITS file|mass map)"),
        "short.fits": (good.read_bytes()[: size - 2881], "not a whole FITS file"),
    }
    for name, (content, words) in cases.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(MassmapError, match=words) as caught:
            read_map(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)
    fits.PrimaryHDU(np.zeros((3, 3))).writeto(tmp_path / "other.fits")
    with pytest.raises(MassmapError, match="not a mass map written by massmap_jax"):
        read_map(tmp_path / "other.fits")


def test_garbled_bytes_are_told_or_harmless(tmp_path):
    """Random bytes in the headers: a MassmapError in one line, or a map, and no other exception."""
    path = tmp_path / "map.fits"
    write_map(path, fake_map(GRIDS["one"]), META)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    told = []
    for _ in range(150):
        garbled = bytearray(whole)
        for place in rng.integers(0, len(whole), rng.choice([1, 5, 50])):
            garbled[place] = rng.integers(256)
        path.write_bytes(garbled)
        try:
            read_map(path)
        except MassmapError as error:
            told.append(str(error))
    assert 30 < len(told) < 150 and not any("\n" in text for text in told)


def test_a_cropped_map_is_noticed(tmp_path):
    path = tmp_path / "map.fits"
    write_map(path, fake_map(GRIDS["sky"]), META)
    with fits.open(path, mode="update") as hdus:
        hdus["MEAN"].header["CRPIX1"] -= 2.0
    with pytest.raises(MassmapError, match="was changed since: CRPIX1"):
        read_map(path)


def test_the_header_is_the_maps_own(tmp_path):
    """Without `meta`: definition, cosmology with its numbers, program and version, and "unknown" for the rest."""
    mass_map = fake_map(GRIDS["sky"])
    mass_map.mass_definition, mass_map.cosmology = "500c", "WMAP9"
    write_map(tmp_path / "map.fits", mass_map)
    header = fits.getheader(tmp_path / "map.fits")
    assert [header[k] for k in ("MASSDEF", "COSMOLGY", "PROGRAM", "VERSION", "RELATION", "SEED", "RELFROM")] == [
        *("500c", "WMAP9", "massmap-jax", massmap_jax.__version__, "unknown", "unknown", "fixed_draws")
    ]
    assert (header["H0"], header["OMEGA_M"]) == pytest.approx((69.32, 0.2865))
    assert read_map(tmp_path / "map.fits")["meta"]["cosmology"] == "WMAP9"
    mass_map.cosmology, mass_map.form = "as told", MapForm()
    write_map(tmp_path / "other.fits", mass_map)
    header = fits.getheader(tmp_path / "other.fits")
    assert header["COSMOLGY"] == "as told" and "H0" not in header and "OMEGA_M" not in header
    with pytest.raises(MassmapError, match="the map is for 500c masses and meta for 200m"):
        write_map(tmp_path / "lie.fits", mass_map, {"mass_definition": "200m"})
    assert not (tmp_path / "lie.fits").exists()


def test_a_cosmology_of_ones_own(tmp_path):
    from astropy.cosmology import FlatLambdaCDM

    mass_map = fake_map(GRIDS["sky"])
    mass_map.form = MapForm(unit="Msun/Mpc2", cosmology=FlatLambdaCDM(71.5, 0.27, Tcmb0=2.7255, Ob0=0.045))
    mass_map.unit, mass_map.cosmology = "Msun/Mpc2", mass_map.form.distances
    write_map(tmp_path / "map.fits", mass_map)
    header = fits.getheader(tmp_path / "map.fits")
    assert (header["H0"], header["OMEGA_M"]) == (71.5, 0.27) and "71.5" in header["COSMOLGY"]


# -- files whose header lies ----------------------------------------------------------------------------------------


def _cards(path):
    """Cards of every header of a plain FITS file, with the byte each begins at."""
    data, places = path.read_bytes(), []
    for start in range(0, len(data), 2880):
        if data[start : start + 8] in (b"SIMPLE  ", b"XTENSION"):
            place = start
            while data[place : place + 8] != b"END     ":
                places.append((place, data[place : place + 80].decode()))
                place += 80
    return places


def _changed(path, keyword, number, text):
    """The file with one card (of the header of this number) put otherwise; None takes the card out by a new name."""
    data = bytearray(path.read_bytes())
    place = [place for place, card in _cards(path) if card[:8].rstrip() == keyword][number]
    card = f"{'LOST':8s}= 1" if text is None else f"{keyword:8s}= {text}"
    data[place : place + 80] = card.ljust(80).encode()
    return bytes(data)


@pytest.mark.parametrize(
    ("keyword", "number", "text"),
    [
        ("NAXIS1", 0, None),
        ("NAXIS1", 3, None),
        ("NAXIS2", 2, "'7'"),
        ("NAXIS", 1, "999"),
        ("NAXIS", 1, "-1"),
        ("NAXIS", 4, "99999999999"),
        ("NAXIS1", 1, "99999999999999"),
        ("NAXIS1", 1, "1"),
        ("NAXIS1", 1, "T"),
        ("BITPIX", 1, "13"),
        ("BITPIX", 2, None),
        ("GCOUNT", 0, "100000000"),
        ("PCOUNT", 1, "'many'"),
        ("EXTNAME", 2, "'MEAN'"),
        ("EXTNAME", 0, "7"),
        ("TOTMASS", 0, "'heavy'"),
        ("TOTSD", 0, "T"),
        ("NDRAWS", 0, "2.5"),
        ("NMAPPED", 0, "-4"),
        ("PIXARCM", 0, "'one'"),
        ("PROJECTN", 0, "3"),
        ("CRVAL1", 0, "'east'"),
        ("METADATA", 0, "7"),
        ("METADATA", 0, "'[1, 2]'"),
    ],
)
def test_a_header_that_lies(tmp_path, keyword, number, text):
    """One sentence that names the file, at once; `info` says it too."""
    path = tmp_path / "map.fits"
    write_map(path, fake_map(GRIDS["sky"]), {"seed": 1, "own": 5})
    path.write_bytes(_changed(path, keyword, number, text))
    began = time.monotonic()
    for read in (read_map, describe_path):
        with pytest.raises(MassmapError) as caught:
            read(path)
        assert "map.fits" in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 400
    assert time.monotonic() - began < 5


def test_cards_at_random(tmp_path):
    """Values put wrong, cards taken out or doubled anywhere in any header: a sentence or a map, and nothing else."""
    rng, path = np.random.default_rng(5), tmp_path / "map.fits"
    write_map(path, fake_map(GRIDS["one"]), META)
    whole, places = path.read_bytes(), [place for place, _ in _cards(path)]
    values = ["'text'", "T", "-1", "99999999999", "1e300", "''", "0", "2.5", "(1.0, 2.0)", ""]
    told = []
    for _ in range(150):
        data = bytearray(whole)
        for place in rng.choice(places, rng.choice([1, 2, 6])).tolist():
            if rng.random() < 0.3:
                other = int(rng.choice(places))
                data[place : place + 80] = whole[other : other + 80]
            else:
                data[place + 8 : place + 80] = f"= {rng.choice(values)}".ljust(72).encode()
        path.write_bytes(data)
        for read in (read_map, describe_path):
            try:
                read(path)
            except MassmapError as error:
                told.append(str(error))
    assert 60 < len(told) < 300 and not any("\n" in text for text in told)
