"""Columns of chains as CLASS, MontePython, CosmoSIS, CCL and others write them: the same cosmology in many notations."""

import numpy as np
import pytest

from massmap_jax import CosmologyDraws
from massmap_jax.errors import MassmapError

RNG = np.random.default_rng(5)
N = 60
H = 0.67 + 0.005 * RNG.standard_normal(N)
BARYONS, COLD = 0.0224 + 1e-4 * RNG.standard_normal(N), 0.12 + 1e-3 * RNG.standard_normal(N)
SIGMA8, NS, WEIGHT = (
    0.81 + 0.01 * RNG.standard_normal(N),
    0.965 + 0.004 * RNG.standard_normal(N),
    1.0 + np.arange(N) % 5,
)
MNU = 0.06 + 0.3 * RNG.uniform(size=N)
LIGHT = MNU / 93.14
MATTER = (BARYONS + COLD) / H**2  # without neutrinos
TOTAL = MATTER + LIGHT / H**2
SECTION = "cosmological_parameters--"


def written(folder, name, columns, weighted=False):
    columns = ({"weight": WEIGHT} if weighted else {}) | columns
    np.savetxt(folder / name, np.column_stack(list(columns.values())), header="\t".join(columns), delimiter="\t")
    return folder / name


@pytest.mark.parametrize(
    "columns, told",
    [
        ({"omega_b": BARYONS, "omega_cdm": COLD, "H0": 100 * H, "n_s": NS, "Omega_m": TOTAL}, "as CLASS calls it"),
        ({"omega_b": 100 * BARYONS, "omega_cdm": COLD, "h": H, "n_s": NS}, "a hundred times"),
        ({"100*omega_b": 100 * BARYONS, "omega_cdm": COLD, "h": H, "n_s": NS}, "a hundred times"),
        ({"Omega_c": COLD / H**2, "Omega_b": BARYONS / H**2, "h": H, "n_s": NS}, "'Omega_c' of"),
        ({"$\\Omega_{\\rm m}$": MATTER, "$\\Omega_b$": BARYONS / H**2, "$H_0$": 100 * H, "$n_s$": NS}, None),
        ({"omegamh2": MATTER * H**2, "omegabh2": BARYONS, "H0": 100 * H, "ns": NS}, "'omegamh2' / h^2"),
        ({SECTION + "omega_m": TOTAL, SECTION + "omega_b": BARYONS / H**2, SECTION + "h0": H, SECTION + "n_s": NS,
          SECTION + "omnuh2": LIGHT}, "hold its neutrinos"),
        ({"omegam": TOTAL, "omegabh2": BARYONS, "H0": 100 * H, "ns": NS, "mnu": MNU}, "hold its neutrinos"),
        ({"Omega_m": TOTAL, "Omega_b": BARYONS / H**2, "h": H, "n_s": NS, "Omega_nu": LIGHT / H**2}, "a median of"),
    ],
)  # fmt: skip
def test_one_cosmology_in_many_notations(tmp_path, columns, told):
    draws = CosmologyDraws.read(written(tmp_path, "chain.txt", columns | {"sigma8": SIGMA8}, weighted=True))
    want = {"omega_m": MATTER, "omega_b": BARYONS / H**2, "h": H, "n_s": NS, "sigma8": SIGMA8}
    for name, values in want.items():
        assert draws.mean[name] == pytest.approx(WEIGHT @ values / WEIGHT.sum(), rel=1e-9), name
    assert told is None or any(told in note for note in draws.notes)


def test_shares_that_are_no_physical_densities_are_left_alone(tmp_path):
    """The twin: omega_b beside an omega_cdm of 0.26 is a share of the critical density."""
    columns = {"omega_b": BARYONS / H**2, "omega_cdm": COLD / H**2, "h": H, "n_s": NS, "sigma8": SIGMA8}
    draws = CosmologyDraws.read(written(tmp_path, "table.txt", columns))
    np.testing.assert_allclose(draws.values["omega_b"], BARYONS / H**2)
    np.testing.assert_allclose(draws.values["omega_m"], MATTER)
    # A column that the user names is taken as it is, neutrinos or not.
    columns = {"Om": TOTAL, "Ob": BARYONS / H**2, "h": H, "n_s": NS, "sigma8": SIGMA8, "mnu": MNU}
    draws = CosmologyDraws.read(written(tmp_path, "named.txt", columns), {"omega_m": "Om"})
    np.testing.assert_allclose(draws.values["omega_m"], TOTAL)
    assert any("eV) are not followed" in note for note in draws.notes)


