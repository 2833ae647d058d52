"""The installed program, started from a process that has imported what it imports: a start costs 3 s less of imports.

`run` is `subprocess.run` of the program with its output captured. The process that waits forks for each run, before JAX
has started: the run has its own memory, folder, environment, streams and exit. What depends on the imports themselves,
as on an environment that is read while they happen, needs a start of its own.
"""

import atexit
import functools
import gc
import json
import os
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("massmap-jax")
# All that a run imports but matplotlib, which reads its environment as it is imported.
IMPORTS = """
astropy.io.fits astropy.table astropy.cosmology astropy.wcs equinox hmf jax jax.experimental.shard_map numpyro pandas
pyarrow.parquet scipy.fft scipy.stats massmap_jax.cli massmap_jax.run.job massmap_jax.run.outputs massmap_jax.run.info
massmap_jax.relation.fit massmap_jax.models.runner massmap_jax.maps.mass_map massmap_jax.scale.stream
massmap_jax.halo.mass_function massmap_jax.checks.prior_check massmap_jax.run.citations
"""


def run(args, folder, **more: str) -> subprocess.CompletedProcess:
    """Run `massmap-jax ARGS` in a folder on the CPU, without input; its exit code, and its two streams as text.

    more : variables of the environment, changed.
    """
    args, environment = list(map(str, args)), environment_of_runs() | more
    with tempfile.TemporaryDirectory() as own:
        out, err = Path(own, "out"), Path(own, "err")
        waiting = _waiting()
        asked = {"args": args, "folder": str(folder), "environment": environment, "out": str(out), "err": str(err)}
        waiting.stdin.write(json.dumps(asked) + "\n")
        waiting.stdin.flush()
        code = int(waiting.stdout.readline())
        return subprocess.CompletedProcess(
            [str(PROGRAM), *args], code, *(path.read_text("utf-8") for path in (out, err))
        )


def environment_of_runs() -> dict[str, str]:
    """This process's own; what is compiled is compiled as the tests' code is (conftest.py), not as users'."""
    return {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": os.environ.get("MASSMAP_TEST_XLA", "")}


@functools.cache
def _waiting() -> subprocess.Popen:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = environment_of_runs() | {"TF_CPP_MIN_LOG_LEVEL": "2"}  # as the program sets it before it imports JAX
    process = subprocess.Popen([sys.executable, __file__], env=environment, **pipes)
    atexit.register(process.stdin.close)
    return process


def _serve() -> None:
    """Fork for each line of input; the child returns to be the program, the parent answers with the exit code."""
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            return _become(asked)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)
    os._exit(0)


def _become(asked) -> None:
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    tempfile.tempdir = None  # found anew, in this environment
    flags = os.O_WRONLY | os.O_CREAT
    for number, path, mode in ((0, os.devnull, os.O_RDONLY), (1, asked["out"], flags), (2, asked["err"], flags)):
        os.dup2(os.open(path, mode), number)
    sys.argv = [str(PROGRAM), *asked["args"]]
    import jax

    jax.config.update("jax_platforms", os.environ.get("JAX_PLATFORMS"))
    jax.config.update("jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR"))


if __name__ == "__main__":
    import importlib

    for name in IMPORTS.split():
        importlib.import_module(name)
    assert "matplotlib" not in sys.modules
    gc.collect()
    gc.freeze()  # a run need not look through all that was imported, again and again
    _serve()
    from massmap_jax.cli import main

    code = 1
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # to take down all that was imported takes a second
