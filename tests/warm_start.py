"""The installed program, started from a process that has imported what it imports: a start costs 3 s less of imports.

`run` is `subprocess.run` of the program with its output captured. The process that waits forks, before JAX has started.
Runs with the same variables follow each other in one such process, which has traced and compiled before what a run
has in common with an earlier one (3 s more); each has its own folder, environment, streams and exit code. `alone` gives
a run a process of its own. What depends on the imports themselves, as on an environment that is read while they happen,
needs a start of its own.
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

import compiled_code
import small_chunks
from one_context import share_a_context

PROGRAM = Path(sys.executable).with_name("massmap-jax")
# All that a run imports but matplotlib, which reads its environment as it is imported.
IMPORTS = """
astropy.io.fits astropy.table astropy.cosmology astropy.wcs equinox hmf jax jax.experimental.shard_map numpyro pandas
pyarrow.parquet scipy.fft scipy.stats massmap_jax.cli massmap_jax.run.job massmap_jax.run.outputs massmap_jax.run.info
massmap_jax.relation.fit massmap_jax.models.runner massmap_jax.maps.mass_map massmap_jax.scale.stream
massmap_jax.halo.mass_function massmap_jax.checks.prior_check massmap_jax.run.citations
"""


# Variables that may differ between runs in one process: all others may have been read when it began.
READ_AGAIN = {"TMPDIR", "COLUMNS", "PYTEST_CURRENT_TEST"}


def run(
    args, folder, *, alone=False, largest_file=None, chunk=small_chunks.FEW, **more: str
) -> subprocess.CompletedProcess:
    """Run `massmap-jax ARGS` in a folder on the CPU, without input; its exit code, and its two streams as text.

    alone : in a process that no other run has used. So is a run that names its device, which JAX chooses once.
    largest_file : limit to the size of files that the run may write, in bytes; such a run is alone.
    chunk : objects per compiled call, of masses and of the check of luminosities; 2048 is that of users, and a smaller
        catalogue is filled up to it. Bytes of results agree between runs with the same one.
    more : variables of the environment, changed.
    """
    args, environment = list(map(str, args)), environment_of_runs() | more
    alone = alone or "--device" in args or largest_file is not None
    with tempfile.TemporaryDirectory() as own:
        out, err = Path(own, "out"), Path(own, "err")
        waiting = _waiting()
        asked = {"args": args, "folder": str(folder), "environment": environment, "out": str(out), "err": str(err)}
        asked |= {"alone": alone, "largest_file": largest_file, "chunk": chunk}
        waiting.stdin.write(json.dumps(asked) + "\n")
        waiting.stdin.flush()
        code = int(waiting.stdout.readline())
        return subprocess.CompletedProcess(
            [str(PROGRAM), *args], code, *(path.read_text("utf-8") for path in (out, err))
        )


def environment_of_runs() -> dict[str, str]:
    """This process's own; what is compiled is compiled quickly, and hardly optimised, not as users' code is."""
    quick = os.environ.get("MASSMAP_TEST_XLA", "")
    barely = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"} if quick else {}
    return {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": quick} | barely


@functools.cache
def _waiting() -> subprocess.Popen:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = environment_of_runs() | {"TF_CPP_MIN_LOG_LEVEL": "2"}  # as the program sets it before it imports JAX
    process = subprocess.Popen([sys.executable, __file__], env=environment, **pipes)
    atexit.register(process.stdin.close)
    return process


def _serve() -> None:
    """Answer each line of input with the exit code of its run; a child that is forked returns, to run the program."""
    answers = os.fdopen(os.dup(1), "w")
    kept: _Kept | None = None
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["alone"]:
            child = os.fork()
            if child == 0:
                return _end(_program(asked))
            _, status = os.waitpid(child, 0)
            code = os.waitstatus_to_exitcode(status)
        else:
            if kept is not None and kept.serves != _told(asked):
                kept.end()
                kept = None
            kept = kept or _Kept(_told(asked))
            code = kept.run(line)
            kept = None if kept.ended else kept
        print(code, file=answers, flush=True)
    os._exit(0)


def _told(asked) -> dict[str, str]:
    """What the runs of one process have in common: the environment."""
    return {name: value for name, value in asked["environment"].items() if name not in READ_AGAIN}


class _Kept:
    """A forked process that does one run after the other."""

    def __init__(self, serves):
        self.serves, self.ended = serves, False
        (read_line, write_line), (read_code, write_code) = os.pipe(), os.pipe()
        self.child = os.fork()
        if self.child == 0:
            os.close(write_line)
            with os.fdopen(read_line) as lines, os.fdopen(write_code, "w") as codes:
                for line in lines:
                    print(_program(json.loads(line)), file=codes, flush=True)
            os._exit(0)
        os.close(read_line)
        os.close(write_code)
        self.lines, self.codes = os.fdopen(write_line, "w"), os.fdopen(read_code)

    def run(self, line) -> int:
        print(line, file=self.lines, end="", flush=True)
        code = self.codes.readline()
        return int(code) if code else self.end()  # the run ended its process

    def end(self) -> int:
        self.ended = True
        self.lines.close()
        self.codes.close()
        _, status = os.waitpid(self.child, 0)
        return os.waitstatus_to_exitcode(status)


def _program(asked) -> int:
    """One run in this process; its exit code."""
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    tempfile.tempdir = None  # found anew, in this environment
    flags = os.O_WRONLY | os.O_CREAT
    for number, path, mode in ((0, os.devnull, os.O_RDONLY), (1, asked["out"], flags), (2, asked["err"], flags)):
        opened = os.open(path, mode)
        os.dup2(opened, number)
        os.close(opened)
    if asked["largest_file"] is not None:
        import resource

        sys.dont_write_bytecode = True  # Python 3.11 leaves .pyc files that are cut (gh-126606)
        resource.setrlimit(resource.RLIMIT_FSIZE, (asked["largest_file"],) * 2)
    sys.argv = [str(PROGRAM), *asked["args"]]
    import jax

    jax.config.update("jax_platforms", os.environ.get("JAX_PLATFORMS"))
    jax.config.update("jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR"))
    from massmap_jax.cli import main

    small_chunks.compute(asked["chunk"])
    code = 1
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    compiled_code.drop_what_is_too_much()
    return code


def _end(code) -> None:
    atexit._run_exitfuncs()
    os._exit(code)  # to take down all that was imported takes a second


if __name__ == "__main__":
    import importlib

    for name in IMPORTS.split():
        importlib.import_module(name)
    assert "matplotlib" not in sys.modules
    share_a_context()
    gc.collect()
    gc.freeze()  # a run need not look through all that was imported, again and again
    gc.set_threshold(100_000, 20, 100)  # nor through all that it traces
    _serve()
