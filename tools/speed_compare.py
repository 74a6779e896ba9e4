"""Compare the time, memory and output of two works, and write the comparisons as a table."""

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from secondary_sinks.display import markdown_table
from secondary_sinks.errors import RunFolderError
from tools.peak_memory import peak, reset_peak


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One work, done by us and by a peer."""

    ours_s: float
    peer_s: float
    ratio: float
    ours_peak_bytes: float
    peer_peak_bytes: float
    max_relative_difference: float
    limit_s: float
    """The least time for this work, from the median of fused passes timed beside it."""
    cells: int
    """Cells of the work, or tokens of a text."""
    peer_cells: int
    """Cells that the peer was timed on; its time is scaled to all."""
    runs: int
    verdicts: int = 0
    """Number of verdicts that the work ends with."""

    @property
    def passes(self) -> float:
        """Ours in units of one cell of the peer's: how many of its passes the whole work costs."""
        return self.ours_s / (self.peer_s / self.cells)


Work = Callable[[], Any]
Differ = Callable[[Any, Any], float]
Limit = Callable[[], float]
"""Measures, when it is called, how many seconds a work takes at least."""


def unknown() -> float:
    """The limit of a work for which there is none."""
    return math.nan


def compare(
    ours: Work,
    peer: Work,
    differ: Differ,
    runs: int,
    cells: int,
    timed: int,
    limit: Limit = unknown,
    verdicts: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> Comparison:
    """Run both and the limit in turns.

    The peer's time is scaled from the cells that it is timed on to all.
    """
    limits: list[float] = []
    times: dict[str, list[float]] = {"ours": [], "peer": []}
    peaks = {"ours": 0.0, "peer": 0.0}
    outputs: dict[str, Any] = {}
    for _ in range(runs):
        for name, work in (("ours", ours), ("peer", peer)):
            outputs.pop(name, None)
            before, start = reset_peak(), clock()
            outputs[name] = work()
            times[name].append(clock() - start)
            peaks[name] = max(peaks[name], peak() - before)
        limits.append(limit())
    ours_s = statistics.median(times["ours"])
    peer_s = statistics.median(times["peer"]) * cells / timed
    return Comparison(
        ours_s=ours_s,
        peer_s=peer_s,
        ratio=peer_s / ours_s,
        ours_peak_bytes=peaks["ours"] * 2**20,
        peer_peak_bytes=peaks["peer"] * 2**20,
        max_relative_difference=differ(outputs["ours"], outputs["peer"]),
        limit_s=statistics.median(limits),
        verdicts=verdicts,
        cells=cells,
        peer_cells=timed,
        runs=runs,
    )


WORK = {
    "state_sweep": ("states of {cells} cells", "a hooked forward pass per cell"),
    "state_sweep_vs_sdpa": ("the same", "a Hugging Face pass with fused attention per cell"),
    "state_sweep_vs_decode": ("the same", "one prefill, then all cells of a token as one batch"),
    "state_sweep_with_mass_vs_decode": ("the same with the attention mass", "the same"),
    "total_effect": ("total effects of {cells} cells, with losses", "a hooked pass per cell"),
    "streaming_vs_cache": ("all measures of {cells} tokens", "`run_with_cache`"),
    "streaming_vs_sdpa": ("the same", "a fused Hugging Face pass that measures nothing"),
    "run": ("`run`: {cells} cells, {verdicts} verdicts, report", "a hooked pass per cell"),
}
"""What is done, and the plain way, as the table names them."""
MARK = "<!-- measured: speed -->\n"


def as_markdown(found: Mapping[str, Comparison]) -> str:
    """The table of a page."""
    names = "work,plain way,ours,plain,ratio,limit,ours / limit,memory: ours and plain,difference"
    rows = [_row(name, one) for name, one in found.items()]
    return "\n".join(markdown_table(names.split(","), rows)) + "\n"


def _row(name: str, one: Comparison) -> tuple[str, ...]:
    work, peer = WORK[name]
    return (
        work.format(cells=f"{one.cells:,}", verdicts=one.verdicts),
        peer,
        f"{one.ours_s:.3g} s",
        f"{one.peer_s:,.0f} s" if one.peer_s >= 100 else f"{one.peer_s:.3g} s",
        f"{one.ratio:.3g}",
        f"{one.limit_s:.3g} s",
        f"{one.ours_s / one.limit_s:.2f}",
        f"{one.ours_peak_bytes / 2**20:,.0f} and {one.peer_peak_bytes / 2**20:,.0f} MiB",
        f"{one.max_relative_difference:.0e}",
    )


def fill_page(page: str, words: str) -> str:
    """A page with what stands between its two marks replaced. Raises `RunFolderError` without."""
    if page.count(MARK) != 2:
        raise RunFolderError(
            f"expected a page with {MARK!r} before and after its table; it is there "
            f"{page.count(MARK)} times",
            "add both marks, or leave out --page",
        )
    before, _, after = page.split(MARK)
    return f"{before}{MARK}\n{words}\n{MARK}{after}"
