"""`Question`: a row of the table of causal questions, and the types that its functions use."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import mul
from typing import Any, NamedTuple

import pandas as pd

from secondary_sinks.questions.answer import Answer
from secondary_sinks.questions.matched_pairs import TextPairs
from secondary_sinks.types import SinkTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Number of cells that a question runs with its defaults."""

    question: str
    replayed: int
    """Cells that replay one token."""
    recomputed: int
    """Cells that recompute the rest of the text."""
    tokens: int = 0
    """Total tokens of the texts of the recomputed cells: each text counts once per cell."""

    def in_words(self) -> str:
        """The work as a short text.

        >>> Cost(question="harm", replayed=0, recomputed=1200).in_words()
        '1,200 recomputed texts'
        """
        cells = [f"{self.replayed:,} replayed tokens"] * bool(self.replayed)
        cells += [f"{self.recomputed:,} recomputed texts"] * bool(self.recomputed)
        return " and ".join(cells) or "nothing"

    def seconds(self, one_replayed: float, one_token: float) -> float:
        """Estimated time in seconds, from the seconds per replayed cell and per token of a pass.

        A recomputed text takes at most one pass, less if its edit is late in the text or model.
        """
        return self.replayed * one_replayed + self.tokens * one_token


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """What the cost of a question depends on: texts, sinks and sizes of the model."""

    texts: Sequence[TextPairs]
    sinks: SinkTable
    n_layers: int
    d_mlp: int

    @property
    def n_sinks(self) -> int:
        """Number of sinks that are tested."""
        return sum(len(text.cases) for text in self.texts)


class CellCounts(NamedTuple):
    """Number of cells that a question computes."""

    replayed: int = 0
    """Cells that replay one token."""
    recomputed: Sequence[int] = ()
    """Per text: cells that recompute the rest of the text."""


class Shown(NamedTuple):
    """What the figures of an answer need in addition to the answer."""

    sinks: pd.DataFrame
    n_layers: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drawing:
    """A figure of an answer as data; a page draws it with one of its plots."""

    name: str
    title: str
    caption: str
    plot: str
    """lines, dots or patches: `plots.interval_lines`, `interval_dots`, `patch_heatmap`."""
    frame: pd.DataFrame
    """The data of the plot."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the plot."""
    table: pd.DataFrame | None = None
    """The table that a reader can download; None: `frame`."""


def one_drawing(
    plot: str,
    name: str,
    title: str,
    caption: str,
    frame: pd.DataFrame,
    table: pd.DataFrame | None = None,
    *,
    options: Mapping[str, Any],
) -> list[Drawing]:
    """A drawing alone, as the list that a question gives."""
    words = {"plot": plot, "name": name, "title": title, "caption": caption}
    return [Drawing(**words, frame=frame, table=table, options=options)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A causal question: how it is asked, what it costs, and what its answer holds."""

    name: str
    """Name of its function, of its `--ask` option, and in the files of its answer."""
    title: str
    """Heading of its section in a report."""
    asks: str
    """The question as a sentence."""
    ask: Callable[..., Answer]
    """The function that asks it: (model, traces, sinks, *, progress, n_claims) -> `Answer`; it
    also takes `forming` if it `needs_forming`."""
    n_claims: Callable[[SinkTable], int]
    """Largest number of verdicts in its answer, for the correction of all intervals of a report."""
    cost: Callable[[Sample], CellCounts]
    """Number of cells that it computes with its defaults."""
    figures: Callable[[Answer, Shown], list[Drawing]]
    """Its figures, for an answer that has effects."""
    further_tables: tuple[str, ...] = ()
    """Names of the tables of its answer other than cells and effects."""
    recomputes: bool = False
    """Whether later tokens are recomputed (total effects)."""
    circuit: bool = False
    """Whether it is a part of the circuit (`--ask circuit`)."""
    needs_forming: bool = True
    """Whether it edits the forming MLPs, which are then searched for beforehand."""

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of all tables of its answer; file names are like `necessity.cells.parquet`."""
        return ("cells", "effects", *self.further_tables)

    def cost_of(self, sample: Sample) -> Cost:
        """Its cost with its defaults, with the tokens of the texts that it recomputes."""
        cells, lengths = self.cost(sample), [len(text.trace) for text in sample.texts]
        return Cost(
            question=self.name,
            replayed=cells.replayed,
            recomputed=sum(cells.recomputed),
            tokens=sum(map(mul, cells.recomputed, lengths)),
        )
