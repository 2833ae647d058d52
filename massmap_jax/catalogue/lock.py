"""A file that keeps a second run away from where one is writing."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from massmap_jax.errors import MassmapError
from massmap_jax.stopping import undone_if_stopped


@contextlib.contextmanager
def locked(lock: Path, busy: str) -> Iterator[bool]:
    """Hold a lock during the block; it ends with the process, however that ends.

    Parameters
    ----------
    lock : Path
        The file; it is removed at the end.
    busy : str
        What is said if another process holds it.

    Yields
    ------
    bool
        False on a file system that has no locks.

    Raises
    ------
    MassmapError
        If another process holds the lock.
    OSError
        If the file cannot be made.
    """
    from filelock import FileLock, Timeout

    # Not bound to a thread: the block may be left in another thread than it was entered in.
    held = FileLock(lock, timeout=0, thread_local=False)
    lock.touch()  # a folder that cannot be written to is no lock that another holds
    try:
        held.acquire()
    except Timeout:
        raise MassmapError(busy) from None
    except NotImplementedError:
        yield False
        return

    def remove() -> None:
        # Removed while it is held, so that no other run holds it. Windows cannot remove an open file; there
        # `release` does.
        with contextlib.suppress(PermissionError):
            lock.unlink(missing_ok=True)
        held.release()

    try:
        with undone_if_stopped(remove):
            yield True
    finally:
        remove()
