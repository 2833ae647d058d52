"""p(z) from files: what arrays in FITS, Parquet and HDF5 become, quantiles, and what is refused or told."""

import statistics

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

import massmap_jax as mm
from massmap_jax.catalogue.flags import Flag
from massmap_jax.catalogue.redshift_shapes import OnGrid
from massmap_jax.errors import MassmapError

N = 30
Z = np.linspace(0.2, 0.6, N)
NODES = np.linspace(0.0, 1.5, 301)
P = np.exp(-0.5 * ((NODES - Z[:, None]) / 0.04) ** 2) / (0.04 * np.sqrt(2 * np.pi))
SAID = {"z_contains": "likelihood", "lum_moves": "yes"}
READ = {"lum": "lx", "z": "z", "sigma": 0.1}


def columns(p=P, **more):
    return {"id": np.arange(N), "z": Z, "lx": np.linspace(1, 2, N), "pz": p} | more


def write(tmp_path, kind, p=P, **more):
    path, given = tmp_path / f"clusters.{kind}", columns(p, **more)
    if kind == "parquet":
        pd.DataFrame({k: v if np.ndim(v) == 1 else list(v) for k, v in given.items()}).to_parquet(path)
    elif kind == "hdf5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            for name, values in given.items():
                file[f"catalogue/{name}"] = values
    else:
        Table(given).write(path)
    return path


def read(path, **more):
    options = READ | SAID | {"z_pdf": "pz", "z_grid": "0:1.5:301"} | more
    return mm.read_catalogue(path, **{name: value for name, value in options.items() if value is not None})


def density(catalogue):
    shape = catalogue.redshift_distributions.shape
    assert isinstance(shape, OnGrid)
    return np.exp(shape.ln_values), shape.nodes


@pytest.mark.parametrize("kind", ["fits", "parquet", "hdf5", "ecsv"])
def test_arrays_in_files_are_p_of_z(kind, tmp_path):
    catalogue = read(write(tmp_path, kind))
    found, nodes = density(catalogue)
    np.testing.assert_allclose(nodes, NODES, atol=1e-12)
    np.testing.assert_allclose(found, P / P.max(axis=1, keepdims=True), atol=1e-6)
    assert "'pz', at 301 redshifts from 0 to 1.5" in " ".join(catalogue.notes)
    assert catalogue.usable.all()


def test_single_precision_and_masked_or_missing_rows(tmp_path):
    p = P.astype(np.float32)
    rows = [None if i == 4 else row for i, row in enumerate(p)]
    path = tmp_path / "clusters.parquet"
    pd.DataFrame(columns() | {"pz": rows}).to_parquet(path)
    for source in (path, pd.read_parquet(path)):
        catalogue = read(source)
        assert np.flatnonzero(catalogue.flag).tolist() == [4]
        assert catalogue.flag[4] == int(mm.Flag.Z_ERROR_BAD)
        np.testing.assert_allclose(density(catalogue)[0][3], P[3] / P[3].max(), atol=1e-6)


def test_the_grid_is_a_column_a_file_or_a_data_set(tmp_path):
    from astropy.io import fits

    h5py = pytest.importorskip("h5py")

    rows = write(tmp_path, "fits", zz=np.tile(NODES, (N, 1)))
    text, image, data = tmp_path / "grid.txt", tmp_path / "grid.fits", tmp_path / "grid.hdf5"
    np.savetxt(text, NODES)
    with h5py.File(data, "w") as file:
        file["meta/xvals"] = NODES[None]
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(NODES, name="ZGRID")]).writeto(image)
    one_row = tmp_path / "row.fits"
    Table({"ZGRID": NODES[None]}).write(one_row)
    for grid in ("zz", str(text), f"{image}[ZGRID]", str(one_row), f"{data}[meta/xvals]"):
        np.testing.assert_allclose(density(read(rows, z_grid=grid))[1], NODES, atol=1e-12)


