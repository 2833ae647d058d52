"""The one exception that the library raises for bad input."""


class MassmapError(ValueError):
    """Bad input in one sentence: which column or argument, how many rows, the first one, its value, the remedy."""


class MisfitError(MassmapError):
    """A fitted relation that does not describe the catalogue: no masses are handed over. The program exits with 3."""
