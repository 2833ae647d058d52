"""Mass likelihoods from files: what is read, and what is refused in one sentence."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from massmap_jax.catalogue.halo_catalogue import HaloCatalogue
from massmap_jax.errors import MassmapError
from massmap_jax.likelihood.mass_likelihoods import read_mass_likelihoods

CATALOGUE = HaloCatalogue.from_arrays(
    luminosity=[1.0, 2.0, 3.0, 4.0], redshift=[0.1, 0.2, 0.3, 0.4], sigma_ln_luminosity=0.05, ids=[7, 8, 9, 10]
)
NODES = np.round(np.arange(13.0, 15.05, 0.1), 1)
# The guessed columns and converted units are told in warnings, which these tests do not ask for.
pytestmark = pytest.mark.filterwarnings("ignore:mass likelihoods")


BARS = dict(error_plus="up", error_minus="down")


def written(tmp_path, text):
    path = tmp_path / "masses.csv"
    path.write_text(text)
    return path


def table_text(rows, nodes=NODES, names=None):
    header = ",".join(["id", *(names or [f"lnl_{node:g}" for node in nodes])])
    return "\n".join([header, *(",".join([str(i), *map(str, values)]) for i, values in rows)]) + "\n"


def shape(node):
    return -0.5 * ((node - 14.2) / 0.2) ** 2


def test_tabulated_likelihoods_are_matched_by_id(tmp_path):
    text = table_text([(9, shape(NODES)), (7, 2 * shape(NODES)), (8, [""] * NODES.size)])
    term = read_mass_likelihoods(written(tmp_path, text), CATALOGUE)
    assert term.informs.tolist() == [True, False, True, False]
    ln_mass = np.log(10.0) * 14.33
    assert float(term.take(2)(ln_mass)) == pytest.approx(shape(14.33), abs=1e-4)
    assert float(term.take(0)(ln_mass)) == pytest.approx(2 * shape(14.33), abs=1e-4)


@pytest.mark.parametrize(
    ("text", "more", "ln_mass", "width"),
    [
        ("id,mass,error\n8,4e14,0.3\n", dict(error_kind="ln", mass_unit="Msun"), np.log(4e14), 0.3),
        ("id,mass,error\n8,4,1\n", dict(error_kind="linear", mass_unit="1e14 Msun"), np.log(4e14), 0.5 * np.log(5 / 3)),
        ("id,M_WL,sigma\n8,14.6,0.1\n", dict(error_kind="dex", mass_unit="Msun", mass_log="log10"), 14.6 * np.log(10), 0.230259),
        ("id,mass\n8,4e14\n", dict(error=0.3, scatter=0.4, mass_unit="Msun"), np.log(4e14), 0.5),
        ("id,mass,up,down\n8,4,2,1\n", BARS | dict(error_kind="linear", mass_unit="1e14 Msun"), np.log(4e14),
         0.5 * np.log(6 / 3)),
        ("id,mass,up,down\n8,4e14,0.4,-0.2\n", BARS | dict(error_kind="ln", mass_unit="Msun"), np.log(4e14), 0.3),
        ("id,mass,up,down\n8,4,6,3\n", BARS | dict(error_kind="bounds", mass_unit="1e14 Msun"), np.log(4e14),
         0.5 * np.log(6 / 3)),
        ("name,mwl,e\n8,4e14,0.3\n", dict(id="name", mass="mwl", error="e", error_kind="ln", mass_unit="Msun"),
         np.log(4e14), 0.3),
    ],
)  # fmt: skip
def test_masses_with_errors(tmp_path, text, more, ln_mass, width):
    term = read_mass_likelihoods(written(tmp_path, text), CATALOGUE, **more)
    assert term.informs.tolist() == [False, True, False, False]
    for away in (-2.0, 0.0, 1.0, 7.0):
        assert float(term.take(1)(ln_mass + away * width)) == pytest.approx(-0.5 * away**2, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("scatter", [0.0, 0.2])
@pytest.mark.parametrize("unit", ["linear", "percent"])
def test_masses_that_noise_reaches_are_normal_in_the_mass(tmp_path, scatter, unit):
    """Against SciPy's integral over the mass that lenses; a table without such rows stays normal in ln M."""
    rows = [(7, -0.4, 0.5), (8, 0.3, 0.5), (9, 4.0, 1.0)]
    as_given = [(i, m, e if unit == "linear" else 100 * e / m) for i, m, e in rows[unit == "percent" :]]
    text = "id,mass,error\n" + "".join(f"{i},{m},{e}\n" for i, m, e in as_given) + "10,,\n"
    given = dict(error_kind=unit, mass_unit="1e14 Msun", scatter=scatter)
    with pytest.warns(UserWarning, match=f"{len(as_given) - 1} masses are below zero or not larger than .* in row 0"):
        term = read_mass_likelihoods(written(tmp_path, text), CATALOGUE, **given)
    assert term.informs.tolist() == [unit == "linear", True, True, False]
    at = np.array([-2.01, -0.513, 0.0, 0.3777, 1.021])

    def likelihood(t, mass, error):
        if not scatter:
            return norm.pdf(mass, np.exp(t), error)
        return quad(lambda u: norm.pdf(u, t, scatter) * norm.pdf(mass, np.exp(u), error), t - 2, t + 2, epsabs=1e-14)[0]

    for i, mass, error in as_given:
        error = error if unit == "linear" else 0.01 * error * mass
        found = np.array([float(term.take(i - 7)(t + np.log(1e14))) for t in at])
        wanted = np.log([likelihood(t, mass, error) for t in at])
        np.testing.assert_allclose(found - found[2], wanted - wanted[2], atol=2e-4)


