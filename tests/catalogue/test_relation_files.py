"""Files of draws of the relation: nothing that would change the answer is dropped without a word."""

import numpy as np
import pytest
from astropy.table import Table

from massmap_jax import MassLuminosityRelation, RelationPrior
from massmap_jax.catalogue.read import read_relation
from massmap_jax.catalogue.relation_files import chain_files
from massmap_jax.catalogue.write import write_table
from massmap_jax.errors import MassmapError
from massmap_jax.run.inputs import inputs_of
from massmap_jax.run.options import JobOptions, check_options

NUM = 6
RNG = np.random.default_rng(4)
DRAWS = {
    "alpha1": RNG.normal(3, 0.1, NUM),
    "alpha2": RNG.normal(0.8, 0.05, NUM),
    "alpha3": np.full(NUM, 3e14),
    "alpha4": RNG.normal(0, 0.2, NUM),
    "scatter": RNG.uniform(0.2, 0.3, NUM),
}
WEIGHT = np.array([9.0, 1.0, 0.0, 4.0, 2.0, 1.0])


def refused(path, *words, **options):
    __tracebackhide__ = True
    with pytest.raises(MassmapError) as told:
        read_relation(path, **options)
    text = str(told.value)
    assert not [word for word in words if word not in text], text


def csv(path, columns, header=()):
    lines = [
        *header,
        ",".join(columns),
        *(",".join(map(repr, map(float, row))) for row in zip(*columns.values(), strict=True)),
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def same(read, **more):
    for name, values in {**DRAWS, **more}.items():
        np.testing.assert_allclose(read[name], values, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("name", ["weight", "weights", "Weight", "wt", "multiplicity", "importance"])
def test_weights_are_used(tmp_path, name):
    notes = []
    read = read_relation(csv(tmp_path / "r.csv", {**DRAWS, name: WEIGHT}), notes=notes)
    with np.errstate(divide="ignore"):
        same(read, log_weight=np.log(WEIGHT))
    assert read["log_weight"][2] == -np.inf and any(name in note for note in notes)


@pytest.mark.parametrize("name", ["log_weight", "logwt", "log_weights", "ln_weight", "LOGW"])
def test_logarithms_of_weights_are_used(tmp_path, name):
    same(read_relation(csv(tmp_path / "r.csv", {**DRAWS, name: WEIGHT - 5})), log_weight=WEIGHT - 5)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({**DRAWS, "weight": WEIGHT, "log_weight": WEIGHT}, ("both weights", "'weight'", "'log_weight'")),
        ({**DRAWS, "weight": WEIGHT - 5}, ("not negative", "first row 1")),
        ({**DRAWS, "weight": 0 * WEIGHT}, ("all of them are 0",)),
        ({**DRAWS, "prob": WEIGHT, "beta": WEIGHT}, ("'prob'", "'beta'", "ignore_columns")),
        ({**DRAWS, "alpha5": WEIGHT}, ("'alpha5'", "relation_columns")),
        ({k: v for k, v in DRAWS.items() if k != "alpha3"}, ("no alpha3", "pivot", "Msun")),
        ({**DRAWS, "alpha3": np.full(NUM, 14.5)}, ("alpha3", "Msun", "3e14")),
        ({**DRAWS, "alpha3": np.full(NUM, 3.0)}, ("alpha3", "Msun")),
        ({k: v for k, v in DRAWS.items() if k != "alpha4"}, ("no alpha4",)),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path, columns, words):
    refused(csv(tmp_path / "r.csv", columns), *words, "r.csv")


def test_unknown_columns_can_be_left_out(tmp_path):
    notes = []
    same(read_relation(csv(tmp_path / "r.csv", {**DRAWS, "beta": WEIGHT}), ignore_columns=True, notes=notes))
    assert any("'beta'" in note and "not used" in note for note in notes)


@pytest.mark.parametrize(
    "name", ["minuslogpost", "chi2", "lp__", "chain", "iteration", "log_prob", "loglike", "minuslogprior__0"]
)
def test_a_samplers_own_columns_are_told_and_left_out(tmp_path, name):
    notes = []
    same(read_relation(csv(tmp_path / "r.csv", {name: WEIGHT, **DRAWS}), notes=notes))
    assert any(name in note and "not used" in note for note in notes)


def test_gamma_is_read(tmp_path):
    gamma = np.linspace(0.5, 0.8, NUM)
    same(read_relation(csv(tmp_path / "r.csv", {**DRAWS, "gamma": gamma})), gamma=gamma)
    alone = {k: v for k, v in DRAWS.items() if k != "alpha4"}
    np.testing.assert_array_equal(read_relation(csv(tmp_path / "g.csv", {**alone, "gamma": gamma}))["alpha4"], 0)


def test_columns_by_any_name(tmp_path):
    own = {"a": DRAWS["alpha1"], "B": DRAWS["alpha2"], "sig": DRAWS["scatter"], "w": WEIGHT}
    mapping = {"alpha1": "a", "alpha2": "b", "scatter": "sig", "alpha3": "3e14", "alpha4": "0", "weight": "w"}
    read = read_relation(csv(tmp_path / "r.csv", own), columns=mapping)
    np.testing.assert_array_equal(read["alpha1"], own["a"])
    np.testing.assert_array_equal(read["alpha3"], np.full(NUM, 3e14))
    np.testing.assert_array_equal(read["log_weight"][[0, 1]], np.log([9.0, 1.0]))
    refused(tmp_path / "r.csv", "no column 'q'", columns={**mapping, "alpha1": "q"})
    refused(tmp_path / "r.csv", "value 1 in all draws", columns={**mapping, "alpha1": "1"})
    refused(tmp_path / "r.csv", "alpha9", columns={**mapping, "alpha9": "a"})
    refused(
        tmp_path / "r.csv",
        "no scatter",
        "sig, w",
        columns={name: mapping[name] for name in mapping if name != "scatter"},
    )


# ---- headers


@pytest.mark.parametrize(
    "line", ["# mass_definition = 500c", "# mass_definition: 500c", "# massdef = '500c'", "#MassDef=500c"]
)
def test_labels_of_the_header_are_read(tmp_path, line):
    read = read_relation(csv(tmp_path / "r.csv", DRAWS, [line, "# lum_unit = 1e44 erg/s", "# Omega_m: 0.31"]))
    assert (read["mass_definition"], read["lum_unit"], read["omega_m"]) == ("500c", "1e44 erg/s", 0.31)


def test_the_pivot_may_stand_in_the_header(tmp_path):
    alone = {k: v for k, v in DRAWS.items() if k != "alpha3"}
    same(read_relation(csv(tmp_path / "r.csv", alone, ["# alpha3 = 3e14"])))
    same(read_relation(csv(tmp_path / "p.csv", alone, ["# pivot: 3e14 Msun"])))
    refused(csv(tmp_path / "q.csv", alone, ["# pivot = unknown"]), "pivot", "no number")


@pytest.mark.parametrize(
    "line", ["# scatter in dex", "# alpha1 is in log10", "# log base = 10", "# decimal logarithms"]
)
def test_a_header_that_speaks_of_decimal_logarithms_is_no_line_to_ignore(tmp_path, line):
    """A scatter in dex was read as one in ln, 2.3 times too small, as ignore_columns=True said."""
    path = csv(tmp_path / "r.csv", DRAWS, [line])
    with pytest.raises(MassmapError, match=r"in dex or log10 by the header"):
        read_relation(path, ignore_columns=True)
    same(read_relation(csv(tmp_path / "s.csv", DRAWS, ["# pivot was 14.48 in log10"]), ignore_columns=True))


@pytest.mark.parametrize("line", ["# masses in Msun/h", "# h = 0.7", "# burn-in 500 removed", "# ln, not dex"])
def test_header_lines_that_are_not_understood_are_refused(tmp_path, line):
    path = csv(tmp_path / "r.csv", DRAWS, [line])
    refused(path, "header lines", line.lstrip("# "), "ignore_columns")
    same(read_relation(path, ignore_columns=True))


@pytest.mark.parametrize("suffix", ["csv", "ecsv", "fits", "parquet"])
def test_labels_of_this_programs_own_files(tmp_path, suffix):
    meta = {
        "program": "massmap_jax 0.1",
        "mass_definition": "200m",
        "luminosity_unit": "unknown",
        "relation_source": "a fit",
    }
    write_table(tmp_path / f"r.{suffix}", DRAWS, meta | {"selection": "none", "seed": 3}, {"alpha3": "solMass"})
    read = read_relation(tmp_path / f"r.{suffix}")
    same(read)
    assert read["mass_definition"] == "200m" and read["lum_unit"] == ""


def test_a_pivot_with_a_unit(tmp_path):
    table = Table({**DRAWS, "alpha3": np.full(NUM, 3.0)})
    table["alpha3"].unit = "1e14 solMass"
    table.write(tmp_path / "r.fits")
    same(read_relation(tmp_path / "r.fits"))
    table.remove_column("alpha3")
    write_table(tmp_path / "h.fits", DRAWS, {}, {"alpha3": "Msun/h"})
    with pytest.raises(MassmapError) as told:
        read_relation(tmp_path / "h.fits")
    assert "h" in str(told.value)


def test_labels_meet_those_of_the_prior(tmp_path):
    from massmap_jax.labels import check_labels
    from massmap_jax.prior.mass_prior import MassPrior
    from massmap_jax.relation.law import MassLuminosityRelation

    path = csv(tmp_path / "r.csv", DRAWS, ["# mass_definition = 500c"])
    relation = MassLuminosityRelation.from_draws(**read_relation(path))
    with pytest.raises(MassmapError, match="500c"):
        check_labels(relation=relation, mass_prior=MassPrior.default())


# ---- chains


def test_cobaya(tmp_path):
    names = ["weight", "minuslogpost", *DRAWS, "minuslogprior", "minuslogprior__0", "chi2", "chi2__clusters"]
    rows = np.column_stack([WEIGHT, 0 * WEIGHT, *DRAWS.values(), *np.zeros((4, NUM))])
    path = tmp_path / "chain.1.txt"
    np.savetxt(path, rows, header=" ".join(names), fmt="%.17g")
    notes = []
    with np.errstate(divide="ignore"):
        same(read_relation(path, notes=notes), log_weight=np.log(WEIGHT))
    assert any("Cobaya" in note and "burn-in" in note for note in notes)


def test_getdist(tmp_path):
    rows = np.column_stack([WEIGHT, 0 * WEIGHT, *DRAWS.values()])
    np.savetxt(tmp_path / "root_1.txt", rows, fmt="%.17g")
    (tmp_path / "root.paramnames").write_text(
        "".join(f"{name}\t\\{name}\n" for name in [*list(DRAWS)[:-1], "scatter*"])
    )
    notes = []
    with np.errstate(divide="ignore"):
        same(read_relation(tmp_path / "root_1.txt", notes=notes), log_weight=np.log(WEIGHT))
    assert any("GetDist" in note for note in notes)


def getdist_files(tmp_path, root, *names):
    """The draws as chains of GetDist, split evenly over files of these names."""
    rows = np.column_stack([WEIGHT, 0 * WEIGHT, *DRAWS.values()])
    for name, part in zip(names, np.split(rows, len(names)), strict=True):
        np.savetxt(tmp_path / name, part, fmt="%.17g")
    (tmp_path / f"{root}.paramnames").write_text("".join(f"{name}\t\\{name}\n" for name in DRAWS))
    return tmp_path / root


@pytest.mark.parametrize(
    ("root", "names"),
    [
        ("root", ["root.txt"]),
        ("root", ["root_1.txt", "root_2.txt"]),
        ("fit.v2", ["fit.v2.1.txt", "fit.v2.2.txt", "fit.v2.10.txt"]),
    ],
)
def test_root_of_getdist(tmp_path, root, names):
    path, notes = getdist_files(tmp_path, root, *names), []
    (tmp_path / "root_other_1.txt").write_text("of another root\n")
    with np.errstate(divide="ignore"):
        same(read_relation(path, notes=notes), log_weight=np.log(WEIGHT))
    assert len(names) == 1 or f"relation: {len(names)} chains of {path}, one after the other" in notes
    options = JobOptions(relation=str(path))
    assert options.is_file and not options.is_published
    before = inputs_of({"relation": str(path)})["relation"]
    assert before["path"] == str(path)
    with (tmp_path / names[-1]).open("a") as file:
        file.write("\n")
    assert inputs_of({"relation": str(path)})["relation"]["sha256"] != before["sha256"]


def test_root_that_is_not_clear(tmp_path):
    path = getdist_files(tmp_path, "root", "root.txt", "root_1.txt")
    with pytest.raises(MassmapError, match=r"root of root\.txt and root_1\.txt, which may hold the same draws"):
        read_relation(path)
    (tmp_path / "root.paramnames").unlink()
    assert not chain_files(path)  # files of no chains
    with pytest.raises(MassmapError, match="there is no file"):
        read_relation(path)


def test_root_of_cobaya(tmp_path):
    rows = np.column_stack([WEIGHT, 0 * WEIGHT, *DRAWS.values()])
    for i, part in enumerate(np.split(rows, 2), 1):
        header = " ".join(["weight", "minuslogpost", *DRAWS])
        np.savetxt(tmp_path / f"run.{i}.txt", part, header=header, fmt="%.17g")
    (tmp_path / "run.updated.yaml").write_text("output: run\n")
    with np.errstate(divide="ignore"):
        same(read_relation(tmp_path / "run"), log_weight=np.log(WEIGHT))


def test_cosmosis(tmp_path):
    names = [f"relation--{name}" for name in DRAWS] + ["prior", "like", "post", "weight"]
    lines = ["#" + "\t".join(names), "##sampler=polychord", "##sampling_date=2025"]
    rows = np.column_stack([*DRAWS.values(), *np.zeros((3, NUM)), WEIGHT])
    lines += ["\t".join(f"{value:.17g}" for value in row) for row in rows] + ["##nsample=6"]
    (tmp_path / "out.txt").write_text("\n".join(lines) + "\n")
    notes = []
    with np.errstate(divide="ignore"):
        same(read_relation(tmp_path / "out.txt", notes=notes), log_weight=np.log(WEIGHT))
    assert any("CosmoSIS" in note for note in notes)


def chains(values):
    """Two chains of three draws."""
    return np.asarray(values).reshape(2, 3)


def test_arviz(tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    with h5py.File(tmp_path / "fit.nc", "w") as file:
        group = file.create_group("posterior")
        for name, values in DRAWS.items():
            group[name] = chains(values)
        group["chain"], group["draw"] = np.arange(2), np.arange(3)
        file.create_group("sample_stats")["lp"] = chains(WEIGHT)
    notes = []
    same(read_relation(tmp_path / "fit.nc", notes=notes))
    assert any("6 draws" in note and "burn-in" in note for note in notes)


def test_emcee(tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    kept = [DRAWS[name] for name in ("alpha1", "alpha2", "scatter")]
    with h5py.File(tmp_path / "backend.h5", "w") as file:
        group = file.create_group("mcmc")
        group["chain"] = np.concatenate([np.stack([chains(v) for v in kept], axis=-1), np.zeros((5, 3, 3))])
        group["log_prob"], group.attrs["iteration"] = np.zeros((7, 3)), 2
    mapping = {"alpha1": "p0", "alpha2": "p1", "scatter": "p2", "alpha3": 3e14, "alpha4": 0.0}
    read = read_relation(tmp_path / "backend.h5", columns=mapping)
    for name, values in zip(("alpha1", "alpha2", "scatter"), kept, strict=True):
        np.testing.assert_array_equal(read[name], values)
    refused(tmp_path / "backend.h5", "no alpha1", "p0, p1, p2")
    refused(tmp_path / "backend.h5", "write p2", columns={**mapping, "scatter": "2"})


def test_hdf5_without_its_reader_is_a_sentence(tmp_path, monkeypatch):
    import sys

    (tmp_path / "fit.nc").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    monkeypatch.setitem(sys.modules, "h5py", None)
    refused(tmp_path / "fit.nc", "h5py", "pip install", "CSV")
    (tmp_path / "old.nc").write_bytes(b"CDF\x01" + bytes(100))
    refused(tmp_path / "old.nc", "version 3")


@pytest.mark.parametrize("name, stray", [("alpha2", -999.0), ("alpha4", 99.0), ("alpha1", 0.0), ("scatter", 90.0)])
@pytest.mark.parametrize("number", [1, 40])
def test_draws_far_from_all_others_are_refused(tmp_path, name, stray, number):
    """Placeholders and a sampler's warm-up; those of no weight, and the tails of a wide posterior, are draws."""
    rng = np.random.default_rng(8)
    draws = {
        "alpha1": rng.normal(25.0, 0.05, 400), "alpha2": rng.normal(1.6, 0.05, 400), "alpha3": np.full(400, 3e14),
        "alpha4": np.zeros(400), "scatter": np.exp(rng.normal(-1, 1.2, 400)),
    }  # fmt: skip
    path = tmp_path / "draws.csv"

    def read(columns):
        lines = [
            ",".join(columns),
            *(",".join(map(repr, map(float, row))) for row in zip(*columns.values(), strict=True)),
        ]
        path.write_text("\n".join(lines) + "\n")
        return read_relation(path)

    assert read(draws)[name].size == 400
    bad = draws | {name: np.where(np.arange(400) < number, stray, draws[name])}
    with pytest.raises(MassmapError, match=f"'{name}'.*errors from the median in {number} row"):
        read(bad)
    assert read(bad | {"weight": np.where(np.arange(400) < number, 1e-9, 1.0)})["alpha1"].size == 400


def test_a_scatter_in_per_cent_is_named(tmp_path):
    """In a file, a prior, an option, and in Python, where a scatter of 200 % would still be one in ln."""
    words = ("is 25", "in ln of the observable, a factor of 7.2e+10: is it in per cent? 25 % is 0.25")
    refused(csv(tmp_path / "d.csv", DRAWS | {"scatter": np.full(NUM, 25.0)}), "median scatter of", *words)
    with pytest.raises(MassmapError, match="relation_prior, 'scatter=25:2', is 25 in ln"):
        RelationPrior.parse("alpha1=1:1,alpha2=1:1,alpha4=0,scatter=25:2,alpha3=3e14")
    with pytest.raises(MassmapError, match="relation_scatter is 25 in ln"):
        check_options(JobOptions(relation="lx_mcxc11", relation_scatter="25:2"))
    with pytest.raises(MassmapError, match=r"scatter must be below 10.*first draw 0 = 25"):
        MassLuminosityRelation.create(alpha1=1.0, alpha2=1.0, scatter=25.0, alpha3=3e14)
    with pytest.raises(MassmapError, match=r"alpha1 must be the natural logarithm of an observable"):
        MassLuminosityRelation.create(alpha1=5e44, alpha2=1.0, scatter=0.2, alpha3=3e14)
    with pytest.raises(MassmapError, match=r"alpha3 must be a mass in Msun, 3e14 and not 14\.5"):
        MassLuminosityRelation.create(alpha1=1.0, alpha2=1.0, scatter=0.2, alpha3=14.5)
    RelationPrior.parse("alpha1=1:1,alpha2=1:1,alpha4=0,scatter=1.9:2,alpha3=3e14")
