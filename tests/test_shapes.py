"""The annotated shapes of arrays are those that pass through the main functions: jaxtyping's hook, in a program."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def done():
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)])}
    # Shapes are all that is looked at.
    environment |= {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "XLA_FLAGS": os.environ.get("MASSMAP_TEST_XLA", "")}
    command = [sys.executable, str(HERE / "with_checked_shapes.py")]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_arrays_have_the_shapes_that_are_annotated(done):
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "all shapes are as annotated"


@pytest.mark.slow
def test_a_wrong_shape_is_noticed(done):
    """The twin, in the same program: an array that has a wrong shape on purpose."""
    assert "base_normals, id_hash: uint32[3] is not UInt '2'" in done.stderr, done.stderr[-3000:]
