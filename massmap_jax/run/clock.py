"""Where the time of a run goes."""

import time
from collections.abc import Callable
from contextlib import contextmanager


class Clock:
    """Seconds spent in each stage, and a word to whoever watches."""

    def __init__(self, watch: Callable[[str], None] = lambda stage: None):
        self.seconds: dict[str, float] = {}
        self.say = watch

    @contextmanager
    def stage(self, name: str):
        self.say(name)
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)