def test_redshifts_beside_the_p_of_z_of_one_file(tmp_path):
    """HDF5 files often hold the grid in the same group; it has another length than the columns."""
    path = write(tmp_path, "hdf5", zgrid=NODES)
    np.testing.assert_allclose(density(read(path, z_grid=f"{path}[catalogue/zgrid]"))[1], NODES)


def test_bad_rows_are_flagged_and_counted(tmp_path):
    p = P.copy()
    p[1] = 0.0
    p[2, 40] = -0.5
    p[3, 10] = np.nan
    p[4] *= 7.0
    p[5, 200] = -1e-9  # the rounding of an interpolation
    p[6, 200] = np.inf
    catalogue = read(write(tmp_path, "fits", p))
    assert np.flatnonzero(catalogue.flag).tolist() == [1, 2, 3, 6]
    assert set(catalogue.flag[[1, 2, 3, 6]]) == {int(mm.Flag.Z_ERROR_BAD)}
    told = " ".join(catalogue.notes)
    assert "4 of 30 cannot be used" in told and "do not integrate to 1 in 1 of 30 rows (median integral 7)" in told
    assert np.exp(catalogue.redshift_distributions.shape.ln_values[4]).max() == pytest.approx(1.0)


def test_cut_off_and_coarse_grids_are_told():
    short = read(columns(P[:, :124]), z_grid="0:0.615:124")
    assert any("not near 0 at an end" in note for note in short.notes)
    coarse = read(columns(P[:, ::30]), z_grid="0:1.5:11")
    assert any("fewer than 2 redshifts within a standard deviation" in note for note in coarse.notes)
    good = " ".join(read(columns()).notes)
    assert "fewer than" not in good and "near 0 at an end" not in good and "integrate" not in good


LEVELS = [0.01, 0.05, 0.16, 0.3, 0.5, 0.7, 0.84, 0.95, 0.99]


def quantile_columns():
    from scipy.special import ndtri

    return {f"z{round(100 * q):02d}": Z + 0.04 * ndtri(q) for q in LEVELS}


def test_quantiles_of_a_normal_are_that_normal():
    given = {name: value for name, value in columns().items() if name != "pz"} | quantile_columns()
    text = ",".join(f"{100 * q:g}:z{round(100 * q):02d}" for q in LEVELS)
    catalogue = read(given, z_pdf=None, z_grid=None, z_quantiles=text)
    z = Z[:, None] + np.linspace(-0.15, 0.15, 21)
    found = catalogue.redshift_distributions.ln_likelihood(z)
    found -= found[:, 10:11]
    np.testing.assert_allclose(found, -0.5 * ((z - Z[:, None]) / 0.04) ** 2, atol=1e-9)
    given["z16"] = given["z16"].copy()
    given["z16"][7] = 3.0
    assert np.flatnonzero(read(given, z_pdf=None, z_grid=None, z_quantiles=text).flag).tolist() == [7]