GOOD = dict(error_kind="ln", mass_unit="Msun")


@pytest.mark.parametrize(
    ("text", "more", "told"),
    [
        ("id,mass,error\n8,4e14,0.3\n11,4e14,0.3\n", GOOD, "not in the catalogue: 1 row, first row 1 with value 11"),
        ("id,mass,error\n8,4e14,0.3\n8,5e14,0.3\n", GOOD, "two mass likelihoods .* 1 row, first row 1 with value 8"),
        ("mass,error\n4e14,0.3\n", GOOD, "usual name for the id: choose it with id="),
        ("id,m1,error\n8,4e14,0.3\n", GOOD, "usual name for the mass: choose it with mass="),
        ("id,mass,error\n8,4e14,0.3\n", dict(error_kind="ln"), "states no unit"),
        ("id,mass\n8,4e14\n", dict(mass_unit="Msun"), "usual name for the error: choose it with error="),
        ("id,mass,error\n8,14.3,0.1\n9,14.5,0.1\n", GOOD, "mass column .* looks like log10 .*mass_log='log10'"),
        ("id,mass,error\n8,4,0.1\n9,5,0.1\n", GOOD, "no halo or galaxy has 5 Msun .*mass_unit='1e14 Msun'"),
        ("id,mass,error\n8,4,0.1\n9,5,0.1\n", GOOD | dict(mass_log="none"), "median of .* if their unit is Msun"),
        ("id,mass,error\n8,4e14,0.3\n9,-5e14,0.3\n", GOOD, "cannot be used .* 1 row, first row 1"),
        ("id,mass,error\n8,4e14,0.3\n9,5e14,\n", GOOD, "cannot be used .* 1 row, first row 1"),
        ("id,mass,error\n8,,0.3\n", GOOD, "blank in every row"),
        ("id,mass,error\n8,4e14,0.3\n", GOOD | dict(scatter=-1.0), "scatter of the measured masses is -1"),
        (table_text([(8, [0.0] * 4)], NODES[:4]), {}, "ln likelihoods at 4 masses: give at least 5"),
        (table_text([(8, [0.0] * 5)], [13, 14, 13.5, 14.5, 15]), {}, "do not increase: 1 do not, the first is 'lnl_13.5'"),
        (table_text([(8, [0.0] * 5)], [30, 31, 32, 33, 34]), {}, "5 masses .* are no log10 .* 'lnl_30'"),
        (table_text([(7, shape(NODES)), (8, [0.0, "inf", *[0.0] * 19])]), {}, "1 rows .* first row 1, column 'lnl_13.1'"),
        (table_text([(8, shape(NODES))]), dict(scatter=0.2), "hold the whole error"),
        (table_text([(8, shape(NODES))]), BARS, "hold the whole error"),
        ("id,mass,up,down\n8,4e14,1e14,1e14\n", GOOD | dict(error_plus="up"), "error_plus and error_minus go together"),
        ("id,mass,up,down\n8,4e14,1e14,1e14\n", GOOD | BARS | dict(error="up"), "error is given together with error_plus"),
        ("id,mass,up,dow\n8,4e14,1e14,1e14\n", GOOD | BARS, "'down'.* did you mean 'dow'"),
        ("id,mass,up,down\n8,4,6,3\n", BARS | dict(mass_unit="1e14 Msun"), "pass error_kind='bounds'"),
        ("id,mass,error\n8,4e14,0.3\n", GOOD | dict(mass_unit="1e14 h70^-1 Msun"), "give mass_unit= without it"),
        (table_text([(8, -shape(NODES)), (7, -shape(NODES))]), {}, "2 rows, first row 0, .*'lnl_14.2': 0; .*-ln L"),
        (table_text([(8, shape(NODES)), (7, -2 * shape(NODES))]), {}, "in 1 rows, first row 1, .*give ln L"),
        (table_text([(8, np.exp(shape(NODES)))]), {}, "nearly 0 at both ends in 1 rows, .* likelihoods, so give their"),
        (table_text([(8, [-3.0] * 21)]), {}, "one number at all masses in every row, first row 0 with value -3"),
        (table_text([(8, shape(NODES))], names=[f"chi2_{n:g}" for n in NODES]), {}, "21 columns such as 'chi2_13'"),
        (table_text([(8, shape(NODES))], names=[f"lnL{n:g}" for n in NODES]), {}, "columns such as .*called lnl_"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused(tmp_path, text, more, told):
    with pytest.raises(MassmapError, match=told):
        read_mass_likelihoods(written(tmp_path, text), CATALOGUE, **more)


def test_masses_in_units_of_h_are_converted_or_asked_for(tmp_path):
    text = "id,mass,error\n8,4e14,0.3\n"
    with pytest.raises(MassmapError, match="h"):
        read_mass_likelihoods(written(tmp_path, text), CATALOGUE, error_kind="ln", mass_unit="Msun/h")


def test_repeated_ids_of_the_catalogue(tmp_path):
    twice = HaloCatalogue.from_arrays(
        luminosity=[1.0, 2.0], redshift=[0.1, 0.2], sigma_ln_luminosity=0.05, ids=[8, 8], duplicate_ids="row_number"
    )
    with pytest.raises(MassmapError, match="ids of the catalogue are not unique"):
        read_mass_likelihoods(written(tmp_path, "id,mass,error\n8,4e14,0.3\n"), twice, **GOOD)


def test_what_is_told(tmp_path):
    """Rows of one number say nothing; ln likelihoods without an upper end, and tiny errors, are told."""
    text = table_text([(9, shape(NODES)), (7, [-99.0] * NODES.size), (8, shape(NODES) - shape(NODES).min())])
    with pytest.warns(UserWarning, match="one number at all masses in 1 row, first row 1 with value -99"):
        term = read_mass_likelihoods(written(tmp_path, text), CATALOGUE)
    assert term.informs.tolist() == [False, True, True, False]
    cumulative = np.minimum(shape(np.minimum(NODES, 14.2)), -0.01)
    with pytest.warns(UserWarning, match="highest at the largest mass, 'lnl_15', in 2 of 2 rows"):
        read_mass_likelihoods(written(tmp_path, table_text([(8, cumulative), (9, cumulative)])), CATALOGUE)
    with pytest.warns(UserWarning, match="tiny errors: they have a median of 0.1 %"):
        read_mass_likelihoods(written(tmp_path, "id,mass,error\n8,4e14,0.001\n"), CATALOGUE, **GOOD)


NAMED = HaloCatalogue.from_arrays(
    luminosity=[1.0, 2.0], redshift=[0.1, 0.2], sigma_ln_luminosity=0.05, ids=["CL J1-2", "CL J3+4"]
)
LINEAR = dict(error_kind="linear", mass_unit="1e14 Msun")
# Of 4e14 Msun with bars of 2e14 and 1e14.
BARRED = 0.5 * np.log(6 / 3)


@pytest.mark.parametrize(
    ("text", "more", "width"),
    [
        ("Cluster,z,M500,E_M500,e_M500\nCL J3+4,0.2,4,2,1\n", LINEAR, BARRED),
        ("name,M500cCal,M500cCal_errPlus,M500cCal_errMinus\nCL J3+4,4,2,1\n", LINEAR, BARRED),
        ("target,M200c_err,M200c,c200c\nCL J3+4,1,4,3.5\n", LINEAR, 0.5 * np.log(5 / 3)),
        ("name,log10_M200m,log10_M200m_err\nCL J3+4,14.60206,0.1\n", dict(mass_unit="Msun", mass_log="log10"), 0.230259),
        ("name,logM,stat\nCL J3+4,14.60206,0.1\n", dict(mass_unit="Msun", mass_log="log10", error="stat"), 0.230259),
        ("name,M500_16,M500_50,M500_84\nCL J3+4,3,4,6\n",
         dict(error_kind="bounds", error_plus="M500_84", error_minus="M500_16", mass_unit="1e14 Msun"), BARRED),
        ("name,M_WL_1e14Msun,e_M_WL_1e14Msun\nCL J3+4,4,1\n",
         dict(mass="M_WL_1e14Msun", error_kind="linear"), 0.5 * np.log(5 / 3)),
        ("name,M500_WL (1e14 Msun)\nCL J3+4,4.0 +/- 1.0\nCL J1-2,4.0 +/- 1.0\n",
         dict(error_kind="linear"), 0.5 * np.log(5 / 3)),
    ],
)  # fmt: skip
def test_columns_of_published_tables_are_found(tmp_path, text, more, width):
    """LoCuSS, ACT, CLASH and others: an id, one mass by its name, and the bars that are called after it."""
    term = read_mass_likelihoods(written(tmp_path, text), NAMED, **more)
    for away in (0.0, 1.0, -2.0):
        assert float(term.take(1)(np.log(4e14) + away * width)) == pytest.approx(-0.5 * away**2, rel=2e-3, abs=1e-3)


@pytest.mark.parametrize(
    ("text", "more", "told"),
    [
        ("name,M2D,M500,e_M500,Mvir\nCL J3+4,5,4,1,6\n", LINEAR, "'M500', 'Mvir' of .* could each be the mass"),
        ("name,M500,e_M500\nCL J3+4,4,1\nCL J1-2,5,1\n", {},
         "give mass_unit='1e14 Msun', say; and 'e_M500' .* by error_kind=: 'ln'"),
        ("name,logM200m,logM200m_err\nCL J3+4,14.6,0.1\n", {}, "give mass_unit='Msun' and mass_log='log10', say$"),
        ("name,M500,e_M500\n" + "CL J3+4,4,1\n" * 3, LINEAR, "draws or nodes of one likelihood, a row for each object"),
        ("a,b,M500,e_M500\nCL J3+4,CL J3+4,4,1\n", LINEAR, "usual name for the id: choose it with id="),
    ],
)  # fmt: skip
def test_what_published_tables_leave_open_is_asked_at_once(tmp_path, text, more, told):
    with pytest.raises(MassmapError, match=told):
        read_mass_likelihoods(written(tmp_path, text), NAMED, **more)


NUMBERED = HaloCatalogue.from_arrays(
    luminosity=np.ones(5), redshift=[0.1, 0.2, 0.3, 0.4, 0.5], sigma_ln_luminosity=0.05, ids=np.arange(1, 6),
    ra=[10.0, 11.0, 12.0, 13.0, 14.0], dec=[0.0, 1.0, 2.0, 3.0, 4.0],
)  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"z": [0.5, 0.1, 0.4]}, "apart in redshift, .* in 3 of 3 cases, the first '1' by 0.3"),
        ({"ra": [12.0, 13.0, 10.0], "dec": [2.0, 3.0, 0.0]}, "apart on the sky in 3 of 3 cases"),
        ({"ra": [12.0, 11.0, 12.0], "dec": [2.0, 1.0, 2.0]}, ""),
        ({"z": [0.101, 0.2, 0.299]}, ""),
        ({}, ""),
    ],
)
def test_masses_of_other_objects_with_the_same_numbers(columns, told):
    """Ids that are the rows of another list gave masses to other objects, without a word."""
    table = {"id": np.array([1, 2, 3]), "M": np.array([4.0, 5.0, 6.0]), **{k: np.array(v) for k, v in columns.items()}}
    given = dict(error=0.2, error_kind="ln", mass_unit="1e14 Msun")
    if told:
        with pytest.raises(
            MassmapError, match=rf"objects of the same id are .*{told}.*name another id column, or rename a column"
        ):
            read_mass_likelihoods(table, NUMBERED, **given)
        return
    with pytest.warns(UserWarning, match="mass likelihoods") as warned:
        read_mass_likelihoods(table, NUMBERED, **given)
    said = " ".join(str(one.message) for one in warned)
    assert ("ids that say little" in said) == (not columns)
    assert ("are they the same objects?" in said) == ("ra" in columns)


