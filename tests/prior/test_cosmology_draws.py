"""Draws of the cosmology: Planck as a normal distribution, chains and tables, and what is refused."""

import re
import warnings

import jax
import numpy as np
import pandas as pd
import pytest

from massmap_jax import CosmologyDraws
from massmap_jax.errors import MassmapError
from massmap_jax.run.options import PriorOptions, load_prior

GOOD = {"omega_m": [0.3, 0.31, 0.32], "sigma8": [0.8, 0.81, 0.82], "h": 0.7, "n_s": 0.96, "omega_b": 0.05}


def test_planck_has_the_errors_of_its_table():
    planck = CosmologyDraws.planck18(jax.random.key(3), 2000)
    v = planck.values
    # Planck 2018 VI, Table 2, last column; relative errors of products of the parameters.
    for product, error in (
        (v["omega_m"], 0.0056 / 0.3111),
        (v["h"], 0.42 / 67.66),
        (v["sigma8"], 0.0060 / 0.8102),
        (v["omega_m"] * v["h"] ** 3, 0.00030 / 0.09635),
        (v["sigma8"] * v["omega_m"] ** 0.5, 0.011 / 0.825),
        (v["omega_b"] * v["h"] ** 2, 0.00014 / 0.02242),
        (v["n_s"], 0.0038 / 0.9665),
    ):
        assert np.log(product).std() == pytest.approx(error, rel=1e-3)
    # Not used to make them, and in the table too: sigma8 Omega_m^0.25 = 0.6051 +- 0.0058.
    assert np.log(v["sigma8"] * v["omega_m"] ** 0.25).std() == pytest.approx(0.0058 / 0.6051, rel=0.06)
    assert planck.mean["sigma8"] == pytest.approx(0.8102, abs=1e-4)
    assert np.corrcoef(v["omega_m"], v["h"])[0, 1] < -0.97


def test_weights_of_draws_are_respected():
    draws = CosmologyDraws.from_arrays(**GOOD, log_weight=np.log([1.0, 0.0 + 1e-300, 3.0]))
    assert draws.mean["sigma8"] == pytest.approx(0.815)
    picked = draws.pick(jax.random.key(0), 400)
    assert (picked.values["sigma8"] == 0.82).sum() == pytest.approx(300, abs=1)
    assert (picked.values["omega_m"] == 0.32).sum() == (picked.values["sigma8"] == 0.82).sum()
    # In random order: the draws of a relation may be sorted.
    assert (picked.values["sigma8"][:100] == 0.82).sum() == pytest.approx(75, abs=20)


def test_chain_of_getdist(tmp_path):
    names = ["omegabh2", "omegach2", "theta", "ns", "H0*", "omegam*", "sigma8*", "S8*"]
    (tmp_path / "chain.paramnames").write_text("".join(f"{n} \\{n}\n" for n in names))
    rows = [[1, 5.0, 0.0224, 0.12, 1.04, 0.965, 67.0, 0.3187, 0.81, 0.83], [3, 4.0, 0.0225, 0.119, 1.04, 0.967, 68.0, 0.3074, 0.8, 0.81]]  # fmt: skip
    np.savetxt(tmp_path / "chain.txt", rows)
    for path in (tmp_path / "chain.txt", tmp_path / "chain"):
        draws = CosmologyDraws.read(path)
        np.testing.assert_allclose(draws.shares, [0.25, 0.75])
        np.testing.assert_allclose(draws.values["h"], [0.67, 0.68])
        np.testing.assert_allclose(draws.values["sigma8"], [0.81, 0.8])
        np.testing.assert_allclose(draws.values["omega_b"], np.array([0.0224, 0.0225]) / [0.67**2, 0.68**2])
        # Without the neutrinos that omegam* holds.
        np.testing.assert_allclose(draws.values["omega_m"], np.array([0.1424, 0.1415]) / [0.67**2, 0.68**2])
        assert any("without neutrinos" in note for note in draws.notes)


