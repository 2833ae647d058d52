"""Archives (.npz) that may be damaged: whatever is wrong with one is told in a sentence that names it."""

import contextlib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from massmap_jax.errors import MassmapError, first_line


def read_npz(path) -> dict[str, np.ndarray]:
    """Read every array of an .npz file; pickled objects are refused. For use inside `told_of_archive`."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def write_npz(path, arrays: Mapping[str, Any], *, overwrite: bool = False) -> None:
    """Write arrays to an .npz file under another name first, so that a failure leaves what was there before.

    Parameters
    ----------
    path : str or Path
        The file.
    arrays : dict of str to array_like
        What to write, by name; text is an array too.
    overwrite : bool, optional
        Whether an existing file is replaced.

    Raises
    ------
    MassmapError
        The file exists already.
    """
    from massmap_jax.catalogue.write import atomic_file

    with atomic_file(Path(path), overwrite=overwrite) as part, open(part, "wb") as file:
        np.savez_compressed(file, **arrays)


@contextlib.contextmanager
def told_of_archive(what: str, remedy: str) -> Iterator[None]:
    """Turn whatever zipfile, zlib, NumPy and JSON raise about a file into a MassmapError.

    Parameters
    ----------
    what : str
        The file and what it should be, such as "prior file a.npz".
    remedy : str
        What is said of it, such as "cannot be read as .npz".

    Raises
    ------
    MassmapError
        For any error of the block.
    """
    try:
        yield
    except MassmapError:
        raise
    except FileNotFoundError:
        raise MassmapError(f"{what} does not exist") from None
    except Exception as error:  # of four libraries, which have no common type
        raise MassmapError(f"{what} {remedy}: {first_line(error)}") from error


def members(path) -> list[str]:
    """Give the names of an archive's members; none where it is no archive, or a damaged one."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return []
