"""The one exception that the library raises for bad input."""


class MassmapError(ValueError):
    """Bad input in one sentence: which column or argument, how many rows, the first one, its value, the remedy."""
