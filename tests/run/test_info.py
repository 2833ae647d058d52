"""`massmap-jax info` on result folders whose run.json was edited or damaged: one sentence."""

import json

import pytest

from massmap_jax.errors import MassmapError
from massmap_jax.posterior.columns import PROGRAM
from massmap_jax.run.info import describe_path

GOOD = {"program": PROGRAM, "version": "0.1", "catalogue": "a.fits", "rows": 3, "rows_with_mass": 2}
GOOD |= {"flags": {"Z_MISSING": 1}, "fit": {"mean": {"alpha1": 1.0}, "sd": {"alpha1": 0.1}}, "map": {"shape": [2, 2]}}


def described(folder, content):
    (folder / "run.json").write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return describe_path(folder)


def test_a_result_is_described(tmp_path):
    said = described(tmp_path, GOOD)
    for words in ("3 rows, 2 with a mass", "1 rows: Z_MISSING", "alpha1: 1 +- 0.1", "map:", "run.json"):
        assert words in said


@pytest.mark.parametrize(
    "content",
    [b"", b"garbage", b"\0" * 50, "{'H\xf6he'".encode("latin-1"), b"[" * 100_000, b'{"a":' * 100_000, b"[1]", b"null",
     b"9" * 10_000, {"program": "another", "rows": 3}],
    ids=lambda content: repr(content[:9]) if isinstance(content, bytes) else "another program",
)  # fmt: skip
def test_no_record_of_this_program(content, tmp_path):
    with pytest.raises(MassmapError, match=r"is not a result folder: it has no run\.json of this program"):
        described(tmp_path, content)


@pytest.mark.parametrize(
    "change",
    [*({name: None} for name in ("version", "rows", "flags")), {"flags": ["Z_MISSING"]}, {"flags": "none"},
     {"flags": 7}, {"fit": "good"}, {"fit": [1.0]}, {"fit": {"mean": {"alpha1": 1.0}}},
     {"fit": {"mean": ["alpha1"], "sd": {"alpha1": 1}}}, {"fit": {"mean": {"alpha1": "one"}, "sd": {"alpha1": 1.0}}}],
    ids=str,
)  # fmt: skip
def test_a_record_that_was_edited(change, tmp_path):
    edited = {name: value for name, value in (GOOD | change).items() if value is not None}
    with pytest.raises(MassmapError) as refusal:
        described(tmp_path, edited)
    said = str(refusal.value)
    assert "run.json is not as the program wrote it" in said and "Error" not in said and "\n" not in said
