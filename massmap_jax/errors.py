"""The one exception that the package raises for bad input, and the reason in errors of others."""


class MassmapError(ValueError):
    """Bad input, described in one sentence with what to do about it.

    The message says which column or argument is wrong, in how many rows, which row is the first and its value, and the
    remedy. It is a `ValueError`, so code that expects one keeps working.
    """


class MisfitError(MassmapError):
    """A fitted relation that does not describe the catalogue, so no masses are handed over.

    The program ends with exit code 3 where it meets this error, and with 2 at any other `MassmapError`.
    """


def first_line(error: Exception) -> str:
    """Give the reason in a library's error, without the rest of its text."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).strip().splitlines()
    return text[0].rstrip(".") if text else type(error).__name__
