"""What is put in order when the program is told to stop: a process of its own ends in the middle of the work."""

import os
import subprocess
import sys

import pytest

from massmap_jax import stopping

STOPPED = """
import os, signal, sys
from pathlib import Path
from massmap_jax import cli
from massmap_jax.catalogue import result_folder, write

cli._Stop.listen()
told = lambda: signal.raise_signal(signal.SIGTERM)
if sys.argv[1] == "file":
    with write.atomic_file("a.csv", overwrite=True) as new:
        new.write_text("half")
        told()
else:
    rename = Path.rename
    def stopped_between(path, new):
        back = rename(path, new)
        if sys.argv[1] == "moved aside" and path.name == "out":
            told()
        return back
    Path.rename = stopped_between
    with result_folder.atomic_directory("out", overwrite=True) as new:
        (new / "run.json").write_text('{"files": []}')
        (new / "half").touch()
        if sys.argv[1] == "folder":
            told()
"""


@pytest.mark.parametrize("where", ["file", "folder", "moved aside", "not at all"])
def test_a_stop_leaves_what_was_there(where, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").write_text('{"files": ["run.json", "earlier"]}')
    (tmp_path / "out" / "earlier").touch()
    (tmp_path / "a.csv").write_text("earlier")
    ran = subprocess.run(
        [sys.executable, "-c", STOPPED, where], cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True
    )
    ended = where == "not at all"
    assert ran.returncode == (0 if ended else 143), ran.stderr
    assert ran.stderr == ("" if ended else "stopped by SIGTERM: nothing was written\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "out"]
    assert (tmp_path / "a.csv").read_text() == "earlier"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["half" if ended else "earlier", "run.json"]


def test_the_last_begun_is_undone_first_and_a_failure_keeps_no_other_from_it():
    done = []

    def fails():
        done.append("fails")
        raise OSError

    def ended():
        done.append("ended")

    with stopping.undone_if_stopped(ended):
        pass
    with (
        pytest.raises(ValueError, match="not in list"),  # who calls undo_all ends the process
        stopping.undone_if_stopped(lambda: done.append("first")),
        stopping.undone_if_stopped(fails),
    ):
        stopping.undo_all()
    assert done == ["fails", "first"]
