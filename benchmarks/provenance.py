"""The code and the machine that a measured number comes from."""

import os
import platform
import subprocess
from pathlib import Path

import jax

from massmap_jax import devices
from massmap_jax.run.outputs import versions

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"


def commit() -> str:
    """Return the commit of the working tree, marked "-dirty" if files differ from it, or "unknown" without git."""
    try:
        asked = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(asked, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()


def provenance() -> dict:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "device": devices.describe(),
        "cores": cores,
        "float64": bool(jax.config.jax_enable_x64),
        "versions": versions(),
        "commit": commit(),
    }
