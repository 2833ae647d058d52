"""The annotated shapes of arrays are those that pass through the main functions: jaxtyping's hook, in a program."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def run(*args):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)])}
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # shapes are all that is looked at
    command = [sys.executable, str(HERE / "with_checked_shapes.py"), *args]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_arrays_have_the_shapes_that_are_annotated():
    done = run()
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "all shapes are as annotated"


def test_a_wrong_shape_is_noticed():
    done = run("wrong")
    assert done.returncode != 0 and "base_normals, id_hash: uint32[3] is not UInt '2'" in done.stderr, done.stderr[
        -3000:
    ]
