"""What to put in order when the program is told to stop.

The program ends where the signal finds it. An exception would have to unwind JAX's compiler and its callbacks, which
may crash, or lose the exception.
"""

import contextlib
from collections.abc import Callable, Iterator

_to_undo: list[Callable[[], object]] = []


@contextlib.contextmanager
def undone_if_stopped(undo: Callable[[], object]) -> Iterator[None]:
    """Name the function that takes back what the block leaves half done; called only if the program is stopped in it.

    Parameters
    ----------
    undo : callable
        A function without arguments, such as one that removes a temporary file.
    """
    _to_undo.append(undo)
    try:
        yield
    finally:
        _to_undo.remove(undo)


def undo_all() -> None:
    """Take back what is half done, the last begun first; what fails does not keep the others from it."""
    while _to_undo:
        with contextlib.suppress(Exception):
            _to_undo.pop()()