@pytest.mark.parametrize("name", ["omk", "w0_fld", "w0wa--wa", "Omega_k", "w"])
def test_other_models_are_refused_by_any_name(tmp_path, name):
    """omk is Cobaya's curvature, w0_fld that of CLASS; a column of the values of LambdaCDM is none."""
    columns = {"omegabh2": BARYONS, "omegach2": COLD, "H0": 100 * H, "ns": NS, "sigma8": SIGMA8}
    flat = -1.0 if name.startswith("w0_") or name == "w" else 0.0
    CosmologyDraws.read(written(tmp_path, "flat.txt", columns | {name: np.full(N, flat)}))
    with pytest.raises(MassmapError, match="of flat LambdaCDM, so use a chain of that"):
        CosmologyDraws.read(written(tmp_path, "other.txt", columns | {name: flat + 0.01 * SIGMA8}))


def test_one_quantity_in_two_columns_and_a_free_number_of_neutrinos(tmp_path):
    columns = {
        "Om": MATTER,
        "Ob": BARYONS / H**2,
        "h": H,
        "H0": 100 * H,
        "ns": NS,
        "sigma8": SIGMA8,
        "nnu": 2.5 + SIGMA8,
    }
    draws = CosmologyDraws.read(written(tmp_path, "both.txt", columns))
    np.testing.assert_allclose(draws.values["h"], H)
    assert any("effective number of neutrinos" in note for note in draws.notes)
    with pytest.raises(MassmapError, match=r"'h' and 'H0' of .* could each be h"):
        CosmologyDraws.read(written(tmp_path, "differ.txt", columns | {"H0": 101 * H}))


def test_importance_weights_multiply_those_of_the_first_chain(tmp_path):
    columns = {"omega_m": MATTER, "omega_b": BARYONS / H**2, "h0": H, "n_s": NS, "sigma_8": SIGMA8}
    again = np.linspace(-2.0, 0.0, N)
    path = written(
        tmp_path, "importance.txt", {SECTION + n: v for n, v in columns.items()} | {"old_weight": WEIGHT, "log_weight": again}
    )  # fmt: skip
    draws = CosmologyDraws.read(path)
    weight = WEIGHT * np.exp(again)
    assert draws.mean["sigma8"] == pytest.approx(weight @ SIGMA8 / weight.sum(), rel=1e-12)
    assert any("importance sampling" in note for note in draws.notes)


def test_the_file_beside_chains_stands_for_all_of_them(tmp_path):
    """MontePython ends the root with _, so that a chain is ROOT__1.txt."""
    values = np.column_stack([WEIGHT, WEIGHT, 100 * BARYONS, COLD, NS, 100 * H, SIGMA8])
    for number, part in enumerate(np.split(values, 2), start=1):
        np.savetxt(tmp_path / f"2020-03-01_60__{number}.txt", part, delimiter="\t")
    names = ["omega_b \t 10^{-2}\\omega_{b }", "omega_cdm", "n_s", "H0", "sigma8"]
    (tmp_path / "2020-03-01_60_.paramnames").write_text("\n".join(names) + "\n")
    for path in ("2020-03-01_60_", "2020-03-01_60_.paramnames"):
        draws = CosmologyDraws.read(tmp_path / path)
        assert draws.num_draws == N
        assert draws.mean["omega_m"] == pytest.approx(WEIGHT @ MATTER / WEIGHT.sum(), rel=1e-9)


def test_arrays_of_a_nested_sampler(tmp_path):
    """omega_m is one number in a file of a relation, whose E(z) it belongs to, and draws here."""
    path = tmp_path / "draws.npz"
    np.savez(path, omega_m=MATTER, sigma8=SIGMA8, h=H, n_s=NS, omega_b=BARYONS / H**2, logwt=np.log(WEIGHT))
    assert CosmologyDraws.read(path).mean["omega_m"] == pytest.approx(WEIGHT @ MATTER / WEIGHT.sum())


def test_what_holds_no_draws_is_refused(tmp_path):
    with pytest.raises(MassmapError, match="is a folder: give a file of draws"):
        CosmologyDraws.read(tmp_path)
    np.savetxt(tmp_path / "chain_1.txt", np.ones((5, 7)))
    with pytest.raises(MassmapError, match=r"the columns have no names: put the chain's \.paramnames beside it"):
        CosmologyDraws.read(tmp_path / "chain_1.txt")
