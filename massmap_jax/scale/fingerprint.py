"""Which catalogue was read: its files by their size and a hash of their content, wherever they lie and whatever their
dates.

Every byte is hashed of a catalogue that takes no time to read. A survey would have to be read twice for that: of its
files both ends are hashed, which hold a Parquet file's statistics and the places of its pages, and samples in between.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

# Bytes of all files together up to which they are hashed as a whole: less than a second.
WHOLE = 1 << 28
# Bytes at each end of a file of a larger catalogue; and number of samples between, with the bytes of each.
_END = 1 << 20
_SAMPLES, _SAMPLE = 32, 1 << 16


def fingerprint_of(files: Sequence[Path], folder: str) -> dict[str, str]:
    """Identify files by their content.

    Parameters
    ----------
    files : sequence of Path
        The files.
    folder : str
        Where several files lie, for their names.

    Returns
    -------
    dict of str to str
        By name, size and hash of each.
    """
    sizes = [path.stat().st_size for path in files]
    whole = sum(sizes) <= WHOLE
    names = [files[0].name] if len(files) == 1 else [str(path.relative_to(folder)) for path in files]
    return {
        name: f"{size}:{_hash(path, _places(size, whole))}"
        for name, size, path in zip(names, sizes, files, strict=True)
    }


def first_difference(before: dict[str, str], now: dict[str, str]) -> str | None:
    """Find the first file that is another one in two fingerprints.

    Parameters
    ----------
    before, now : dict of str to str
        What `fingerprint_of` gave.

    Returns
    -------
    str or None
        Name of a file of other content, or in one of the two only; None if there is none. A single file may have
        another name.
    """
    if len(before) == len(now) == 1:
        return None if [*before.values()] == [*now.values()] else next(iter(now))
    return next((name for name in {**before, **now} if before.get(name) != now.get(name)), None)


def _places(size: int, whole: bool) -> list[tuple[int, int]]:
    """First byte and number of bytes of each piece that is hashed."""
    if whole or size <= 2 * _END + _SAMPLES * _SAMPLE:
        return [(0, size)]
    step = (size - 2 * _END) // _SAMPLES
    samples = [(_END + i * step + (step - _SAMPLE) // 2, _SAMPLE) for i in range(_SAMPLES)]
    return [(0, _END), *samples, (size - _END, _END)]


def _hash(path: Path, places: list[tuple[int, int]]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        for start, length in places:
            file.seek(start)
            while length > 0 and (piece := file.read(min(length, _END))):
                digest.update(piece)
                length -= len(piece)
    return digest.hexdigest()
