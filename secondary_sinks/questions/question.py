"""`Question`: a row of the table of causal questions, and what its functions take and give."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pandas as pd

from secondary_sinks.questions.answer import Answer
from secondary_sinks.questions.matched_pairs import TextPairs
from secondary_sinks.types import SinkTable


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """Whom a question is asked about: what its cost depends on."""

    texts: Sequence[TextPairs]
    sinks: SinkTable
    n_layers: int
    d_mlp: int

    @property
    def n_sinks(self) -> int:
        """Secondary sinks that are asked about."""
        return sum(len(text.cases) for text in self.texts)


class Cells(NamedTuple):
    """How many cells a question computes."""

    replayed: int = 0
    """Cells in which one token is computed anew."""
    recomputed: Sequence[int] = ()
    """By text: cells in which the rest of the text is computed anew."""


class Shown(NamedTuple):
    """What figures of an answer need besides it."""

    sinks: pd.DataFrame
    n_layers: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drawing:
    """A figure of an answer as data: a page draws it with one of its plots."""

    name: str
    title: str
    caption: str
    plot: str
    """lines, dots or patches: `plots.interval_lines`, `interval_dots`, `patch_heatmap`."""
    frame: pd.DataFrame
    """What is drawn."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the plot."""
    table: pd.DataFrame | None = None
    """What a reader can download; None: what is drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A causal question: how it is asked, what it costs, and what its answer holds."""

    name: str
    """That of its function, of `--ask`, and of the files of its answer."""
    title: str
    """Heading of its section in a report."""
    asks: str
    """The question as a sentence."""
    ask: Callable[..., Answer]
    """(model, traces, sinks, *, forming, progress, n_claims) -> `Answer`."""
    n_claims: Callable[[SinkTable], int]
    """Verdicts that its answer makes at most: what the error rate of a report is divided by."""
    cost: Callable[[Sample], Cells]
    """The cells that it computes, with its defaults."""
    figures: Callable[[Answer, Shown], list[Drawing]]
    """Its figures; none where there is nothing to show."""
    further_tables: tuple[str, ...] = ()
    """Tables of its answer besides cells and effects."""
    recomputes: bool = False
    """Whether later tokens are computed anew, so that they may adapt."""

    @property
    def tables(self) -> tuple[str, ...]:
        """All tables of its answer; in files as `necessity.cells.parquet`."""
        return ("cells", "effects", *self.further_tables)