REFUSED = {
    "no grid": ({"z_grid": None}, "z_grid="),
    "no range": ({"z_grid": "0:x:301"}, "no range"),
    "a range that falls": ({"z_grid": "1.5:0:301"}, "increase"),
    "other length": ({"z_grid": "0:1.5:300"}, "300 redshifts"),
    "no such file": ({"z_grid": "nothing.txt"}, "nor a file"),
    "two sources": ({"z_err": "z"}, "said once"),
    "not said": ({"z_contains": None}, "went into"),
    "no code prior": ({"z_contains": "posterior"}, "z_code_prior"),
    "code prior of a likelihood": ({"z_code_prior": "n.txt"}, "z_code_prior"),
    "moves": ({"lum_moves": None}, "lum_moves="),
    "a variance": ({"z_pdf": None, "z_grid": None, "z_err": "z_var"}, "is by its name no error"),
    "a plain column": ({"z_pdf": "lx"}, "one array of numbers per object"),
    "no such column": ({"z_pdf": "pdf"}, "pdf"),
    "wrong grid": ({"z_grid": "5:9:301"}, "outside of their own"),
    "grid without p(z)": ({"z_pdf": None}, "no effect without z_pdf"),
    "three quantiles": ({"z_pdf": None, "z_grid": None, "z_quantiles": "16:z,50:z,84:z"}, "3 quantiles"),
    "fractions": ({"z_pdf": None, "z_grid": None, "z_quantiles": "0.16:z,0.5:z,0.84:z"}, "per cent"),
    "no level": ({"z_pdf": None, "z_grid": None, "z_quantiles": "median:z"}, "median:z"),
    "twice": ({"z_pdf": None, "z_grid": None, "z_quantiles": "50:z,50:z"}, "twice"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused(case):
    options, words = REFUSED[case]
    with pytest.raises(MassmapError) as error:
        read(columns(z_var=np.full(N, 1e-3)), **options)
    assert words in str(error.value) and len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("p", "words"),
    [
        (np.log(P + 1e-9), "are these logarithms"),
        (np.cumsum(P, axis=1) / P.sum(axis=1, keepdims=True), "rise to 1 at the last redshift, 1.5, as cumulative"),
        (np.full_like(P, np.nan), "none of the 30 p(z)"),
        (np.zeros_like(P), "none of the 30 p(z)"),
        ([row[: 300 - i] for i, row in enumerate(P)], "one array per object, all of a length"),
        ([["a"] * 301] * N, "has text"),
    ],
)
def test_columns_without_a_density_are_refused(p, words):
    with pytest.raises(MassmapError, match=words.replace("(", r"\(").replace(")", r"\)")):
        read(columns(p))


def gaussian(nodes, centre, sd):
    return np.exp(-0.5 * ((nodes - centre) / sd) ** 2) / (sd * np.sqrt(2 * np.pi))


def moments(catalogue):
    p, nodes = density(catalogue)
    mean = (p @ nodes) / p.sum(axis=1)
    return mean, np.sqrt((p @ nodes**2) / p.sum(axis=1) - mean**2)


def test_each_row_may_have_redshifts_of_its_own():
    """As redMaPPer writes p(z): 21 redshifts out to 5 errors on either side, of each cluster."""
    sd = np.linspace(0.01, 0.03, N)[:, None]
    grids = Z[:, None] + np.linspace(-5, 5, 21) * sd
    p = gaussian(grids, Z[:, None], sd)
    catalogue = read(columns(p, zz=grids), z_grid="zz")
    mean, width = moments(catalogue)
    np.testing.assert_allclose(mean, Z, atol=2e-4)
    # ln p is linear between redshifts half an error apart, which makes it a little wider.
    np.testing.assert_allclose(width, sd[:, 0], rtol=0.03)
    assert any("redshifts of its own in each row" in note for note in catalogue.notes)
    # The twin: with the grid of the first row for all, they are where the first is.
    with pytest.raises(MassmapError, match="lie outside of their own p"):
        read(columns(p), z_grid="0.15:0.25:21")
    grids[3] = grids[3, ::-1]
    grids[4, 7] = np.nan
    p[5], p[6, 3], p[7, 8] = 0.0, -0.1, np.nan
    grids[0] = p[0] = 0.0  # as redMaPPer writes where it found none
    assert np.flatnonzero(read(columns(p, zz=grids), z_grid="zz").flag).tolist() == [0, 3, 4, 5, 6, 7]


def test_a_row_with_another_number_of_redshifts_is_refused():
    with pytest.raises(MassmapError, match=r"has 300 redshifts in each row, and p\(z\) has 301 numbers"):
        read(columns(zz=np.tile(NODES[:300], (N, 1))), z_grid="zz")


def test_redshifts_in_another_table_of_the_file(tmp_path):
    """HSC has the table PDF and the table BINS in one file."""
    from astropy.io import fits

    path = tmp_path / "pdz.fits"
    hdus = [fits.BinTableHDU(Table(columns()), name="PDF"), fits.BinTableHDU(Table({"BINS": NODES}), name="BINS")]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)
    np.save(tmp_path / "grid.npy", NODES)
    for grid in ("BINS", str(tmp_path / "grid.npy")):
        np.testing.assert_allclose(density(read(path, z_grid=grid))[1], NODES)
    with pytest.raises(MassmapError, match="nor another table or array of its file"):
        read(path, z_grid="BIN")


