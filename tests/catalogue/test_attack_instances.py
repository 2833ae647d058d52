"""Tables as an astronomer meets them, in other notations than the tests that came first: a true answer, or a refusal.

Each test is a table of instances. A refusal is one sentence, and the words that show the way are quoted from it.
"""


import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

from massmap_jax.catalogue.read import read_catalogue, read_relation
from massmap_jax.errors import MassmapError


def read(tmp_path, source, **options):
    """Read a table in memory, or the text of a file."""
    if isinstance(source, (str, bytes)):
        path = tmp_path / "o.txt"
        path.write_bytes(source.encode() if isinstance(source, str) else source)
        source = path
    if "sigma" not in options and "sigma_plus" not in options:
        options["sigma"] = 0.1
    return read_catalogue(source, **options)


def refused(words, call, *given, **options):
    with pytest.raises(MassmapError) as told:
        call(*given, **options)
    sentence = str(told.value)
    assert "\n" not in sentence and len(sentence) < 600, sentence
    for word in words:
        assert word in sentence, sentence


def luminosity(catalogue):
    return np.exp(np.asarray(catalogue.ln_lum_obs))


# ---- relations: no weight is dropped, and no logarithm to base 10 is taken for a natural one

DRAWS = {"alpha1": [1.0, 1.1, 1.2], "alpha2": [0.8, 0.9, 1.0], "alpha3": [3e14] * 3, "alpha4": [0.0, 0.1, 0.2]}
DRAWS["scatter"] = [0.2, 0.25, 0.3]


def relation_file(tmp_path, columns, index=False):
    path = tmp_path / "relation.csv"
    pd.DataFrame(columns).to_csv(path, index=index)
    return path


@pytest.mark.parametrize("name", ["weight", "Weight", "WEIGHTS", "wt", "mult", "multiplicity", "importance_weight"])
def test_weights_by_name(tmp_path, name):
    found = read_relation(relation_file(tmp_path, DRAWS | {name: [1.0, 2.0, 0.0]}))
    np.testing.assert_allclose(found["log_weight"], [0.0, np.log(2.0), -np.inf])


@pytest.mark.parametrize("name", ["logw", "lnw", "logwt", "log_weight", "ln_w", "logweights"])
def test_logarithms_of_weights_by_name(tmp_path, name):
    found = read_relation(relation_file(tmp_path, DRAWS | {name: [0.0, -1.0, -2.0]}))
    np.testing.assert_allclose(found["log_weight"], [0.0, -1.0, -2.0])


@pytest.mark.parametrize(
    "name",
    [
        *("posterior_weight", "prior_weight", "like_weight", "post_wt", "chi2_weight", "sample_weight", "w", "wgt"),
        *("counts", "log10_weight", "ln(weight)", "temperature"),
    ],
)
def test_a_column_that_may_be_a_weight_is_never_dropped(tmp_path, name):
    file = relation_file(tmp_path, DRAWS | {name: [1.0, 2.0, 0.0]})
    refused([repr(name), "relation_columns"], read_relation, file)
    found = read_relation(file, columns={"weight": name})
    np.testing.assert_allclose(found["log_weight"], [0.0, np.log(2.0), -np.inf])


@pytest.mark.parametrize("beside", ["logL_birth", "nlive", "logz", "logvol", "lnZ"])
def test_draws_of_nested_samplers_need_their_weights(tmp_path, beside):
    columns = DRAWS | {beside: [3.0, 2.0, 1.0]}
    refused([repr(beside)], read_relation, relation_file(tmp_path, columns))
    found = read_relation(relation_file(tmp_path, columns | {"logwt": [0.0, -1.0, -2.0]}))
    np.testing.assert_allclose(found["log_weight"], [0.0, -1.0, -2.0])


def test_the_index_that_pandas_writes_is_no_parameter(tmp_path):
    notes = []
    found = read_relation(relation_file(tmp_path, DRAWS, index=True), notes=notes)
    np.testing.assert_allclose(found["scatter"], DRAWS["scatter"])
    assert any("the unnamed index" in note for note in notes)


@pytest.mark.parametrize("name, unit", [("scatter", "dex"), ("alpha1", "dex"), ("scatter", "dex(erg/s)")])
def test_parameters_in_dex_by_their_unit_are_refused(tmp_path, name, unit):
    table = Table(DRAWS)
    table[name].unit = unit
    table.write(tmp_path / "relation.ecsv")
    refused([name, "2.302585"], read_relation, tmp_path / "relation.ecsv")


@pytest.mark.parametrize("column", ["scatter_dex", "sigma_log10", "dex"])
def test_parameters_in_dex_by_their_name_are_refused(tmp_path, column):
    draws = {column if name == "scatter" else name: values for name, values in DRAWS.items()}
    refused(["dex"], read_relation, relation_file(tmp_path, draws), columns={"scatter": column})


def test_a_parameter_that_is_there_twice_is_to_be_renamed(tmp_path):
    path = tmp_path / "relation.csv"
    path.write_text("alpha1,alpha2,alpha3,alpha4,scatter,alpha1\n1,.8,3e14,0,.2,5\n")
    refused(["rename"], read_relation, path)
