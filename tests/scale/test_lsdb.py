"""`massmap_jax.lsdb`: in partitions and on other processes the same masses, map and fit as in memory."""

import hashlib
import inspect
import os
import pickle
import shutil
import signal
import sys
import warnings
from itertools import pairwise

import jax
import numpy as np
import pytest

from massmap_jax.catalogue.read import read_catalogue
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.selection import FluxLimit, NoSelection
from massmap_jax.maps.mass_map import mass_map
from massmap_jax.maps.pixels import PixelGrid
from massmap_jax.posterior.mass_posterior import mass_posterior
from massmap_jax.prior.mass_prior import MassPrior
from massmap_jax.relation.compress import Points
from massmap_jax.relation.data import CatalogueData
from massmap_jax.relation.law import MassLuminosityRelation
from massmap_jax.scale import lsdb, tasks
from massmap_jax.scale.manifest import Manifest, header_of
from massmap_jax.scale.partitioned_data import PartitionedData
from massmap_jax.scale.parts import MASS_COLUMNS

pd = pytest.importorskip("pandas", reason="pandas is not installed")
dask = pytest.importorskip("dask", reason="dask is not installed")
dd = pytest.importorskip(
    "dask.dataframe", reason="dask is not installed (pip install 'dask[dataframe]' distributed lsdb)"
)

ROWS = 1500
PRIOR = MassPrior.default()
RELATION = MassLuminosityRelation.preset_draws("bigmali2017", jax.random.key(0), 8)
DRAWS = {"relation_from": "fixed_draws"}
ANALYTIC = {**DRAWS, "method": "analytic"}


def frame(rows=ROWS, seed=1):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "id": rng.permutation(rows) * 7 + 10**12,
            "ra": rng.uniform(10, 12, rows),
            "dec": rng.uniform(-1, 1, rows),
            "z": rng.uniform(0.4, 0.7, rows),
            "lum": np.exp(rng.normal(9.0, 0.5, rows)),
            "sigma_ln_lum": rng.uniform(0.05, 0.06, rows),
            "field": [f"f{i % 3}" for i in range(rows)],
        },
        index=pd.Index(np.arange(rows) * 10 + 5, name="_healpix_29"),
    )
    table.iloc[3:9, 4], table.iloc[20, 3], table.iloc[21, 4], table.iloc[30, 3] = np.nan, 7.0, -99.0, np.nan
    table.iloc[600:700, 4] = np.nan  # a partition without a usable row
    return table


def in_partitions(table, cuts=(0, 400, 400, 600, 700, 1130, ROWS)):
    """A dask DataFrame cut at given rows: the second partition is empty."""
    parts = [table.iloc[a:b] for a, b in pairwise(cuts)]
    return dd.from_map(lambda i: parts[i], range(len(parts)), meta=table.iloc[:0])


def compute(lazy):
    return lazy.compute(scheduler="threads")


def hashes(out):
    found = (p for p in sorted(out.rglob("*")) if p.is_file())
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


@pytest.fixture(scope="module")
def table():
    return frame()


@pytest.fixture(scope="module")
def catalogue(table):
    return read_catalogue(table)


@pytest.fixture(scope="module")
def in_memory(catalogue):
    return mass_posterior(catalogue, PRIOR, RELATION, **DRAWS).to_table()


@pytest.fixture(scope="module")
def surface(table):
    return lsdb.posterior_surface(in_partitions(table), PRIOR, RELATION, **DRAWS)


# -- masses ------------------------------------------------------------------------------------------------------------


