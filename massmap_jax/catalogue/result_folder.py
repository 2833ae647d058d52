"""The folder of a result: it appears whole or not at all, and of an earlier one only what the program wrote goes.

The record of a run, run.json, lists the files that the program wrote.
"""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from massmap_jax.catalogue.lock import locked
from massmap_jax.catalogue.write import check_parent, told_as_sentence, umask
from massmap_jax.errors import MassmapError
from massmap_jax.stopping import undone_if_stopped

RECORD = "run.json"


def record_of(text: str | bytes) -> dict | None:
    """Read the record of a run, whatever became of it.

    Parameters
    ----------
    text : str or bytes
        Content of run.json.

    Returns
    -------
    dict or None
        None where it is no object of JSON.
    """
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def files_of_others(folder: Path) -> list[str]:
    """List what the program did not write into a result folder.

    Parameters
    ----------
    folder : Path
        The folder.

    Returns
    -------
    list of str
        Paths in the folder of files, links and folders that its run.json does not list.
    """
    path = folder / RECORD
    listed = (record_of(path.read_bytes()) or {}).get("files") if path.is_file() else None
    own = {RECORD, *(name for name in listed if isinstance(name, str))} if isinstance(listed, list) else {RECORD}
    folders = {str(parent) for name in own for parent in Path(name).parents}
    found = []
    for place, inside, files in os.walk(folder):
        names = {name: os.path.relpath(os.path.join(place, name), folder) for name in [*inside, *files]}
        found += [n for name, n in names.items() if n not in (own if name in files else folders)]
        inside[:] = [name for name in inside if names[name] in folders]
    return sorted(found)


def check_replaceable(folder: Path) -> None:
    """Refuse to replace a folder that is not an earlier output, or in which others have put something.

    Parameters
    ----------
    folder : Path
        The folder, which exists.

    Raises
    ------
    MassmapError
        With the first file that the program did not write.
    """
    if not (folder / RECORD).is_file():
        raise MassmapError(
            f"{folder} is not an earlier output (it has no {RECORD}) and is left as it was: choose another folder"
        )
    if others := files_of_others(folder):
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise MassmapError(
            f"{folder} holds {others[0]}{more}, which its {RECORD} does not list as written by the program, so "
            "overwrite does not replace it: move that elsewhere, or choose another folder"
        )


@contextlib.contextmanager
def atomic_directory(path, overwrite: bool = False) -> Iterator[Path]:
    """Give a new folder to fill, beside `path`, which becomes `path` if the block ends without an error.

    What an earlier run left there when it was killed is removed.

    Parameters
    ----------
    path : str or os.PathLike
        Folder to make; its parent must exist.
    overwrite : bool
        Replace an earlier output there, that is a folder with a run.json that lists all files in it. Any other folder
        is refused.

    Yields
    ------
    Path
        The temporary folder; it is removed if the block fails.

    Raises
    ------
    MassmapError
        For a folder that exists and is not to be replaced, one that another run is about to write, one that cannot be
        written, or an OSError (such as a full disk) in the block.
    """
    path = Path(path)
    _check_free(path, overwrite)
    with told_as_sentence(path):
        check_parent(path)
        target = Path(os.path.realpath(path))
        ours = f".{target.name}.massmap-"
        busy = f"another run is writing {path}: wait for it, or choose another folder"
        with locked(target.parent / f"{ours}lock", busy) as alone:
            if alone:  # whoever made what lies there is dead
                _clear(target, ours)
                _check_free(path, overwrite)
            temporary = Path(tempfile.mkdtemp(prefix=ours, dir=target.parent))

            def remove() -> None:
                shutil.rmtree(temporary, ignore_errors=True)

            def put_back() -> None:
                remove()
                if alone:
                    _clear(target, ours)  # an earlier output may have been moved aside

            try:
                with undone_if_stopped(put_back):
                    yield temporary
                    temporary.chmod(0o777 & ~umask())
                    _put_in_place(temporary, target, overwrite, ours)
            finally:
                remove()


def _check_free(path: Path, overwrite: bool) -> None:
    """Refuse a path that exists and may not be replaced."""
    if path.exists() or path.is_symlink():
        if not path.is_dir():
            raise MassmapError(f"{path} exists and is a file, left as it was: choose another output folder")
        if not overwrite:
            raise MassmapError(f"{path} exists and is left as it was: choose another output folder or overwrite")
        check_replaceable(path)


def _clear(target: Path, ours: str) -> None:
    """Remove what a run that was killed left beside the folder, and put an earlier output back that it had moved."""
    for left in sorted(target.parent.iterdir()):
        if not left.name.startswith(ours) or left.is_symlink() or not left.is_dir():
            continue
        earlier = left / target.name
        if not left.name.startswith(f"{ours}old-"):
            shutil.rmtree(left, ignore_errors=True)
        elif earlier.exists() and not target.exists():
            earlier.rename(target)
            left.rmdir()
        else:
            _remove_earlier(left, target)


def _put_in_place(new: Path, target: Path, overwrite: bool, ours: str) -> None:
    """Rename the new folder to its final name; an earlier output there is put back if that fails."""
    if not (overwrite and target.exists()):
        # rename() replaces an empty folder that was made there in the meantime, but no other.
        new.rename(target)
        return
    aside = Path(tempfile.mkdtemp(prefix=f"{ours}old-", dir=target.parent))
    try:
        # Into the new folder, not in its place: Windows renames nothing to a name that exists.
        old = target.rename(aside / target.name)
        try:
            new.rename(target)
        except BaseException:
            old.rename(target)
            raise
    finally:
        _remove_earlier(aside, target)


def _remove_earlier(aside: Path, target: Path) -> None:
    """Remove an earlier output; what others put there since it was checked goes into the new one, or stays."""
    old = aside / target.name
    if old.exists():
        for name in files_of_others(old):
            if not (target / name).exists():
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                (old / name).rename(target / name)
        if files_of_others(old):
            return
    shutil.rmtree(aside, ignore_errors=True)
