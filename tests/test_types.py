"""mypy passes on the package and on the public API as a user calls it, and refuses a call that is wrong."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import massmap_jax

ROOT = Path(__file__).resolve().parent.parent
PUBLIC_API = ROOT / "tests" / "typing" / "public_api.py"


def mypy(*arguments):
    """Run mypy with the settings of pyproject.toml, in the repository, whose cache it shares with whoever works there."""
    pytest.importorskip("mypy", reason="mypy is not installed (pip install '.[ci]')")
    return subprocess.run(
        [sys.executable, "-m", "mypy", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=1200
    )


@pytest.mark.slow
@pytest.mark.timeout(1300)
def test_the_package_and_its_use_have_no_type_error():
    done = mypy("massmap_jax", "tests/typing")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(1300)
def test_a_wrong_call_is_refused(tmp_path):
    """The twin: text for a number is found, so the names that `massmap_jax` imports late are no mere Any."""
    wrong = tmp_path / "wrong.py"
    text = PUBLIC_API.read_text()
    assert text.count("num_draws=200") == 1
    wrong.write_text(text.replace("num_draws=200", 'num_draws="200"'))
    done = mypy(wrong)
    assert done.returncode == 1, done.stdout + done.stderr
    line = 1 + text[: text.index("num_draws=200")].count("\n")
    assert f"wrong.py:{line}: error:" in done.stdout
    assert 'incompatible type "str"; expected "int"' in done.stdout
    assert "Found 1 error in 1 file" in done.stdout


def test_the_stub_has_the_public_names():
    tree = ast.parse((ROOT / "massmap_jax" / "__init__.pyi").read_text())
    found = {
        alias.asname: node.module.removeprefix("massmap_jax.")
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert found == massmap_jax._HOME | dict.fromkeys(massmap_jax._MODULES, "massmap_jax")


def test_every_public_name_is_used():
    used = {
        node.attr
        for node in ast.walk(ast.parse(PUBLIC_API.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "mm"
    }
    assert {*massmap_jax.__all__, *massmap_jax._MODULES} == used
