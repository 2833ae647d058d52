"""The record of a run that writes a folder part by part: the options, a line for each finished part, and the sums.

A part is renamed into place only when it is complete, and then its line is added. The parts that the manifest lists are
therefore always good, however a run was stopped. A run that continues it first checks that input and options are still
the same.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from massmap_jax.catalogue.write import atomic_file, told_as_sentence
from massmap_jax.errors import MassmapError

MANIFEST, PARTS, LOCK = "manifest.jsonl", "masses", ".lock"


def check_folder(out: Path, resume: bool, option: str) -> None:
    """Refuse a folder that exists, or, to resume, one without a run to continue.

    Parameters
    ----------
    out : Path
        The folder.
    resume : bool
        Whether a stopped run is to be continued.
    option : str
        The option that continues a run, for the message.

    Raises
    ------
    MassmapError
        If the folder exists and `resume` is false, or there is no manifest and `resume` is true.
    """
    if out.exists() and not resume:
        unfinished = (out / MANIFEST).exists() and not any("done" in line for line in _lines(out)[-1:])
        raise MassmapError(
            f"{out} exists and is left as it was: choose another folder"
            + (f", or pass {option} to continue the run that was stopped there" if unfinished else "")
        )
    if resume and not (out / MANIFEST).exists():
        raise MassmapError(f"{out} holds no run to resume (no {MANIFEST}): leave {option} out to begin one")


@contextlib.contextmanager
def opened(out: Path, header: dict, *, resume: bool, option: str) -> Iterator[list[dict]]:
    """Lock the folder and yield the lines of its finished parts; an OSError in the block becomes a MassmapError.

    Parameters
    ----------
    out : Path
        The folder.
    header : dict
        First line of the manifest: program, input and options.
    resume : bool
        Whether a stopped run is continued.
    option : str
        The option that continues a run, for the message.

    Yields
    ------
    list of dict
        Lines of the finished parts.

    Raises
    ------
    MassmapError
        If another run is writing to the folder, or the header or a part has changed since the run was stopped.
    """
    with told_as_sentence(out, f"what was done stays; {option} continues it"):
        out.mkdir(parents=False, exist_ok=resume)
        with _locked(out):
            (out / PARTS).mkdir(exist_ok=True)
            yield _take_up(out, header) if resume else _begin(out, header)


def total_of(lines: list[dict]) -> dict:
    """Sum the lines of all parts to the last line of the manifest.

    Parameters
    ----------
    lines : list of dict
        Lines of the parts, in order.

    Returns
    -------
    dict
        Number of parts ("done"), rows, flags, rows outside the table's range, and a hash of the ids.
    """
    flags = add_counts(line["flags"] for line in lines)
    return {
        "done": len(lines),
        "rows": sum(line["rows"] for line in lines),
        "flags": dict(sorted(flags.items())),
        "beside_surface": sum(line["beside_surface"] for line in lines),
        "id_hash": digest_of([np.array([line["id_hash"] for line in lines])]),
    }


def header_of(out: Path) -> dict:
    """Read the first line of the manifest.

    Parameters
    ----------
    out : Path
        The folder.

    Returns
    -------
    dict
        Program, input and options.
    """
    with open(out / MANIFEST) as file:
        return json.loads(file.readline())


def rewrite(out: Path, lines: list[dict]) -> None:
    """Replace the whole manifest.

    Parameters
    ----------
    out : Path
        The folder.
    lines : list of dict
        The header, then the lines of the parts.
    """
    with atomic_file(out / MANIFEST, overwrite=True) as path:
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def remove_litter(out: Path) -> None:
    """Remove files that were being written when a process was killed.

    Parameters
    ----------
    out : Path
        The folder.
    """
    for path in [*out.glob(".*"), *(out / PARTS).glob(".*")]:
        if path.name != LOCK:
            path.unlink()


def _begin(out: Path, header: dict) -> list:
    """Write the header of a new manifest; there are no finished parts yet."""
    append(out, header)
    return []


def append(out: Path, line: dict) -> None:
    """Add a line to the manifest and wait until it is on the disk.

    Parameters
    ----------
    out : Path
        The folder.
    line : dict
        The line.
    """
    with open(out / MANIFEST, "a") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _lines(out: Path) -> list[dict]:
    """Read the complete lines of the manifest; a line that was cut off while it was written is dropped."""
    text = (out / MANIFEST).read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def _take_up(out: Path, header: dict) -> list:
    """Return the lines of the finished parts of a stopped run; refuse it if header or parts have changed."""
    lines = _lines(out)
    remove_litter(out)
    if not lines:
        (out / MANIFEST).unlink()
        return _begin(out, header)
    before, *done = lines
    for what in header:
        if before.get(what) != header[what]:
            names = _differences(before.get(what), header[what])
            raise MassmapError(
                f"{out} was begun with another {what}{names}: resume with what it was begun with, or begin in another "
                "folder"
            )
    for line in done:
        if "done" not in line:
            part = out / PARTS / line["part"]
            if not part.exists() or part.stat().st_size != line["size"]:
                raise MassmapError(f"{part} is missing or was changed since it was written: begin in another folder")
    rewrite(out, lines)
    return done


def _differences(before, now) -> str:
    """Name the differences between two values of a header, for a message."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return f" ({before} before, {now} now)" if len(f"{before}{now}") < 100 else ""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    nested = [_differences(before.get(name), now.get(name)) for name in names]
    return f" ({', '.join(f'{name}{more}' for name, more in zip(names, nested, strict=True))})"


@contextlib.contextmanager
def _locked(out: Path):
    """Keep a second run out of the folder; the lock ends with the process, however it ends."""
    from filelock import FileLock, Timeout

    # Not bound to a thread: the block may be left in another thread than it was entered in.
    lock = FileLock(out / LOCK, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise MassmapError(f"another run is writing to {out}: wait for it, or choose another folder") from None
    except NotImplementedError as error:  # the file system has no locks
        raise OSError(str(error)) from error
    try:
        yield
    finally:
        # Removed while it is held, so that no other run holds it. Windows cannot remove an open file; there
        # `release` does.
        with contextlib.suppress(PermissionError):
            (out / LOCK).unlink(missing_ok=True)
        lock.release()


def digest_of(arrays) -> str:
    """Hash arrays of numbers or text, independently of their byte order and of the width of the text.

    Parameters
    ----------
    arrays : iterable of array_like, (...,)
        The arrays, in order.

    Returns
    -------
    str
        The hash in hexadecimal digits.
    """
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        array = np.asarray(array)
        if array.dtype.kind in "iu":
            array = array.astype("<i8")
        if array.dtype.kind in "USO":
            texts = (v.decode() if isinstance(v, bytes) else str(v) for v in array.ravel().tolist())
            digest.update("\0".join(texts).encode())
        else:
            digest.update(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"))).tobytes())
    return digest.hexdigest()


def add_counts(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    """Add numbers by name.

    Parameters
    ----------
    counts : iterable of dict of str to int
        The numbers of each part.

    Returns
    -------
    dict of str to int
        Their sums.
    """
    total: dict[str, int] = {}
    for one in counts:
        for name, number in one.items():
            total[name] = total.get(name, 0) + number
    return total
