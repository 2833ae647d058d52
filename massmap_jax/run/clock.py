"""Timing of the stages of a run."""

import time
from collections.abc import Callable
from contextlib import contextmanager


class Clock:
    """Measure the time of each stage, and report the stage to a callback.

    Parameters
    ----------
    watch : callable
        Called with the name of a stage when it begins.

    Attributes
    ----------
    seconds : dict of str to float
        Time of each finished stage [s].
    say : callable
        The callback.
    """

    def __init__(self, watch: Callable[[str], None] = lambda stage: None):
        self.seconds: dict[str, float] = {}
        self.say = watch

    @contextmanager
    def stage(self, name: str):
        """Time a stage.

        Parameters
        ----------
        name : str
            Name of the stage.

        Yields
        ------
        None
            While the stage runs.
        """
        self.say(name)
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)
