"""Sentences of the library in the words of the command line: options that exist, and do what the sentence says."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from massmap_jax import cli
from massmap_jax.cli import OPTIONS, _as_options
from massmap_jax.run.options import JobOptions


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("alpha2 is off by 0.8 of its error: use method='nuts'", "use --fit-method nuts"),
        ("use method='analytic', which integrates each object", "use --method analytic"),
        ("give calib_unit='1e14 Msun'", "--calib-unit '1e14 Msun'"),
        ("pass calib_log='log10'", "pass --calib-log log10"),
    ],
)
def test_advice_names_options(sentence, words):
    """Only a fit is made by NUTS: the program's --method is that of the masses, which `fit` does not have."""
    assert words in _as_options(sentence)
    assert {"fit_method", "method"} <= OPTIONS and JobOptions().fit_method == "laplace"


@pytest.mark.parametrize(
    ("command", "sentence", "words"),
    [
        # A stream has the redshift's options, and another meaning of --columns.
        ("stream", "give z_err='zerr'", "give --z-err zerr"),
        ("stream", "use method='analytic'", "use --method analytic"),
        ("stream", "columns='act_dr5' reads them", "--columns act_dr5 of massmap-jax run reads them"),
        ("run", "columns='act_dr5' reads them", "--columns act_dr5 reads them"),
        ("stream", "give calib_mass='M500'", "give --calib-mass M500 of massmap-jax run"),
        ("hosts", "give population='gaussian'", "give --population gaussian of massmap-jax run"),
        ("fit", "use method='analytic'", "use --method analytic of massmap-jax run"),
    ],
)
def test_a_command_names_options_that_it_has(command, sentence, words):
    """Or says whose they are."""
    assert words in _as_options(sentence, command)


def test_options_that_sentences_spell_exist():
    """Words like --z-err in the texts of the package are options of a command."""
    known = {name.replace("_", "-") for name in OPTIONS | set(inspect.signature(cli.simulate).parameters)}
    known |= {name.replace("_", "-") for name in inspect.signature(cli.demo).parameters} | {"version", "help", "config"}
    unknown = {}
    # Not of the command line itself, which makes the names of options, nor of the style sheets of the report.
    others = {"cli.py", "report.py", "html_table.py"}
    for path in sorted(p for p in Path(cli.__file__).parent.rglob("*.py") if p.name not in others):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for name in re.findall(r"(?<![\w-])--([a-z][a-z-]*[a-z])\b", node.value):
                    # Some texts speak of "the --calib options".
                    if not any(option.startswith(name.removeprefix("no-")) for option in known):
                        unknown.setdefault(name, path.name)
    assert not unknown
