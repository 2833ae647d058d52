"""Which folders `--overwrite` may replace, before any work is done."""

import json

import pytest

from massmap_jax.errors import MassmapError
from massmap_jax.posterior.columns import PROGRAM
from massmap_jax.run.outputs import check_output

RESULT = {"program": PROGRAM, "command": "run", "files": ["a.csv", "run.json"]}


def folder(tmp_path, record, *more):
    for name in ("a.csv", *more):
        (tmp_path / name).write_text("text")
    if record is not None:
        (tmp_path / "run.json").write_text(record if isinstance(record, str) else json.dumps(record))
    return tmp_path


def test_an_earlier_result_is_replaced(tmp_path):
    check_output(folder(tmp_path, RESULT), overwrite=True)


@pytest.mark.parametrize(
    ("record", "more", "words"),
    [
        (RESULT, ("mine.txt",), "holds mine.txt, which its run.json does not list"),
        (RESULT, (".notes", "z"), "holds .notes and 1 more, which"),
        (RESULT | {"command": "stream"}, (), "is the result of a stream, which may have taken days"),
        (None, ("manifest.jsonl",), "is the result of a stream"),  # one that goes on, or was stopped
        (RESULT | {"program": "another"}, (), "is not an earlier output"),
        ("[" * 100_000, (), "is not an earlier output"),
        ("\0", (), "is not an earlier output"),
        (None, (), "is not an earlier output"),
    ],
    ids=["a file", "a hidden file", "stream", "stopped stream", "another program", "nested", "zeroed", "no record"],
)
def test_any_other_folder_is_refused(record, more, words, tmp_path):
    with pytest.raises(MassmapError) as refusal:
        check_output(folder(tmp_path, record, *more), overwrite=True)
    assert words in str(refusal.value) and (tmp_path / "a.csv").read_text() == "text"
