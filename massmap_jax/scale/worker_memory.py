"""Objects that a worker process keeps for its tasks (prior, relation, posterior surface), one copy of each."""

HELD: dict[str, object] = {}


def hold(name: str, value) -> None:
    """Keep an object in this process for the tasks that name it.

    Parameters
    ----------
    name : str
        Hash of the object.
    value : object
        The object.
    """
    HELD[name] = value
