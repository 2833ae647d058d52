"""The record of a run that writes a folder part by part: the options, a line for each finished part, and the sums.

A part is renamed into place only when it is complete, and then its line is added, with the digest of its bytes. Each
line ends with a check of itself and of all lines before it. However a run was stopped and whatever happened to its
folder since, a run that continues it can tell what is as it was written. It first checks that input and options are
still the same.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from massmap_jax.catalogue.lock import locked
from massmap_jax.catalogue.write import atomic_file, told_as_sentence
from massmap_jax.errors import MassmapError
from massmap_jax.steps import Step

MANIFEST, PARTS, LOCK = "manifest.jsonl", "masses", ".lock"
# Names of files that are being written (`atomic_file`, `write_whole`); other hidden files are the user's.
_LITTER = re.compile(
    r"\.((manifest\.\w{8}\.jsonl)|((surface|map_state)\.\w{8}\.npz)|(run\.\w{8}\.json)"
    r"|(part-\d+\.\w{8}\.(parquet|fits))|(mass_map\.fits\.\w{8}\.tmp))"
)


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
    begun = (out / MANIFEST).is_file()
    if out.exists() and not resume:
        raise MassmapError(
            f"{out} exists and is left as it was: choose another folder"
            + (f", or pass {option} to continue the run that was stopped there" if begun and _unfinished(out) else "")
        )
    if resume and not begun:
        raise MassmapError(f"{out} holds no run to resume (no {MANIFEST}): leave {option} out to begin one")


def _unfinished(out: Path) -> bool:
    """Whether a manifest has no last line; a damaged one is told of where the run is resumed."""
    try:
        return not any("done" in line for line in _read(out)[-1:])
    except MassmapError:
        return True


@contextlib.contextmanager
def opened(out: Path, header: dict, *, resume: bool, option: str) -> "Iterator[Manifest]":
    """Lock the folder and yield its manifest; an OSError in the block becomes a MassmapError.

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
    Manifest
        With the lines of the finished parts.

    Raises
    ------
    MassmapError
        If another run is writing to the folder, or the header or the manifest has changed since the run was stopped.
    """
    with told_as_sentence(out, f"what was done stays; {option} continues it"):
        out.mkdir(parents=False, exist_ok=resume)
        with locked(out / LOCK, f"another run is writing to {out}: wait for it, or choose another folder") as alone:
            if not alone:
                raise OSError("the file system has no locks")
            (out / PARTS).mkdir(exist_ok=True)
            yield Manifest(out, header)


class Manifest:
    """The manifest of a folder. What is done to it is on the disk when the call returns.

    Parameters
    ----------
    out : Path
        The folder. If it has a manifest, that is taken up.
    header : dict
        The first line, as it must be.

    Attributes
    ----------
    parts : list of dict
        Lines of the finished parts.
    files : dict of str to str
        Digests of the other files, by name.
    total : dict or None
        The last line, None while the run is not finished.

    Raises
    ------
    MassmapError
        If the manifest is damaged, or has another header.
    """

    def __init__(self, out: Path, header: dict):
        self.out, self.header = out, header
        self.parts: list[dict] = []
        self.files: dict[str, str] = {}
        self.total: dict | None = None
        self._check = ""
        lines = _read(out) if (out / MANIFEST).exists() else []
        for what in header if lines else ():
            if lines[0].get(what) != header[what]:
                names = _differences(lines[0].get(what), header[what])
                raise MassmapError(
                    f"{out} was begun with another {what}{names}: resume with what it was begun with, or begin in "
                    "another folder"
                )
        remove_litter(out)
        for line in lines[1:]:
            if "part" in line:
                self.parts.append(line)
            elif "file" in line:
                self.files[line["file"]] = line["digest"]
            else:
                self.total = line
        # Without a line that was cut off while it was written.
        self._rewrite([header, *lines[1:]])

    def add_part(self, line: dict) -> None:
        """Add the line of a part that is in place.

        Parameters
        ----------
        line : dict
            What `line_of_part` gives, and more.
        """
        self._append(line)
        self.parts.append(line)

    def add_file(self, name: str) -> None:
        """Record the digest of another file of the folder.

        Parameters
        ----------
        name : str
            The file, which is in place.

        Raises
        ------
        MassmapError
            If there are parts that were made with another content of it.
        """
        digest = file_digest(self.out / name)
        if self.parts and self.files.get(name, digest) != digest:
            raise MassmapError(
                f"{self.out / name} was changed since it was written, and cannot be made again as it was: begin in "
                "another folder"
            )
        if name not in self.files:
            self.files[name] = digest
            self._append({"file": name, "digest": digest})

    def holds(self, name: str) -> bool:
        """Tell whether a file is as it was recorded.

        Parameters
        ----------
        name : str
            The file.

        Returns
        -------
        bool
            False if it was not recorded, is missing or has changed.
        """
        path = self.out / name
        return name in self.files and path.is_file() and file_digest(path) == self.files[name]

    def damaged(self, watch: Callable[[str], None] = lambda stage: None) -> list[int]:
        """Find the parts whose files are missing or not as they were written.

        Parameters
        ----------
        watch : callable
            Called with a line of text that reports how many were checked.

        Returns
        -------
        list of int
            Their places in `parts`.
        """
        found = []
        for number, line in enumerate(self.parts):
            path = self.out / PARTS / line["part"]
            same = path.is_file() and path.stat().st_size == line["size"] and file_digest(path) == line["digest"]
            if not same:
                found.append(number)
            watch(Step("checking what was done", number + 1, len(self.parts), "parts"))
        return found

    def keep(self, parts: Sequence[dict], files: Sequence[str] = ()) -> None:
        """Reduce the manifest to these parts and files; the run is not finished then.

        Parameters
        ----------
        parts : sequence of dict
            Lines of parts.
        files : sequence of str
            Names of files; those that were not recorded are left out.
        """
        self.parts, self.total = list(parts), None
        self.files = {name: self.files[name] for name in files if name in self.files}
        of_files = [{"file": name, "digest": digest} for name, digest in self.files.items()]
        self._rewrite([self.header, *of_files, *self.parts])

    def finish(self, total: dict) -> None:
        """Add the last line.

        Parameters
        ----------
        total : dict
            What `total_of` gives.
        """
        self._append(total)
        self.total = total

    def _checked(self, line: dict) -> str:
        """The text of the next line, with its check."""
        self._check = _check_of(self._check, line)
        return json.dumps(line | {"check": self._check}) + "\n"

    def _append(self, line: dict) -> None:
        with open(self.out / MANIFEST, "a") as file:
            file.write(self._checked(line))
            file.flush()
            os.fsync(file.fileno())

    def _rewrite(self, lines: list[dict]) -> None:
        self._check = ""
        with atomic_file(self.out / MANIFEST, overwrite=True) as path:
            path.write_text("".join(map(self._checked, lines)))


def line_of_part(path: Path, rows: int) -> dict:
    """Begin the manifest's line of a part.

    Parameters
    ----------
    path : Path
        The part, which is in place.
    rows : int
        Number of its rows.

    Returns
    -------
    dict
        Name, number of rows, size and digest.
    """
    return {"part": path.name, "rows": rows, "size": path.stat().st_size, "digest": file_digest(path)}


def file_digest(path: Path) -> str:
    """Hash the bytes of a file.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    str
        The hash in hexadecimal digits.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


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
    return _read(out)[0]