@pytest.mark.parametrize(
    ("value", "cells", "told"),
    [
        (99.0, 3, "a placeholder, as 99 or 1e20, among others in 2 rows, first row 4 with value 99.0"),
        (1e20, 3, "a placeholder, as 99 or 1e20, among others in 2 rows"),
        (1e20, slice(None), "one number at all redshifts in 2 rows"),
        (1.0, slice(None), "one number at all redshifts in 2 rows"),
        (0.0, slice(None), "2 of 30 cannot be used"),
        (-99.0, 3, "2 of 30 cannot be used"),
        (np.nan, 3, "2 of 30 cannot be used"),
    ],
)
def test_placeholders_in_p_of_z_cost_their_rows_alone(value, cells, told):
    """A cell of 99 was a spike of p(z) at its redshift, with a note on the grid."""
    p = P.copy()
    p[[4, 9], cells] = value
    catalogue = read(columns(p))
    assert np.flatnonzero(catalogue.flag & Flag.Z_ERROR_BAD).tolist() == [4, 9]
    assert any(told in note for note in catalogue.notes)
    np.testing.assert_allclose(*(np.delete(density(one)[0], [4, 9], 0) for one in (catalogue, read(columns()))))


def test_a_high_peak_is_no_placeholder():
    p = np.zeros((N, NODES.size))
    p[np.arange(N), np.searchsorted(NODES, Z)] = 99.0
    p[np.arange(N), np.searchsorted(NODES, Z) + 1] = 60.0
    assert read(columns(p)).usable.all()


@pytest.mark.parametrize("kind", ["interp", "hist"])
def test_a_file_of_qp_is_one_table(kind, tmp_path):
    """Groups meta, data and ancil, as RAIL writes them; the redshifts are in meta."""
    h5py = pytest.importorskip("h5py")
    path, middle = tmp_path / "ensemble.hdf5", 0.5 * (NODES[1:] + NODES[:-1])
    with h5py.File(path, "w") as file:
        file["meta/pdf_name"] = np.array([kind.encode()])
        file["meta/bins" if kind == "hist" else "meta/xvals"] = NODES[None]
        file["data/pz"] = P if kind == "interp" else gaussian(middle, Z[:, None], 0.04)
        for name, values in columns().items():
            if name != "pz":
                file[f"ancil/{name}"] = values
    catalogue = read(path, z_grid=None)
    mean, width = moments(catalogue)
    np.testing.assert_allclose(mean, Z, atol=1e-5)
    np.testing.assert_allclose(width, 0.04, rtol=1e-3)
    assert any("those of the qp ensemble" in note for note in catalogue.notes)


SD = np.linspace(0.01, 0.03, N)


@pytest.mark.parametrize(
    "sides, told",
    [
        ((Z - SD, Z + SD), "are ends"),
        ((Z + 1.4 * SD, Z - 0.6 * SD), "are ends"),
        ((1.2 * SD, 0.8 * SD), "are bars"),
        ((1.2 * SD, -0.8 * SD), "are bars"),
    ],
)
def test_two_ends_or_bars_are_half_an_interval(sides, told):
    """KiDS, COSMOS and Legacy have the ends of 68 %, MaDCoWS two bars."""
    first, second = (side.copy() for side in sides)
    first[2] = second[2] = -99.0
    catalogue = read(columns(zlow=first, zhigh=second), z_pdf=None, z_grid=None, z_err="zlow,zhigh")
    assert any(told in note for note in catalogue.notes)
    assert np.flatnonzero(catalogue.flag).tolist() == [2]
    found = catalogue.redshift_distributions.shape.sd
    np.testing.assert_allclose(np.delete(found, 2), np.delete(SD, 2), rtol=1e-9)


