"""Catalogues by their content: every byte of small ones, ends and samples of large ones, and never the date."""

import itertools
import os

import pytest

from massmap_jax.scale import fingerprint as module
from massmap_jax.scale.fingerprint import fingerprint_of, first_difference

SIZE = 1_000_000


@pytest.fixture
def files(tmp_path):
    (tmp_path / "deep").mkdir()
    paths = [tmp_path / "a.parquet", tmp_path / "deep" / "b.parquet"]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * SIZE)
    return paths


def changed(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("place", [0, 1, SIZE // 3, SIZE - 1])
def test_every_byte_of_a_small_catalogue_counts_and_no_date(files, tmp_path, place):
    before = fingerprint_of(files, str(tmp_path))
    os.utime(files[0], ns=(0, 0))
    assert fingerprint_of(files, str(tmp_path)) == before and before.keys() == {"a.parquet", "deep/b.parquet"}
    changed(files[1], place)
    assert first_difference(before, fingerprint_of(files, str(tmp_path))) == "deep/b.parquet"


def test_of_a_large_one_ends_and_samples_are_read(files, tmp_path, monkeypatch):
    for name, value in (("WHOLE", SIZE), ("_END", 1000), ("_SAMPLES", 4), ("_SAMPLE", 100)):
        monkeypatch.setattr(module, name, value)
    places = module._places(SIZE, whole=False)
    assert [length for _, length in places] == [1000, 100, 100, 100, 100, 1000]
    assert places[0][0] == 0 and sum(places[-1]) == SIZE
    assert all(sum(one) < other[0] for one, other in itertools.pairwise(places))
    before = fingerprint_of(files, str(tmp_path))
    changed(files[0], 5000)  # between the samples: the price that docs/scale.md names
    assert first_difference(before, fingerprint_of(files, str(tmp_path))) is None
    for place in (999, sum(places[2]) - 1, SIZE - 1000):
        changed(files[0], place)
        assert first_difference(before, fingerprint_of(files, str(tmp_path))) == "a.parquet"
        changed(files[0], place)
    with open(files[0], "ab") as file:
        file.write(b"1")
    assert first_difference(before, fingerprint_of(files, str(tmp_path))) == "a.parquet"


def test_a_single_file_may_have_another_name_and_of_many_none_may_be_missing():
    assert first_difference({"a": "1:x"}, {"b": "1:x"}) is None
    assert first_difference({"a": "1:x"}, {"b": "1:y"}) == "b"
    assert first_difference({"a": "1:x", "b": "1:x"}, {"a": "1:x"}) == "b"
    assert first_difference({"a": "1:x"}, {"a": "1:x", "c": "1:x"}) == "c"
