"""Result folders: whole or not at all, nothing of others is replaced, and what the dead left behind is removed."""

import json
import os
import signal
import subprocess
import sys

import pytest

from massmap_jax.catalogue.result_folder import atomic_directory, files_of_others
from massmap_jax.errors import MassmapError


def fill(folder, text, *more):
    """A result of three files."""
    (folder / "figures").mkdir()
    names = ["a.csv", "figures/a.png", *more]
    for name in names:
        (folder / name).write_text(text)
    (folder / "run.json").write_text(json.dumps({"files": [*names, "run.json"]}))


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "out"

    def fail_within(**options):
        with atomic_directory(path, **options) as folder:
            fill(folder, "half")
            raise KeyError

    with pytest.raises(KeyError):
        fail_within()
    assert os.listdir(tmp_path) == []
    with atomic_directory(path) as folder:
        fill(folder, "first")
        assert not path.exists()
    assert (path / "a.csv").read_text() == "first" and path.stat().st_mode & 0o055
    with pytest.raises(MassmapError, match="exists"), atomic_directory(path):
        pass
    with pytest.raises(KeyError):
        fail_within(overwrite=True)
    assert (path / "a.csv").read_text() == "first"
    with atomic_directory(path, overwrite=True) as folder:
        fill(folder, "second")
    assert (path / "a.csv").read_text() == "second" and os.listdir(tmp_path) == ["out"]


def test_only_an_earlier_output_is_replaced(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("years")
    with pytest.raises(MassmapError, match=r"run\.json"), atomic_directory(home, overwrite=True):
        pass
    with (
        pytest.raises(MassmapError, match="is a file"),
        atomic_directory(home / "thesis.tex", overwrite=True),
    ):
        pass
    with pytest.raises(MassmapError, match="does not exist"), atomic_directory(tmp_path / "no" / "out"):
        pass
    with pytest.raises(MassmapError, match="could not be written"), atomic_directory("/proc/out"):
        pass
    assert (home / "thesis.tex").read_text() == "years" and os.listdir(tmp_path) == ["home"]


@pytest.fixture
def earlier(tmp_path):
    with atomic_directory(tmp_path / "out") as folder:
        fill(folder, "first")
    return tmp_path / "out"


def replace(path):
    with atomic_directory(path, overwrite=True) as folder:
        fill(folder, "second")


def everything(folder):
    return {str(p.relative_to(folder)): p.read_text() if p.is_file() else "" for p in folder.rglob("*")}


@pytest.mark.parametrize("name", ["notes.txt", ".notes", "figures/mine.png", "figures/.a.png", "deep/b.csv", "a.csv~"])
def test_what_the_program_did_not_write_is_not_replaced(earlier, name):
    (earlier / name).parent.mkdir(exist_ok=True)
    (earlier / name).write_text("mine")
    before = everything(earlier)
    with pytest.raises(MassmapError) as refusal:
        replace(earlier)
    shown = "deep" if name.startswith("deep") else name
    assert f"out holds {shown}, which its run.json does not list" in str(refusal.value)
    assert everything(earlier) == before and os.listdir(earlier.parent) == ["out"]


def test_empty_folders_and_links_are_of_others_too(earlier, tmp_path):
    (earlier / "empty").mkdir()
    (earlier / "figures" / "link").symlink_to(tmp_path)
    (earlier / "dead").symlink_to("nowhere")
    assert files_of_others(earlier) == ["dead", "empty", "figures/link"]


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", '{"files": null}', '{"files": [1, ["a.csv"]]}', '{"files": "a.csv"}', "[" * 100_000, "\0", "nul"],
    ids=lambda text: text[:20],
)
def test_a_record_that_lists_nothing_protects_all(earlier, text):
    (earlier / "run.json").write_text(text)
    with pytest.raises(MassmapError, match=r"out holds a\.csv and 1 more"):
        replace(earlier)
    assert (earlier / "a.csv").read_text() == "first"


def test_what_is_put_there_during_a_run_stays(earlier):
    """The new result is worth as much as a note: both are kept."""
    with atomic_directory(earlier, overwrite=True) as folder:
        fill(folder, "second", "b.csv")
        for name in ("notes.txt", "b.csv", "figures/mine.png"):
            (earlier / name).write_text("mine")
    new = everything(earlier)
    assert new["a.csv"] == new["b.csv"] == "second" and new["notes.txt"] == new["figures/mine.png"] == "mine"
    (aside,) = [path for path in earlier.parent.iterdir() if path != earlier]
    assert (aside / "out" / "b.csv").read_text() == "mine"  # its name is taken


KILLED = """
import os, signal, sys
from pathlib import Path
from massmap_jax.catalogue import result_folder
from massmap_jax.catalogue.result_folder import atomic_directory

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

out, moment = sys.argv[1:]
if moment == "before it is removed":
    result_folder._remove_earlier = die
with atomic_directory(out, overwrite=True) as folder:
    (folder / "run.json").write_text('{"files": ["run.json"]}')
    if moment == "while it is filled":
        die()
    if moment == "between two names":
        rename, done = Path.rename, []
        def renames(self, target):
            done.append(rename(self, target))
            die()
        Path.rename = renames
"""


@pytest.mark.parametrize(
    ("moment", "kept"),
    [("while it is filled", "first"), ("between two names", "first"), ("before it is removed", None)],
)
def test_what_a_killed_run_left_is_cleared_by_the_next(earlier, moment, kept):
    done = subprocess.run([sys.executable, "-c", KILLED, str(earlier), moment], timeout=600)
    assert done.returncode == -signal.SIGKILL
    assert len(os.listdir(earlier.parent)) > 1
    theirs = earlier.parent / ".out.massmapper"
    theirs.mkdir()
    with pytest.raises(MassmapError, match="exists"), atomic_directory(earlier.parent / "out"):
        pass
    if moment != "between two names":  # the folder is there, so nothing is begun
        replace(earlier)
        kept = "second"
    assert sorted(os.listdir(earlier.parent)) == [".out.massmapper", "out"]
    assert (earlier / "a.csv").read_text() == kept


def test_two_runs_do_not_write_one_folder(tmp_path):
    with atomic_directory(tmp_path / "out") as folder:
        with pytest.raises(MassmapError, match="another run is writing"), atomic_directory(tmp_path / "out"):
            pass
        assert folder.is_dir()
        with atomic_directory(tmp_path / "other") as other:
            fill(other, "other")
        fill(folder, "first")
    assert sorted(os.listdir(tmp_path)) == ["other", "out"]
