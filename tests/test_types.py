"""mypy passes on the package and on the public API as a user calls it, and refuses a call that is wrong."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import massmap_jax

ROOT = Path(__file__).resolve().parent.parent
PUBLIC_API = ROOT / "tests" / "typing" / "public_api.py"


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """What mypy says, in one start, of the package, of its use, and of a call with text for a number.

    With the settings of pyproject.toml, in the repository, whose cache it shares with whoever works there. Also the
    file with the wrong call, and the line of it.
    """
    pytest.importorskip("mypy", reason="mypy is not installed (pip install '.[ci]')")
    wrong, text = tmp_path_factory.mktemp("types") / "wrong.py", PUBLIC_API.read_text()
    assert text.count("num_draws=200") == 1
    # The last line makes it another file in each run: the cache would give the errors of an earlier one, with its path.
    wrong.write_text(text.replace("num_draws=200", 'num_draws="200"') + f"# {wrong}\n")
    command = [sys.executable, "-m", "mypy", "massmap_jax", "tests/typing", str(wrong)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout, str(wrong), 1 + text[: text.index("num_draws=200")].count("\n")


@pytest.mark.slow
@pytest.mark.timeout(1300)
def test_the_package_and_its_use_have_no_type_error(checked):
    said, wrong, _ = checked
    *lines, last = said.splitlines()
    assert [line for line in lines if not line.startswith(wrong)] == []
    assert last.startswith("Found 1 error in 1 file (checked ")


@pytest.mark.slow
@pytest.mark.timeout(1300)
def test_a_wrong_call_is_refused(checked):
    """The twin: text for a number is found, so the names that `massmap_jax` imports late are no mere Any."""
    said, wrong, line = checked
    assert f"{wrong}:{line}: error:" in said
    assert 'incompatible type "str"; expected "int"' in said


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