@pytest.mark.parametrize("way", ["column", "two", "bars"])
def test_an_interval_of_70_per_cent_by_name_is_one_of_68(way):
    """Euclid's PHZ_70_INT is 1.0364 standard deviations to each side, and was read as one."""
    half = SD * statistics.NormalDist().inv_cdf(0.85)
    ends = (half, half) if way == "bars" else (Z - half, Z + half)
    more = {"PHZ_70_INT": np.stack(ends, 1)} if way == "column" else {"PHZ_70_INT_1": ends[0], "PHZ_70_INT_2": ends[1]}
    catalogue = read(columns(**more), z_pdf=None, z_grid=None, z_err=",".join(more))
    assert any("of 70 % confidence by name" in note for note in catalogue.notes)
    np.testing.assert_allclose(catalogue.redshift_distributions.shape.sd, SD, rtol=1e-4)
    plain = {name.replace("70", "68"): values for name, values in more.items()}
    catalogue = read(columns(**plain), z_pdf=None, z_grid=None, z_err=",".join(plain))
    np.testing.assert_allclose(catalogue.redshift_distributions.shape.sd, half, rtol=1e-6)


@pytest.mark.parametrize(
    "names, words",
    [
        ("Z_L95,Z_U95", "of 95 % confidence"),
        ("PHZ_90_INT_1,PHZ_90_INT_2", "of 90 % confidence"),
        ("PHZ_70_INT_1", "of 70 % confidence"),
        ("ez_z025,ez_z975", "1.96 standard deviations"),
        ("sig95", "of 95 % confidence"),
        ("z_relerr", "by its name a fraction"),
        ("dz_norm", "by its name a fraction"),
        ("Z_L68", "give both ends, z_err='LOWER,UPPER'"),
        ("a,b,c", "names 3 columns"),
        ("a,a", "names one column twice"),
    ],
)
def test_errors_of_redshifts_that_are_something_else(names, words):
    more = {name: Z + 0.02 if name == "Z_L68" else SD for name in names.split(",")}
    with pytest.raises(MassmapError, match=words):
        read(columns(**more), z_pdf=None, z_grid=None, z_err=names)


@pytest.mark.parametrize("name", ["NQ", "zflg", "ZWARN", "z_quality", "QOP"])
def test_flags_of_how_sure_redshifts_are_are_told(name):
    flags = np.where(np.arange(N) < 4, 0, 3)
    table = {"lx": np.linspace(1, 2, N), "z": Z, name: flags, "nq_mag": Z}
    told = [note for note in mm.read_catalogue(table, lum="lx", sigma=0.1).notes if "how sure" in note]
    assert len(told) == 1 and told[0].startswith(f"{name!r}") and "0 in 4, 3 in 26 rows" in told[0]
    # A warning that is never raised, and a column of other numbers, are not.
    for quiet in (np.zeros(N, dtype=int), Z):
        notes = mm.read_catalogue(table | {name: quiet}, lum="lx", sigma=0.1).notes
        assert not any("how sure" in note for note in notes)


def test_photometric_redshifts_are_found_and_their_errors_told():
    table = {"lx": np.linspace(1, 2, N), "photoz_best": Z, "photoz_std_best": SD, "photoz_err68_min": Z - SD}
    catalogue = mm.read_catalogue(table, lum="lx", sigma=0.1)
    assert any("('photoz_std_best', 'photoz_err68_min') and not used" in note for note in catalogue.notes)
    sides = {"lx": np.linspace(1, 2, N), "z": Z, "z_err_lo": SD, "z_err_hi": SD}
    notes = mm.read_catalogue(sides, lum="lx", sigma=0.1).notes
    assert any("('z_err_lo', 'z_err_hi') and not used" in note for note in notes)
    # Legacy has a spectroscopic redshift for few of its objects.
    with pytest.raises(MassmapError, match=r"'Z_PHOT_MEDIAN' and 'Z_SPEC' .*could each be the redshift"):
        mm.read_catalogue({"lx": Z, "Z_PHOT_MEDIAN": Z, "Z_SPEC": np.full(N, -99.0)}, lum="lx", sigma=0.1)