def test_redshift_errors_of_each_partition(table, tmp_path):
    """Masses and their map are those in memory; a surface and a fit, which would take redshifts as exact, are refused."""
    errors = {"z_err": "error", "z_err_kind": "relative", "z_contains": "likelihood", "lum_moves": "yes"}
    near = table.iloc[:120].assign(error=0.01, sigma_ln_lum=0.5)  # few redshift nodes are needed
    near.iloc[50:60, -1] = np.nan  # a partition without a usable error
    parts = in_partitions(near, (0, 50, 60, 120))
    relation = RELATION.draw(slice(0, 2))
    keep = ("log10_mass_mean", "z_mean", "z_sd", "flag_reason")
    lazy = lsdb.mass_posterior(parts, PRIOR, relation, columns=errors, keep=keep, **ANALYTIC)
    found, catalogue = compute(lazy), read_catalogue(near, **errors)
    posterior = mass_posterior(catalogue, PRIOR, relation, **DRAWS)
    for name, values in posterior.to_table(keep).items():
        np.testing.assert_array_equal(found[name].to_numpy(), values, err_msg=name)
    assert (found["flag_reason"].iloc[50:60] == "Z_ERROR_BAD").all()
    grid = PixelGrid("tangent", (4, 4), 30.0, (11.0, 0.0))
    given = {"num_draws": 4, **DRAWS}
    one = lsdb.mass_map(jax.random.key(2), parts, PRIOR, relation, grid, columns=errors, **given)
    other = mass_map(jax.random.key(2), catalogue, PRIOR, relation, grid, draws="table", **given)
    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-5)
    np.testing.assert_allclose(one.sd, other.sd, rtol=1e-4)
    with pytest.raises(MassmapError, match="use method='analytic'"):
        lsdb.mass_posterior(parts, PRIOR, relation, columns=errors, **DRAWS)
    with pytest.raises(MassmapError, match="fit a part that fits in memory"):
        lsdb.fit_relation(parts, PRIOR, columns=errors)
    with pytest.raises(MassmapError, match="z_mean are those of redshifts that are not exact"):
        lsdb.mass_posterior(parts, PRIOR, relation, keep=("z_mean",), **ANALYTIC)


