"""The core imports and runs with jax, jaxlib, numpyro, numpy, matplotlib and equinox only."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PROGRAM = Path(__file__).with_name("core_only.py")
CORE = ("jax", "jaxlib", "numpyro", "numpy", "matplotlib", "equinox")


def run(command, **options):
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=600, check=False, **options
    )


def test_the_program_notices_an_environment_that_has_the_packages():
    """Without the block, the same program must refuse to vouch for anything."""
    pytest.importorskip("astropy", reason="astropy is not installed")
    done = run([sys.executable, PROGRAM])
    assert done.returncode != 0
    assert "proves nothing" in done.stderr


@pytest.mark.parametrize("module", ["", ".cli", ".io", ".plot", ".simulate", ".map_io", ".prior_hmf", ".lsdb"])
def test_importing_loads_no_heavy_package(module):
    """`import massmap_jax` and each module that has an optional package to call."""
    heavy = ["hmf", "astropy", "pyarrow", "pandas", "camb", "matplotlib.pyplot", "scipy.stats", "numpyro"]
    heavy += ["dask", "distributed", "lsdb"]
    code = f"import sys, massmap_jax{module}; print(*[name for name in {heavy!r} if name in sys.modules])"
    done = run([sys.executable, "-c", code])
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_importing_leaves_the_precision_setting_alone():
    done = run([sys.executable, "-c", "import massmap_jax, jax; print(jax.config.jax_enable_x64)"])
    assert done.stdout.split() == ["False"]


@pytest.mark.slow
def test_core_runs_in_an_environment_that_never_had_the_others(tmp_path):
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    done = run([*pip, *CORE])
    if done.returncode != 0:  # no package index: here, with the others refused
        done = run([sys.executable, PROGRAM, "--block"])
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("core works")
        return
    done = run([*pip, "--no-deps", REPOSITORY])
    assert done.returncode == 0, done.stderr
    # -I and a folder elsewhere, so that the installed package is tested and not the working tree
    done = run([python, "-I", PROGRAM], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("core works")
