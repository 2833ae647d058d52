"""The core imports and runs with jax, jaxlib, numpyro, numpy, scipy, matplotlib and equinox only."""

import os
import shutil
import subprocess
import sys
import venv
from importlib import metadata
from importlib.util import cache_from_source
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from warm_start import environment_of_runs

REPOSITORY = Path(__file__).resolve().parent.parent
PROGRAM = Path(__file__).with_name("core_only.py")
CORE = ("jax", "jaxlib", "numpyro", "numpy", "scipy", "matplotlib", "equinox")


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


def test_importing_loads_no_heavy_package():
    """`import massmap_jax` and, one after the other, each module that has an optional package to call."""
    modules = ["", ".cli", ".plot", ".simulate", ".lsdb", ".catalogue.read", ".halo.mass_function", ".maps.files"]
    modules += [".run.info"]
    heavy = ["hmf", "astropy", "pyarrow", "pandas", "camb", "matplotlib.pyplot", "scipy.stats", "numpyro"]
    heavy += ["dask", "distributed", "lsdb"]
    lines = ["import importlib, sys", f"for name in {modules!r}:"]
    lines += ["    importlib.import_module('massmap_jax' + name)"]
    lines += [f"    print(name or '-', *[heavy for heavy in {heavy!r} if heavy in sys.modules])"]
    done = run([sys.executable, "-c", "\n".join(lines)])
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [name or "-" for name in modules]


def test_importing_leaves_the_precision_setting_alone():
    done = run([sys.executable, "-c", "import massmap_jax, jax; print(jax.config.jax_enable_x64)"])
    assert done.stdout.split() == ["False"]


def needed_by(names) -> dict[str, metadata.Distribution]:
    """The installed distributions of these names and of all that they require here, without extras."""
    found, todo = {}, list(names)
    while todo:
        name = canonicalize_name(todo.pop())
        if name in found:
            continue
        found[name] = metadata.distribution(name)
        requirements = map(Requirement, found[name].requires or ())
        todo += [r.name for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found


def test_what_the_core_needs_is_found_and_no_more():
    names = set(needed_by(CORE))
    assert {*CORE, "ml-dtypes", "jaxtyping", "pillow", "python-dateutil", "tqdm"} <= names
    assert not names & {"hmf", "astropy", "pyarrow", "pandas", "typer", "rich", "pytest", "massmap-jax"}


def link(target, file):
    """To a file, and to its compiled form where it has one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(Path(file).resolve())
    if target.suffix == ".py":
        compiled = Path(cache_from_source(file))
        if compiled.exists():
            there = Path(cache_from_source(target))
            there.parent.mkdir(exist_ok=True)
            there.symlink_to(compiled.resolve())


@pytest.mark.slow
def test_core_runs_in_an_environment_that_never_had_the_others(tmp_path):
    """An environment of its own, with links to the files of the core packages and the package's own wheel."""
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    place = Path(run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).stdout.strip())
    assert place.is_relative_to(home)
    for distribution in needed_by(CORE).values():
        # Not a folder, but file by file: packages may share one, and a folder may hold what belongs to none of these.
        for file in distribution.files:
            if not {"..", "__pycache__"} & set(file.parts) and file.locate().exists():
                link(place / file, file.locate())
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
    pip.append("--no-build-isolation")  # hatchling comes with the test extra
    built = run([*pip, "--wheel-dir", tmp_path, REPOSITORY])
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    shutil.unpack_archive(wheel, place, "zip")
    # -I and a folder elsewhere, so that the installed package is tested and not the working tree
    where = run([python, "-I", "-c", "import massmap_jax; print(massmap_jax.__file__)"], cwd=tmp_path).stdout.strip()
    assert Path(where).is_relative_to(place)
    done = run([python, "-I", PROGRAM], cwd=tmp_path, env=environment_of_runs())
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("core works")