LEVELS = (1, 5, 16, 30, 50, 70, 84, 95, 99)
SHAPES = {
    "quantiles": {"z_quantiles": ",".join(f"{level}:q{level}" for level in LEVELS)},
    "grid": {"z_pdf": "pz", "z_grid": "0.2:1:161"},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_p_of_z_of_each_partition(shape, table):
    """Masses and redshifts are those in memory, whether p(z) is told by quantiles or on a grid, as lists or of Arrow."""
    from scipy.special import ndtri

    told = {**SHAPES[shape], "z_contains": "likelihood", "lum_moves": "yes"}
    near = table.iloc[:30].assign(sigma_ln_lum=0.5)
    z, nodes = near["z"].to_numpy(), np.linspace(0.2, 1.0, 161)
    if shape == "quantiles":
        values = {f"q{level}": z + 0.03 * ndtri(level / 100) for level in LEVELS}
        near = near.assign(**values)
        near.loc[near.index[10:20], "q50"] = np.nan  # a partition without a usable p(z)
    else:
        density = np.exp(-0.5 * ((nodes - z[:, None]) / 0.03) ** 2)
        near["pz"] = [None if 10 <= i < 20 or not np.isfinite(z[i]) else row for i, row in enumerate(density.tolist())]
    relation = RELATION.draw(slice(0, 2))
    keep = ("log10_mass_mean", "z_mean", "z_sd", "flag_reason")
    best = mass_posterior(read_catalogue(near, **told), PRIOR, relation, **DRAWS).to_table(keep)
    kinds = [near]
    if shape == "grid":
        import pyarrow as pa

        kinds.append(near.assign(pz=near["pz"].astype(pd.ArrowDtype(pa.list_(pa.float64())))))
    with pytest.MonkeyPatch.context() as patch:
        if shape == "grid":
            with pytest.raises(MassmapError, match="Dask makes text of lists"):
                lsdb.mass_posterior(in_partitions(near), PRIOR, relation, columns=told, **ANALYTIC)
        patch.setitem(dask.config.config["dataframe"], "convert-string", False)
        every = [in_partitions(given, (0, 10, 20, 30)) for given in kinds]
    for parts in every:
        found = compute(lsdb.mass_posterior(parts, PRIOR, relation, columns=told, keep=keep, **ANALYTIC))
        for name, values in best.items():
            np.testing.assert_array_equal(found[name].to_numpy(), values, err_msg=name)
        assert np.isfinite(found["z_sd"]).sum() > 10 and (found["flag_reason"].iloc[10:18] == "Z_ERROR_BAD").all()
    if shape == "grid":
        with pytest.raises(MassmapError, match="may have no row that tells its redshifts"):
            lsdb.mass_posterior(parts, PRIOR, relation, columns={**told, "z_grid": "pz"}, **ANALYTIC)


def test_masses_are_those_in_memory_and_nothing_else_changes(table, in_memory):
    lazy = lsdb.mass_posterior(in_partitions(table), PRIOR, RELATION, keep=(*MASS_COLUMNS, "flag_reason"), **ANALYTIC)
    assert isinstance(lazy, dd.DataFrame) and lazy.npartitions == 6
    found = compute(lazy)
    pd.testing.assert_frame_equal(found[list(table.columns)], compute(in_partitions(table)))
    assert found.index.equals(table.index) and found.index.name == "_healpix_29"
    for name in (*MASS_COLUMNS, "flag_reason"):
        np.testing.assert_array_equal(found[name].to_numpy(), in_memory[name], err_msg=name)
    assert found["log10_mass_mean"].iloc[600:700].isna().all() and (found["flag"].iloc[600:700] == 1).all()
    assert found["flag_reason"].iloc[20] == "Z_OUTSIDE_PRIOR"
    for part in (lazy._meta, compute(lazy.partitions[1]), compute(lazy.partitions[3])):
        assert (part.dtypes == found.dtypes).all()
    assert compute(lazy.partitions[1]).shape == (0, found.shape[1])


def test_a_function_for_map_partitions_keeps_the_dtypes_of_arrow(table, in_memory):
    held = table.convert_dtypes(dtype_backend="pyarrow")
    held.index = held.index.astype("int64[pyarrow]")
    held.loc[held.index[40], "lum"] = pd.NA
    function = tasks.MassColumns(
        held.iloc[:0], PRIOR, RELATION, keep=("log10_mass_mean", "flag"), prefix="mm_", **ANALYTIC
    )
    for part in (held, held.iloc[:0]):
        made = function(part)
        assert made[list(held.columns)].equals(part) and made.index.equals(part.index)
        assert (made.dtypes == function.meta.dtypes).all() and made.index.dtype == held.index.dtype
        assert list(made.columns) == [*held.columns, "mm_log10_mass_mean", "mm_flag"]
    best = in_memory["log10_mass_mean"].copy()
    best[40] = np.nan
    np.testing.assert_array_equal(function(held)["mm_log10_mass_mean"], best)
    narrow = tasks.MassColumns(held.iloc[:0], PRIOR, RELATION, keep=("mass_mean", "flag"), float32=True, **ANALYTIC)
    assert narrow.meta["mass_mean"].dtype == np.float32 and narrow.meta["flag"].dtype == np.int32


def test_surface_over_the_range_of_all_partitions(table, catalogue, surface):
    found = compute(lsdb.mass_posterior(in_partitions(table), PRIOR, RELATION, surface=surface, **DRAWS))
    # The same table as in memory, hence the same masses to the last bit.
    best = mass_posterior(catalogue, PRIOR, RELATION, method="surface", **DRAWS)
    np.testing.assert_array_equal(best.surface.values, surface.values)
    for name, values in best.to_table(MASS_COLUMNS).items():
        np.testing.assert_array_equal(found[name].to_numpy(), values, err_msg=name)


# -- a folder ----------------------------------------------------------------------------------------------------------


def test_write_and_resume(table, in_memory, tmp_path, monkeypatch):
    import pyarrow.parquet as pq

    table.reset_index().to_parquet(tmp_path / "a.parquet", row_group_size=250)

    def source():
        return dd.read_parquet(tmp_path / "a.parquet", split_row_groups=True)

    def write(name, **changes):
        options = {**ANALYTIC, "carry": ["id", "field"], **changes}
        return lsdb.write(source(), tmp_path / name, PRIOR, RELATION, **options)

    total = write("out")
    assert total["done"] == 6 and total["rows"] == ROWS and total["flags"]["LUM_MISSING"] == 106
    parts = [pq.read_table(p).to_pandas() for p in sorted((tmp_path / "out" / "masses").iterdir())]
    found = pd.concat(parts)
    np.testing.assert_array_equal(found["id"], table["id"])
    assert (found["field"].to_numpy() == table["field"].to_numpy()).all()
    for name in MASS_COLUMNS:
        np.testing.assert_array_equal(found[name].to_numpy(), in_memory[name], err_msg=name)
    whole = hashes(tmp_path / "out")

    # Stopped: two parts in no order, one that its line was not written for, and one half written.
    shutil.copytree(tmp_path / "out", tmp_path / "cut")
    lines = (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()
    book = Manifest(tmp_path / "cut", header_of(tmp_path / "cut"))
    book.keep([book.parts[4], book.parts[1]])
    with open(tmp_path / "cut" / "manifest.jsonl", "a") as file:
        file.write(lines[1][:20])
    for i in (0, 2, 5):
        (tmp_path / "cut" / "masses" / f"part-{i:05d}.parquet").unlink()
    (tmp_path / "cut" / "masses" / ".part-00002.x1b2c3_4.parquet").write_text("half")
    computed = []
    masses = tasks.MassColumns.masses
    monkeypatch.setattr(tasks.MassColumns, "masses", lambda self, c: computed.append(len(c)) or masses(self, c))
    before = hashes(tmp_path / "cut")
    for changes, words in (
        ({"resume": False}, "exists and is left as it was: .* resume=True"),
        ({"float32": True}, r"another options \(float32"),
        ({"relation_from": "this_catalogue"}, "another relation_from"),
    ):
        with pytest.raises(MassmapError, match=words):
            write("cut", **{"resume": True, **changes})
    assert hashes(tmp_path / "cut").items() <= before.items() and not computed
    assert write("cut", resume=True) == total
    assert len(computed) == 4 and hashes(tmp_path / "cut") == whole
    assert write("cut", resume=True) == total and len(computed) == 4

    # A part that was changed since, in as many bytes: found, and computed again.
    part = tmp_path / "cut" / "masses" / "part-00003.parquet"
    part.write_bytes(part.read_bytes()[::-1])
    assert write("cut", resume=True) == total and len(computed) == 5 and hashes(tmp_path / "cut") == whole

    # A changed input is another one.
    (tmp_path / "cut" / "manifest.jsonl").write_text("\n".join(lines[:3]) + "\n")
    changed = table.reset_index()
    changed.loc[7, "z"] = 0.3
    changed.to_parquet(tmp_path / "a.parquet", row_group_size=250)
    with pytest.raises(MassmapError, match="another input"):
        write("cut", resume=True)
    with pytest.raises(MassmapError, match="holds no run to resume"):
        write("new", resume=True)


# -- other processes ---------------------------------------------------------------------------------------------------


def test_two_workers_of_which_one_is_killed(table, surface, tmp_path):
    """kill -9 in the middle of a partition: the same bytes. And each worker is sent the table, and compiles, once."""
    distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")

    def deadly(part, place):
        if len(part) == 200 and place and not os.path.exists(place):
            open(place, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return part

    def write(place, out):
        source = in_partitions(table).map_partitions(deadly, place, meta=table.iloc[:0])
        options = {**DRAWS, "surface": surface, "fingerprint": "the test's"}
        return lsdb.write(source, out, PRIOR, RELATION, **options)

    def listen():
        import massmap_jax.scale.worker_memory as module

        module.compiled = []
        jax.clear_caches()
        jax.monitoring.register_event_duration_secs_listener(
            lambda event, _, **more: module.compiled.append(event) if "backend_compile" in event else None
        )

    def counted():
        import massmap_jax.scale.worker_memory as module

        return len(module.compiled), len(module.HELD)

    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        first = set(client.run(os.getpid).values())
        assert os.getpid() not in first and len(first) == 2
        # On the same workers: this process may be compiled with other options, and then differs in the last digit.
        alone = write("", tmp_path / "alone")
        assert write(str(tmp_path / "killed"), tmp_path / "out") == alone
        assert (tmp_path / "killed").exists()
        client.wait_for_workers(2)
        assert set(client.run(os.getpid).values()) != first
        assert hashes(tmp_path / "out") == hashes(tmp_path / "alone")

        function = tasks.MassColumns(table.iloc[:0], PRIOR, RELATION, method="surface", surface=surface, **DRAWS)
        assert len(pickle.dumps(function)) < 20_000 < surface.values.nbytes
        client.run(listen)
        numbers = []
        for rows in (slice(0, 400), slice(400, 1100), slice(1100, 1130)):
            for worker in client.run(os.getpid):
                done = client.submit(function, table.iloc[rows], workers=[worker], pure=False).result()
                assert len(done) == len(table.iloc[rows])
            numbers.append(client.run(counted))
        assert numbers[0] == numbers[1] == numbers[2] and all(n for n, _ in numbers[0].values()), numbers


# -- maps --------------------------------------------------------------------------------------------------------------


def test_map_is_that_of_the_whole_catalogue(table, catalogue, surface):
    grid, key = PixelGrid("tangent", (16, 16), 6.0, (11.0, 0.0)), jax.random.key(3)
    whole = mass_map(key, catalogue, PRIOR, RELATION, grid, num_draws=12, keep_draws=True, draws="table", **DRAWS)
    # An id of another name; eleven partitions are added in two steps.
    renamed = table.rename(columns={"id": "object"})
    cuts = (0, 100, 400, 400, 410, 600, 700, 900, 1000, 1130, 1300, ROWS)
    found = lsdb.mass_map(
        key,
        in_partitions(renamed, cuts),
        PRIOR,
        RELATION,
        grid,
        columns={"id": "object"},
        num_draws=12,
        keep_draws=True,
        **DRAWS,
    )
    assert (found.n_outside, found.n_flagged) == (whole.n_outside, whole.n_flagged) and whole.nobj.sum() > 500
    for name in ("mean", "sampled_mean", "sd", "q16", "q50", "q84", "nobj", "total_draws", "draws"):
        np.testing.assert_allclose(getattr(found, name), getattr(whole, name), rtol=1e-12, err_msg=name)

    quick = lsdb.mass_map(key, in_partitions(table), PRIOR, RELATION, grid, num_draws=12, surface=surface, **DRAWS)
    np.testing.assert_allclose(quick.sd, whole.sd, rtol=1e-12)
    np.testing.assert_allclose(quick.mean, whole.mean, rtol=0.01)


def test_a_map_needs_ids_that_are_unique_everywhere(table):
    grid, key = PixelGrid("tangent", (4, 4), 24.0, (11.0, 0.0)), jax.random.key(3)

    def asked(source, **options):
        return lsdb.mass_map(key, source, PRIOR, RELATION, grid, num_draws=12, **{**DRAWS, **options})

    without = table.drop(columns="id")
    assert asked(in_partitions(without)).nobj.sum() > 500  # the index of HATS serves
    with pytest.raises(MassmapError, match="has no id column"):
        asked(in_partitions(without.rename_axis(None)))
    repeating = without.assign(id=np.arange(ROWS) % 400)
    with pytest.raises(MassmapError, match="'id' are repeated in another partition"):
        asked(in_partitions(repeating, (0, 400, 800, 1200, ROWS)))
    with pytest.raises(MassmapError, match="fixed_draws"):
        asked(in_partitions(table), relation_from="other_data")
    with pytest.raises(MassmapError, match="no positions"):
        asked(in_partitions(table.drop(columns=["ra", "dec"])))


# -- the relation ------------------------------------------------------------------------------------------------------


def of_catalogue(catalogue):
    columns = {"id": catalogue.ids, "z": catalogue.redshift, "lum": np.exp(catalogue.ln_lum_obs)}
    return pd.DataFrame(columns | {"sigma_ln_lum": catalogue.sigma_ln_lum})


def test_fit_is_that_of_the_whole_catalogue():
    from relation.test_relation_fit import KEY, quiet_fit, wide_prior
    from relation.test_relation_likelihood import PRIOR as SCHECHTER
    from relation.test_relation_likelihood import simulate

    catalogue = simulate(2500, seed=5, distinct=40)
    options = {"method": "laplace", "num_draws": 4000, "key": KEY}
    whole = quiet_fit(catalogue, SCHECHTER, wide_prior(), **options)
    table = of_catalogue(catalogue).sample(frac=1, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = in_partitions(table, (0, 900, 900, 1000, 2500))
        found = lsdb.fit_relation(source, SCHECHTER, wide_prior(), **options)
    sd = np.sqrt(np.diag(whole.covariance))
    for i, name in enumerate(whole.free):
        assert abs(getattr(found.maximum, name) - getattr(whole.maximum, name)) < 1e-3 * sd[i], name
        mine, its = (float(np.asarray(getattr(f.draws, name)).mean()) for f in (found, whole))
        assert abs(mine - its) < 5 * sd[i] * np.sqrt(2 / 4000), name
    np.testing.assert_allclose(found.covariance, whole.covariance, rtol=1e-3)
    assert (found.num_halos, found.mass_prior, found.selection) == (2500, whole.mass_prior, "none")
    shift = "shift_if_lowest_mass_doubles"
    assert getattr(found, shift) == pytest.approx(getattr(whole, shift), rel=1e-2)


@pytest.mark.parametrize("selection", [NoSelection(), FluxLimit(3000.0)])
def test_points_of_partitions_are_those_of_the_catalogue(selection, table):
    many = pd.concat([frame(6000, seed) for seed in range(5)], ignore_index=True)
    many = many[~(many["lum"] < 3000.0)].assign(id=lambda t: np.arange(len(t)))
    cuts, columns = (0, 5000, 5000, 5010, 9000, len(many)), {"sigma": 0.05}
    data = PartitionedData(in_partitions(many, cuts), PRIOR, selection, columns)
    with jax.enable_x64(True):
        whole = CatalogueData(read_catalogue(many, **columns), PRIOR, selection)
        found, best = data.compressed(0.1), whole.compressed(0.1)
    assert data.num_halos == whole.num_halos and data.constant == whole.constant and best.weight.size < whole.num_halos
    best = best + Points(*np.zeros((4, 0)))  # in the order of sums
    for name in Points._fields:
        np.testing.assert_allclose(getattr(found, name), getattr(best, name), rtol=1e-12, atol=1e-9, err_msg=name)
    for mine, its in zip(data.middle(RELATION.draw(0)), whole.middle(RELATION.draw(0)), strict=True):
        assert abs(mine - its) < 0.2
    assert sorted(data.halos().ln_lum_obs) == sorted(whole.halos().ln_lum_obs)


# -- errors ------------------------------------------------------------------------------------------------------------


def test_errors_are_one_sentence(table, surface, monkeypatch):
    ddf = in_partitions(table)

    def refused(words, source=ddf, ask=lsdb.mass_posterior, **options):
        with pytest.raises(MassmapError, match=words) as caught:
            compute(ask(source, PRIOR, RELATION, **{**ANALYTIC, **options}))
        assert "\n" not in str(caught.value)

    refused("no column 'L500' in the catalogue", columns={"lum": "L500"})
    refused("does not know lumm", columns={"lumm": "lum"})
    refused("usual name for the redshift", in_partitions(table.drop(columns="z")))
    refused("holds bool values", in_partitions(table.assign(lum=True)))
    refused("is not a catalogue in partitions", table)
    refused("8 draws, and relation_from is not given", relation_from=None)
    refused("method 'monte_carlo' is not known here", method="monte_carlo")
    refused("mas are not known", keep=("mas",))
    refused("has columns flag already", in_partitions(table.assign(flag=1)))
    refused("no row of the catalogue can be used .100 rows: luminosity missing", in_partitions(table.iloc[600:700], (0, 50, 100)),
            method="surface")  # fmt: skip

    refused(r"the faintest luminosity is \S+ times brighter than that of a halo of", in_partitions(table.assign(lum=1e40 * table.lum)),
            method="surface")  # fmt: skip

    def odd(part, change):
        return change(part) if len(part) == 200 else part

    for change, words in (
        (lambda part: part.drop(columns="lum"), "a partition has no column 'lum'"),
        (lambda part: part.assign(lum="many"), "'lum' of a partition holds .* where the catalogue says number"),
    ):
        schema = {"meta": table.iloc[:0], "enforce_metadata": False}
        refused(words, in_partitions(table).map_partitions(odd, change, **schema))
    lost = in_partitions(table).map_partitions(odd, lambda part: part.drop(columns="lum"), **schema)
    with pytest.raises(MassmapError, match="lacks a column that the others have"):
        lsdb.posterior_surface(lost, PRIOR, RELATION, **DRAWS)

    class Odd:
        def log_prob(self, ln_lum_obs, z):
            return 0 * z

    with pytest.raises(MassmapError, match="selection Odd would be taken at every object"):
        lsdb.fit_relation(ddf, PRIOR, selection=Odd())
    with pytest.raises(MassmapError, match="the selection gives"):
        lsdb.fit_relation(ddf, PRIOR, selection=FluxLimit(1e5))
    monkeypatch.setitem(sys.modules, "dask.dataframe", None)
    refused(r"dask, which is not installed: pip install 'dask\[dataframe\]' distributed lsdb")


# -- LSDB --------------------------------------------------------------------------------------------------------------


def test_lsdb_catalogue(table, in_memory, tmp_path):
    package = pytest.importorskip(
        "lsdb", reason="LSDB is not installed (pip install 'dask[dataframe]' distributed lsdb)"
    )
    quick = {"should_generate_moc": False, "margin_threshold": None}
    # LSDB 0.7 calls it otherwise.
    named = inspect.signature(package.from_dataframe).parameters
    quick |= {"partition_rows" if "partition_rows" in named else "threshold": 400}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        objects = package.from_dataframe(table.reset_index(drop=True), catalog_name="objects", **quick)
    lazy = lsdb.mass_posterior(objects, PRIOR, RELATION, **ANALYTIC)
    assert type(lazy) is type(objects) and lazy.npartitions == objects.npartitions > 2
    found = lazy.compute()
    assert type(found).__name__ == "NestedFrame" and found.index.name == "_healpix_29"
    assert str(found["lum"].dtype) == "double[pyarrow]" and (found.dtypes == lazy.dtypes).all()
    order = np.argsort(table["id"].to_numpy())[np.argsort(np.argsort(found["id"].to_numpy()))]
    np.testing.assert_array_equal(found["log10_mass_mean"].to_numpy(), in_memory["log10_mass_mean"][order])

    total = lsdb.write(objects, tmp_path / "out", PRIOR, RELATION, carry=["id"], **ANALYTIC)
    assert (total["rows"], total["done"]) == (ROWS, objects.npartitions)
    assert lsdb.write(objects, tmp_path / "out", PRIOR, RELATION, carry=["id"], resume=True, **ANALYTIC) == total

    grid, key = PixelGrid("tangent", (16, 16), 6.0, (11.0, 0.0)), jax.random.key(3)
    whole = mass_map(key, read_catalogue(table), PRIOR, RELATION, grid, num_draws=12, draws="table", **DRAWS)
    image = lsdb.mass_map(key, objects, PRIOR, RELATION, grid, num_draws=12, **DRAWS)
    np.testing.assert_allclose(image.sd, whole.sd, rtol=1e-12)
    # Without the id, the index of HATS is one.
    again = lsdb.mass_map(
        key, objects[[name for name in objects.columns if name != "id"]], PRIOR, RELATION, grid, num_draws=12, **DRAWS
    )
    np.testing.assert_allclose(again.mean, whole.mean, rtol=1e-12)
    assert not np.allclose(again.total_draws, whole.total_draws, rtol=1e-6)