def test_table_with_names_numbers_and_constants(tmp_path):
    path = tmp_path / "draws.csv"
    path.write_text("Om0,s_8,h0,Ob0,weight\n0.3,0.8,0.7,0.05,1\n0.31,0.82,0.68,0.049,1\n")
    draws = CosmologyDraws.read(path, columns={"sigma8": "s_8", "n_s": 0.96})
    np.testing.assert_allclose(draws.values["h"], [0.7, 0.68])
    np.testing.assert_allclose(draws.values["n_s"], [0.96, 0.96])
    np.testing.assert_allclose(draws.values["sigma8"], [0.8, 0.82])


@pytest.mark.parametrize(
    ("header", "rows", "words"),
    [
        ("omega_m,sigma8,h,n_s", ["0.3,0.8,0.7,0.96"], "has no omega_b: draws of the cosmology need"),
        ("omega_m,S8,h,n_s,omega_b", ["0.3,0.8,0.7,0.96,0.05"], "has no sigma8"),
        ("omega_m,sigma8,sigma_8,h,n_s,omega_b", ["0.3,0.8,0.81,0.7,0.96,0.05"], "could each be sigma8: choose one"),
        ("omega_m,sigma8,h,n_s,omega_b,w", ["0.3,0.8,0.7,0.96,0.05,-1"] * 2 + ["0.3,0.8,0.7,0.96,0.05,-0.9"], "'w' of .* is not -1 in 1 row, first row 2 with value -0.9: .*flat LambdaCDM"),
        ("omega_m,sigma8,h,n_s,omega_b", ["0.3,0.8,0.7,0.96,0.05", "0.3,-0.8,0.7,0.96,0.05"], "sigma8 of the cosmology must lie in 0.1 to 3, but does not in 1 row, first row 1 with value -0.8"),
        ("omega_m,sigma8,h,n_s,omega_b", ["0.3,0.8,0.7,nan,0.05"], "n_s of the cosmology must lie in"),
        ("omega_m,sigma8,h,n_s,omega_b", ["0.05,0.8,0.7,0.96,0.05"], "omega_b of the cosmology must be below omega_m"),
        ("omega_m,sigma8,h,n_s,omega_b,weight", ["0.3,0.8,0.7,0.96,0.05,-1"], "weights 'weight' of .* must be finite, not negative.* cosmology_columns='log_weight=weight'"),
        ("omega_m,sigma8,h,n_s,omega_b,weight,wt", ["0.3,0.8,0.7,0.96,0.05,1,1"], "both weights of the draws: choose one with cosmology_columns='weight=weight'$"),
    ],
)  # fmt: skip
def test_bad_files_are_refused_in_a_sentence(tmp_path, header, rows, words):
    path = tmp_path / "draws.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    with pytest.raises(MassmapError, match=words):
        CosmologyDraws.read(path)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"h": 70.0}, "h of the cosmology must lie in 0.1 to 2, .* give h = H0 / 100"),
        ({"sigma8": [0.8, 0.9]}, "not numbers of one length"),
        ({"sigma8": []}, "not numbers of one length|at least one draw"),
        ({"log_weight": -np.inf}, "all draws, whose weights are 0"),
    ],
)
def test_bad_arrays_are_refused_in_a_sentence(changed, words):
    with pytest.raises(MassmapError, match=words):
        CosmologyDraws.from_arrays(**(GOOD | changed))


def test_arrays_that_no_measurement_has_are_told_of():
    given = {"omega_m": [0.30, 0.31], "sigma8": 0.8, "h": 0.7, "n_s": 0.96}
    with pytest.warns(UserWarning, match=r"omega_b of these draws has a median of 0.0224, .* omega_b h\^2"):
        CosmologyDraws.from_arrays(**given, omega_b=0.0224)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CosmologyDraws.from_arrays(**given, omega_b=0.049)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Planck18", ()),
        ("H0=70,Om0=0.3,Ob0=0.05,sigma8=0.8,n_s=0.95", ()),
        ("H0=67,Om0=0.143,Ob0=0.0224,sigma8=0.8,n_s=0.96", ("omega_m", "omega_b")),
        ("H0=100,Om0=0.3,Ob0=0.05,sigma8=0.45,n_s=0.96", ("sigma8", "h")),
    ],
)
def test_a_text_that_no_measurement_has_is_told_of(text, told):
    notes = []
    load_prior(PriorOptions(cosmology=text), notes)
    assert [note.split()[1] for note in notes] == list(told)


