"""The record of a run that writes a folder part by part: what was asked for, a line for each part done, the sums.

A part is renamed into place whole, then its line is added. So whatever stops a run, what the manifest lists is good;
and a run that goes on with it first makes sure that input and options are still those it was begun with.
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
    """Refuse a folder that exists, or that holds no run to go on with; `option` is what asks for going on."""
    if out.exists() and not resume:
        unfinished = (out / MANIFEST).exists() and not any("done" in line for line in _lines(out)[-1:])
        raise MassmapError(
            f"{out} exists and is left as it was: choose another folder"
            + (f", or pass {option} to go on with the run that was stopped there" if unfinished else "")
        )
    if resume and not (out / MANIFEST).exists():
        raise MassmapError(f"{out} holds no run to resume (no {MANIFEST}): leave {option} out to begin one")


@contextlib.contextmanager
def opened(out: Path, header: dict, *, resume: bool, option: str) -> Iterator[list[dict]]:
    """The folder, locked, with the lines of the parts that are done; an OSError in the block becomes a sentence."""
    with told_as_sentence(out, f"what was done stays, to go on with by {option}"):
        out.mkdir(parents=False, exist_ok=resume)
        with _locked(out):
            (out / PARTS).mkdir(exist_ok=True)
            yield _take_up(out, header) if resume else _begin(out, header)


def total_of(lines: list[dict]) -> dict:
    """The last line, of the lines of all parts in order."""
    flags = add_counts(line["flags"] for line in lines)
    return {
        "done": len(lines),
        "rows": sum(line["rows"] for line in lines),
        "flags": dict(sorted(flags.items())),
        "beside_surface": sum(line["beside_surface"] for line in lines),
        "id_hash": digest_of([np.array([line["id_hash"] for line in lines])]),
    }


def rewrite(out: Path, lines: list[dict]) -> None:
    """The whole manifest anew, header first."""
    with atomic_file(out / MANIFEST, overwrite=True) as path:
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def remove_litter(out: Path) -> None:
    """Files that were being written when a process was killed."""
    for path in [*out.glob(".*"), *(out / PARTS).glob(".*")]:
        if path.name != LOCK:
            path.unlink()


def _begin(out: Path, header: dict) -> list:
    append(out, header)
    return []


def append(out: Path, line: dict) -> None:
    """Add a line and see it onto the disk."""
    with open(out / MANIFEST, "a") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _lines(out: Path) -> list[dict]:
    """The manifest's whole lines; one that was cut off in writing is dropped."""
    text = (out / MANIFEST).read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def _take_up(out: Path, header: dict) -> list:
    """Lines of the chunks that are done, litter of the stopped run removed; refused where anything has changed."""
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
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return f" ({before} before, {now} now)" if len(f"{before}{now}") < 100 else ""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    nested = [_differences(before.get(name), now.get(name)) for name in names]
    return f" ({', '.join(f'{name}{more}' for name, more in zip(names, nested, strict=True))})"


@contextlib.contextmanager
def _locked(out: Path):
    """No two runs in one folder; the lock ends with the process, however it ends."""
    from filelock import FileLock, Timeout

    # Not bound to a thread: the block may be left from another than it was entered from.
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
        # While it is held, so that it is no one else's. Windows removes no open file: there `release` does, at the end.
        with contextlib.suppress(PermissionError):
            (out / LOCK).unlink(missing_ok=True)
        lock.release()


def digest_of(arrays) -> str:
    """Hash of arrays, of numbers or text, whatever their byte order and the width of the text."""
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
    """Numbers added by name."""
    total: dict[str, int] = {}
    for one in counts:
        for name, number in one.items():
            total[name] = total.get(name, 0) + number
    return total
