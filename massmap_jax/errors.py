"""The one exception that the package raises for bad input."""


class MassmapError(ValueError):
    """Bad input, described in one sentence with what to do about it.

    The message says which column or argument is wrong, in how many rows, which row is the first and its value, and the
    remedy. It is a `ValueError`, so code that expects one keeps working.
    """