def test_one_of_two_columns_is_chosen(tmp_path):
    path = tmp_path / "draws.csv"
    path.write_text("omega_m,sigma8,sigma_8,h,n_s,omega_b,weight,wt\n0.3,0.8,0.9,0.7,0.96,0.05,1,1\n")
    draws = CosmologyDraws.read(path, columns={"sigma8": "sigma_8", "weight": "wt"})
    assert draws.values["sigma8"] == [0.9]


def test_unknown_columns_and_too_few_draws_are_refused(tmp_path):
    path = tmp_path / "draws.csv"
    path.write_text("omega_m,sigma8,h,n_s,omega_b\n0.3,0.8,0.7,0.96,0.05\n")
    with pytest.raises(MassmapError, match="columns of the cosmology are given for tau"):
        CosmologyDraws.read(path, columns={"tau": "t"})
    with pytest.raises(MassmapError, match="no column 'x' for n_s"):
        CosmologyDraws.read(path, columns={"n_s": "x"})
    with pytest.raises(MassmapError, match="at least 20"):
        CosmologyDraws.planck18(jax.random.key(0), 5)


def chain(number=200, **changed):
    rng = np.random.default_rng(2)
    mean = {"omega_m": 0.31, "sigma8": 0.81, "h": 0.675, "n_s": 0.965, "omega_b": 0.049}
    return pd.DataFrame({n: v * (1 + 0.01 * rng.normal(size=number)) for n, v in mean.items()} | changed)


BURN_IN = np.where(np.arange(200) < 25, 0.6, 0.31 + 0.003 * np.sin(np.arange(200)))


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (chain(), ()),
        (chain().sort_values("omega_m"), ()),
        (chain(omega_m=0.142), ("omega_m .* median of 0.142.*omega_m h.2",)),
        (chain(omega_b=0.0224), ("omega_b .* median of 0.0224.*CLASS",)),
        (chain(sigma8=0.45), ("sigma8 .* median of 0.45",)),
        (chain(weight=np.where(np.arange(200) == 7, 1e6, 1.0)), ("1 effective draws of 200",)),
        (chain(3), ("3 effective draws of 3",)),
        (chain(omega_m=BURN_IN), ("mean of 0.6 in the first tenth .* warm-up",)),
        (chain(mnu=0.3), ("hold its neutrinos", "neutrinos .*'mnu', median 0.3 eV")),
        (chain(mnu=0.06), ("hold its neutrinos",)),
    ],
)
def test_what_is_told_of_draws(tmp_path, table, told):
    table.to_csv(tmp_path / "draws.csv", index=False)
    notes = CosmologyDraws.read(tmp_path / "draws.csv").notes
    assert len(notes) == len(told) and all(re.search(words, note) for words, note in zip(told, notes, strict=True)), (
        notes
    )


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"sigma8": "omega_m"}, "'omega_m' .* is named for sigma8, and is omega_m by its name"),
        ({"omega_m": "x", "sigma8": "x"}, "is named for omega_m, and is named for sigma8, too"),
        ({"sigma8": "S8"}, "and is S8 by its name"),
        ({"sigma8": "s8omegamp5"}, "and is S8 by its name"),
    ],
)
def test_columns_of_other_parameters_are_refused(tmp_path, columns, words):
    chain(x=0.3, S8=0.8, s8omegamp5=0.45).to_csv(tmp_path / "draws.csv", index=False)
    with pytest.raises(MassmapError, match=words):
        CosmologyDraws.read(tmp_path / "draws.csv", columns)


def test_a_draw_far_from_all_others_is_refused(tmp_path):
    chain(sigma8=[3.0, *(0.81 + 0.001 * np.arange(199) / 199)]).to_csv(tmp_path / "draws.csv", index=False)
    with pytest.raises(MassmapError, match=r"cosmology parameter 'sigma8' .* 1 row, first row 0 with value 3"):
        CosmologyDraws.read(tmp_path / "draws.csv")