def test_a_code_prior_is_divided_out(tmp_path):
    path = tmp_path / "prior.txt"
    path.write_text("z density\n0.0 1.0\n3.0 4.0\n")
    catalogue = read(columns(), z_contains="posterior", z_code_prior=str(path))
    z = np.broadcast_to(NODES[50:100:10], (N, 5))
    plain = read(columns()).redshift_distributions.ln_likelihood(z)
    np.testing.assert_allclose(plain - catalogue.redshift_distributions.ln_likelihood(z), np.log(1 + z), atol=1e-12)


class Ensemble:
    """What is used of an ensemble of qp."""

    def __init__(self, metadata):
        self.metadata = metadata

    def pdf(self, z):
        return np.exp(-0.5 * ((z - Z[:, None]) / 0.04) ** 2)


def test_an_ensemble_of_qp():
    options = {"contains": "likelihood", "lum_moves": True}
    for metadata in ({"xvals": NODES[None]}, lambda: {"xvals": NODES}):
        found = mm.RedshiftDistributions.from_qp(Ensemble(metadata), **options)
        np.testing.assert_allclose(found.shape.nodes, NODES)
        np.testing.assert_allclose(np.exp(found.shape.ln_values), P / P.max(axis=1, keepdims=True), atol=1e-6)
    with pytest.raises(MassmapError, match="no grid of its own"):
        mm.RedshiftDistributions.from_qp(Ensemble({}), **options)
    assert len(mm.RedshiftDistributions.from_qp(Ensemble({}), z=NODES, **options)) == N
    with pytest.raises(MassmapError, match="no method pdf"):
        mm.RedshiftDistributions.from_qp(P, **options)


def test_the_package_qp_itself():
    qp = pytest.importorskip("qp", reason="qp-prob is not installed")
    ensemble = qp.interp.create_ensemble(xvals=NODES, yvals=P)
    found = mm.RedshiftDistributions.from_qp(ensemble, contains="likelihood", lum_moves=True)
    np.testing.assert_allclose(np.exp(found.shape.ln_values), P / P.max(axis=1, keepdims=True), atol=1e-6)
    normal = qp.Ensemble(qp.stats.norm, data={"loc": Z[:, None], "scale": np.full((N, 1), 0.04)})
    found = mm.RedshiftDistributions.from_qp(normal, z=NODES, contains="likelihood", lum_moves=True)
    np.testing.assert_allclose(np.exp(found.shape.ln_values), P / P.max(axis=1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("dz/(1+z)", "over 1 + z"),
        ("sigma_z_1pz", "over 1 + z"),
        ("nmad", "over 1 + z"),
        ("e_z", "of z"),
        ("zrelease_err", "of z"),
        ("dz/z", None),
        ("z_err_rel", None),
        ("dz [%]", None),
        ("frac_err_z", None),
    ],
)
def test_an_error_of_redshifts_is_what_its_name_says(name, said):
    table, more = columns(**{name: np.linspace(0.02, 0.03, N)}), {"z_pdf": None, "z_grid": None, "z_err": name}
    if said is None:
        with pytest.raises(MassmapError, match="is by its name a fraction: say z_err_kind='relative' if it is"):
            read(table, **more)
        said, more = "over 1 + z", more | {"z_err_kind": "relative"}
    assert f"({name!r}, an error {said}" in " ".join(read(table, **more).notes)
