"""The notebooks run, at small size and without public data; what is committed of them is whole and holds no path."""

import importlib.util
import json
import re
from pathlib import Path

import matplotlib
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
# Cells that no small size makes quick: the chains of the joint model, a second stream, masses after a fit, fits of
# several populations. They do what test_models.py, test_mcmc.py, test_stream.py, test_posterior.py and
# test_populations.py do.
LEFT_OUT = "full-size"

_spec = importlib.util.spec_from_file_location("execute_notebooks", REPOSITORY / "scripts" / "execute_notebooks.py")
script = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(script)


def source(cell) -> str:
    return "".join(cell["source"])


def small(code) -> str:
    """The code at small size, without the commands of a notebook."""
    return re.sub(r"^%.*$", "", code, flags=re.MULTILINE).replace("SMALL = False", "SMALL = True")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_at_small_size(path, tmp_path, monkeypatch, capsys):
    """The code cells, in one namespace and in this process, which shares what is compiled."""
    monkeypatch.chdir(tmp_path)  # where no public catalogues are
    namespace = {"__name__": path.stem}
    with matplotlib.rc_context({"backend": "Agg"}):
        for number, cell in enumerate(json.loads(path.read_text())["cells"]):
            if cell["cell_type"] == "code" and LEFT_OUT not in cell["metadata"].get("tags", []):
                exec(compile(small(source(cell)), f"{path.name}, cell {number}", "exec"), namespace)
        namespace["plt"].close("all")
    printed = capsys.readouterr().out
    assert namespace["SMALL"] is True
    assert len(printed.splitlines()) > 10
    assert "nan" not in printed.lower().split()


def test_there_are_six():
    assert [path.stem[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05", "06"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_committed_is_whole(path):
    text = path.read_text()
    notebook = json.loads(text)
    assert script.problems(notebook) == []
    assert len(text.encode()) < script.MOST_BYTES
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert any("image/png" in output.get("data", {}) for cell in code for output in cell["outputs"])
    assert "you will be able to" in source(notebook["cells"][0])
    # What sets the figures up is folded away, and no environment is asked for.
    assert code[0]["metadata"]["jupyter"]["source_hidden"] and "plt.style" in source(code[0])
    shown = "\n".join(map(source, code[1:]))
    assert not [word for word in ("environ", "plt.style", "plt.close", "filterwarnings") if word in shown]
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    nbformat.validate(nbformat.reads(text, as_version=4))


@pytest.mark.parametrize(
    "output, said",
    [
        ({"output_type": "error", "ename": "ValueError", "evalue": "no"}, "ends in ValueError: no"),
        ({"output_type": "stream", "name": "stderr", "text": "UserWarning: x"}, "warns: UserWarning: x"),
        ({"output_type": "stream", "name": "stdout", "text": "wrote /home/someone/a.fits"}, "names the path"),
        ({"output_type": "execute_result", "data": {"text/plain": ["PosixPath('/tmp/a')"]}}, "names the path"),
    ],
)
def test_problems_are_noticed(output, said):
    cell = {"cell_type": "code", "source": "f()", "execution_count": 1, "metadata": {}, "outputs": [output]}
    assert [said in line for line in script.problems({"cells": [cell]})] == [True]


def test_a_fraction_or_a_unit_is_no_path():
    text = "sd / mean, dn/dlnM, Msun/h, log10 M / Msun, 1/2, N(>M)/N"
    output = {"output_type": "stream", "name": "stdout", "text": text}
    cell = {"cell_type": "code", "source": "f()", "execution_count": 1, "metadata": {}, "outputs": [output]}
    assert script.problems({"cells": [cell]}) == []
    assert script.problems({"cells": [cell | {"execution_count": None}]}) == ["cell 0 was not executed"]
