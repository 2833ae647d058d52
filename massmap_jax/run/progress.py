"""Progress on a terminal: what is done now, a bar with the time left where that is known, and the time that has passed.

Nothing is shown where stderr is no terminal, and nothing here touches the numbers.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

from massmap_jax.steps import Step
from massmap_jax.stopping import undone_if_stopped

_REFRESHES_A_SECOND = 4


class Progress:
    """A context that gives the function to call at every stage or `Step`.

    Parameters
    ----------
    quiet : bool
        Show nothing.

    Examples
    --------
    >>> from massmap_jax.run.progress import Progress
    >>> from massmap_jax.steps import Step
    >>> with Progress(quiet=True) as watch:
    ...     watch("reading")
    ...     watch(Step("mass map", 20, 100))
    """

    def __init__(self, quiet: bool = False):
        self._bars: Any = None  # of rich, which is imported where it is shown
        self._open = contextlib.ExitStack()
        self._shown = not quiet and sys.stderr.isatty()

    def __enter__(self) -> Callable[[str], None]:
        if not self._shown:
            return lambda stage: None
        from rich.console import Console
        from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        self._bars = Bars(
            SpinnerColumn(),
            # Names of columns and files may hold brackets, which are no markup.
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("left", style="dim"),
            TimeRemainingColumn(compact=True),
            TextColumn("passed", style="dim"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            refresh_per_second=_REFRESHES_A_SECOND,
            transient=True,
        )
        self._what, self._task = "starting", self._bars.add_task("starting", total=None)
        self._open.enter_context(undone_if_stopped(self._bars.stop))  # which shows the cursor again
        self._bars.start()
        self._open.callback(self._bars.stop)
        return self._show

    def __exit__(self, *_) -> None:
        self._open.close()

    def _show(self, stage: str) -> None:
        """Show a line; a new stage begins its own clock and its own bar."""
        what = stage.what if isinstance(stage, Step) else stage
        if what != self._what:
            self._what = what
            # rich takes no total away from a task.
            self._bars.remove_task(self._task)
            self._task = self._bars.add_task(what, total=None)
        if isinstance(stage, Step):
            self._bars.update(self._task, description=str(stage), total=stage.total, completed=stage.done)
        else:
            self._bars.update(self._task, description=str(stage))