def remove_litter(out: Path) -> None:
    """Remove files that were being written when a process was killed, and no other hidden ones.

    Parameters
    ----------
    out : Path
        The folder.
    """
    for path in [*out.glob(".*"), *(out / PARTS).glob(".*")]:
        if _LITTER.fullmatch(path.name) and path.is_file():
            path.unlink()


def _check_of(before: str, line: dict) -> str:
    """The check of a line: a hash of it and of the check of the line before."""
    return hashlib.blake2b((before + json.dumps(line)).encode(), digest_size=8).hexdigest()


def _read(out: Path) -> list[dict]:
    """Read the complete lines of the manifest; a line that was cut off while it was written is dropped."""
    data = (out / MANIFEST).read_bytes()
    lines: list[dict] = []
    check = ""
    for number, text in enumerate(data[: data.rfind(b"\n") + 1].split(b"\n")[:-1], start=1):
        line = _line(text)
        check = _check_of(check, {name: value for name, value in line.items() if name != "check"})
        if line.pop("check", None) != check:
            remedy = "begin in another folder"
            if number > 1:
                remedy += ", or remove this line and those after it to have their parts written again"
            raise MassmapError(f"line {number} of {out / MANIFEST} is not as it was written: {remedy}")
        lines.append(line)
    return lines


def _line(text: bytes) -> dict:
    """A line of the manifest; nothing where the text is none."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return line if isinstance(line, dict) else {}


def _differences(before, now) -> str:
    """Name the differences between two values of a header, for a message."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return f" ({before} before, {now} now)" if len(f"{before}{now}") < 100 else ""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    nested = [_differences(before.get(name), now.get(name)) for name in names]
    return f" ({', '.join(f'{name}{more}' for name, more in zip(names, nested, strict=True))})"


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
