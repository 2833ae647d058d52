"""What a worker process keeps for the tasks that name it: prior, relation, posterior surface, each once."""

HELD: dict[str, object] = {}


def hold(name: str, value) -> None:
    """Keep an object in this process for the tasks that name it.

    Parameters
    ----------
    name : str
    value : object
    """
    HELD[name] = value
