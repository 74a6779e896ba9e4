"""Progress of a run or sweep: bars on a terminal, JSON lines for machines, otherwise nothing."""

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from secondary_sinks.cli.complete import LOG_FORMATS
from secondary_sinks.cli.output import Stopped, one_line, printable, say
from secondary_sinks.display import count
from secondary_sinks.errors import SweepError
from secondary_sinks.sweeps import interrupts
from secondary_sinks.sweeps.sweep import Summary


def check_format(name: str) -> None:
    """Raise `SweepError` for an unknown log format."""
    if name not in LOG_FORMATS:
        raise SweepError(
            f"unknown log format {name!r}", f"expected one of {', '.join(LOG_FORMATS)}"
        )


class Watch:
    """Shows the events of a run or sweep on standard error."""

    def __init__(self, log_format: str, out: Path, *, quiet: bool = False) -> None:
        """Shows nothing before the context is entered."""
        self.json, self.out = log_format == "json", out
        self.last: dict[str, Any] = {}
        self._bar: Any = None
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[rest]}"),
            console=Console(stderr=True),
            disable=self.json or quiet or not sys.stderr.isatty(),
        )

    def __enter__(self) -> "Watch":
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def tell(self, event: str, **facts: Any) -> None:
        """Show an event; skipped and damaged parts are always shown."""
        if event == "task":
            self.last = facts
        if self.json:
            print(json.dumps({"event": event, "time": time.time()} | facts), file=sys.stderr)
        elif event in {"damaged", "failed", "note"}:
            text = facts.get("text_id")
            what = facts["what"] if "what" in facts else f"skipped text {text!r}: {facts['reason']}"
            print("warning: " + one_line(what), file=sys.stderr)
        elif event == "load":
            self._show(f"load {facts['model']}", total=None, rest="")
        elif event == "plan":
            self._say_inputs(facts)
            self._show(f"{facts['model']}", total=max(facts["missing"], 1), rest="")
        elif event == "task":
            total = facts["units"] + facts["units_missing"]
            self._show(facts["model"], completed=facts["units"], total=total, rest=rates(facts))
        elif event == "tables":
            self._show("tables", total=None, rest="")
        elif event == "stage":
            self._show(facts["stage"], completed=facts["done"], total=facts["total"], rest="")

    def how_to_go_on(self) -> str:
        """The message shown after an interrupt."""
        done, missing = self.last.get("units", 0), self.last.get("units_missing")
        progress = f" ({count(done, 'unit')} done, {missing} left)" if missing is not None else ""
        line = f"interrupted{progress}; rerun the same command to resume: {self.out} keeps the work"
        if self.json:
            return json.dumps({"event": "interrupted", "time": time.time(), "message": line})
        return printable(line)

    def _say_inputs(self, facts: dict[str, Any]) -> None:
        """Print the inputs above the bar; on a terminal only."""
        line = (
            f"{facts['model']}: {count(facts['layers'], 'layer')}, "
            f"{count(facts['texts'], 'text')}; "
            f"{facts['missing']} of {facts['units']} units are missing"
        )
        if not self._progress.disable:
            self._progress.console.print(escape(printable(line)), highlight=False)

    def _show(self, description: str, **fields: Any) -> None:
        name = escape(printable(description)[:40])
        if self._bar is None:
            self._bar = self._progress.add_task(name, **fields)
        else:
            self._progress.update(self._bar, description=name, **fields)


@contextlib.contextmanager
def going_on(watch: Watch, *, elsewhere: bool = False) -> Iterator[None]:
    """Watch work that the same command can resume; says so after an interrupt.

    With `elsewhere`, the work runs on other machines, which notice by themselves that this process
    ended, so there is no waiting for them. Raises `Stopped` with the exit code of an interrupt.
    """
    with watch, interrupts.soon(watch.how_to_go_on):
        try:
            yield
        except KeyboardInterrupt as stop:
            code = interrupts.code_of(stop)
            if elsewhere:
                interrupts.leave(code, watch.how_to_go_on())
            raise Stopped(code, watch.how_to_go_on()) from stop


def rates(facts: dict[str, Any]) -> str:
    """Cells per second, time left and number of sinks so far.

    >>> rates({"cells_per_s": 12.34, "seconds_left": 3723.0, "sinks": 5})
    '12.3 cells/s, 1:02:03 left, 5 sinks'
    """
    left = int(facts["seconds_left"])
    clock = f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d}"
    return f"{facts['cells_per_s']:.1f} cells/s, {clock} left, {count(facts['sinks'], 'sink')}"


def show_summary(summary: Summary, log_format: str) -> None:
    """Print a summary of the finished command."""
    if log_format == "json":
        print(json.dumps({"event": "summary"} | asdict(summary)))
        return
    if summary.nothing_to_do:
        say(f"{summary.folder} already holds this run (same inputs); nothing to do")
        return
    reused = summary.n_units - summary.n_computed
    say(
        f"{count(summary.n_cells, 'cell')} of {count(summary.n_sinks, 'sink')} in "
        f"{summary.seconds:.1f} s: {count(summary.n_computed, 'unit')} computed, {reused} reused"
    )
    if summary.failed:
        shown = summary.failed[0]
        say(
            f"{len(summary.failed)} skipped, such as text {shown['text_id']!r} "
            f"({shown['message']}); all are listed in run.json under 'sweep'; rerun the same "
            "command to try them again"
        )