def test_an_array_of_draws_is_refused():
    table = {"name": np.array(["CL J3+4", "CL J1-2"]), "M500": np.full((2, 9), 4e14)}
    with pytest.raises(
        MassmapError, match="holds an array of 9 numbers in each row: give one mass, and where they are draws"
    ):
        read_mass_likelihoods(table, NAMED, error=0.2, mass_unit="Msun")


def test_masses_below_zero_are_no_logarithms(tmp_path):
    """A third of the masses is below zero, as in weak lensing of groups, and nobody says that they are no logarithms."""
    for scale, given in ((1.0, LINEAR), (1e14, dict(error_kind="linear", mass_unit="Msun"))):
        rows = [(7, -0.4), (8, 3.0), (9, 4.0), (10, -0.2)]
        text = "id,M500,e_M500\n" + "".join(f"{i},{m * scale:g},{scale:g}\n" for i, m in rows)
        assert read_mass_likelihoods(written(tmp_path, text), CATALOGUE, **given).informs.all()


def test_a_statistical_error_beside_a_systematic_one_is_told(tmp_path):
    path = written(tmp_path, "name,logM,stat,sys\nCL J3+4,14.6,0.05,0.02\n")
    with pytest.warns(UserWarning, match="'stat' are statistical ones by their name, and 'sys' stands beside"):
        read_mass_likelihoods(path, NAMED, error="stat", mass_unit="Msun", mass_log="log10")
