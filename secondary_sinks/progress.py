"""Progress of anything that takes over two seconds, shown in a notebook without being asked for."""

import html
import sys
import time
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
Progress = Callable[[int, int], None]
"""Called with (steps done, steps)."""
PATIENCE = 2.0
"""Seconds before a bar appears."""


def shows_progress(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function that takes `progress` show a bar in a notebook, unless `progress` is given.

    Of functions that call each other, only the outermost shows one.
    """

    @wraps(function)
    def shown(*args: P.args, **kwargs: P.kwargs) -> R:
        if _Bar.busy:
            return function(*args, **kwargs)
        _Bar.busy, bar = True, None
        if kwargs.get("progress") is None and in_notebook():
            kwargs["progress"] = bar = _Bar(function.__name__)
        try:
            return function(*args, **kwargs)
        finally:
            _Bar.busy = False
            if bar is not None:
                bar.close()

    return shown


def part_of(progress: Progress | None, number: int, of: int) -> Progress | None:
    """Progress of one text of several, as progress of all of them."""
    if progress is None:
        return None
    return lambda done, total: progress(number * total + done, of * total)


def in_notebook() -> bool:
    """Whether this process is the kernel of a Jupyter notebook."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


class _Bar:
    """A bar in the output of a cell, drawn once there was time to wonder."""

    busy = False

    def __init__(self, name: str) -> None:
        self.name, self.begin, self.handle = name, time.monotonic(), None

    def __call__(self, done: int, total: int) -> None:
        took = time.monotonic() - self.begin
        if took < PATIENCE:
            return
        bar = f'<progress value="{done}" max="{total}"></progress>'
        self._draw(f"{html.escape(self.name)} {bar} {done} of {total}, {took:.0f} s")

    def close(self) -> None:
        """Take the bar away."""
        if self.handle is not None:
            self._draw("")

    def _draw(self, page: str) -> None:
        from IPython.display import HTML, display

        made: Any = HTML(page)
        if self.handle is None:
            self.handle = display(made, display_id=True)
        else:
            self.handle.update(made)
