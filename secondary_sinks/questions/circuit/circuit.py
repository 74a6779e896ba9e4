"""`circuit`: all parts of the circuit of some sinks, and what is drawn of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from secondary_sinks.display import Displayed, count, tally
from secondary_sinks.errors import QuestionError
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.progress import Progress, part_of, shows_progress
from secondary_sinks.questions.answer import Answer
from secondary_sinks.questions.circuit.edges import by_level, edges_frame
from secondary_sinks.questions.circuit.eviction import EVICTION
from secondary_sinks.questions.circuit.function import FUNCTION
from secondary_sinks.questions.circuit.readers import READER_HEADS
from secondary_sinks.questions.circuit.trigger import TRIGGER
from secondary_sinks.questions.circuit.writer import WRITER
from secondary_sinks.types import SinkCircuit, SinkTable, Trace, Verdict, as_traces
from secondary_sinks.types.lists import refuse_twice

CIRCUIT = (TRIGGER, WRITER, READER_HEADS, FUNCTION, EVICTION)
"""The questions whose answers are parts of the circuit, in order."""
PARTS = {part.name: part for part in CIRCUIT}
WITH_EDGES = tuple(part.name for part in CIRCUIT if part is not EVICTION)
"""Those whose cells are edges; eviction drops all sinks of a text at once."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Circuit(Displayed):
    """What triggers, writes and reads some sinks, and what they are for: an answer per part."""

    answers: Mapping[str, Answer]
    """Answers by name of the question."""
    sinks: SinkTable
    n_layers: int

    @property
    def edges(self) -> pd.DataFrame:
        """The edges of all parts and sinks (`Edge`)."""
        return join_edges(self.answers)

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The verdicts of all parts, in order."""
        return tuple(verdict for answer in self.answers.values() for verdict in answer)

    def of_sink(self, text_id: str, pos: int) -> SinkCircuit:
        """The circuit of one sink. Raises `QuestionError` for a token without an edge."""
        edges = self.edges
        mine = edges[(edges["text_id"] == text_id) & (edges["pos"] == pos)]
        sinks = [s for s in self.sinks.of_text(text_id).sinks if s.pos == pos]
        if mine.empty or not sinks:
            raise QuestionError(
                f"no edge of a sink at position {pos} of text {text_id!r} was tested",
                "see .edges for those that were",
            )
        sink = sinks[0]
        return SinkCircuit(
            name=f"{sink.token!r} at {sink.pos} of {sink.text_id}",
            edges=mine,
            n_layers=self.n_layers,
            life=(sink.l_start, sink.l_end),
        )

    def to_frame(self) -> pd.DataFrame:
        """The edges."""
        return self.edges

    def _line(self) -> str:
        outcomes = tally(verdict.outcome for verdict in self.verdicts) or "no verdict"
        return f"{', '.join(self.answers)}: {outcomes}; {count(len(self.edges), 'edge')}"

    def _html(self) -> str:
        return "".join(verdict._html() for verdict in self.verdicts)

    def _drawn(self) -> tuple[Verdict, ...]:
        return self.verdicts


@shows_progress
def circuit(
    model: HookedModel,
    traces: Trace | Iterable[Trace],
    sinks: SinkTable,
    *,
    parts: Sequence[str] = tuple(PARTS),
    progress: Progress | None = None,
) -> Circuit:
    """What triggers, writes and reads the sinks, and what they are for, as edges and verdicts.

    `parts` are some of trigger, writer, reader_heads, function and eviction; each is a question
    that can be asked alone. Intervals are corrected for the claims of all parts together.
    `progress` is called with (texts done, texts), of all parts. Raises `QuestionError` for an
    unknown part and for one that is given twice.
    """
    texts = as_traces(traces)
    unknown = [name for name in parts if name not in PARTS]
    if unknown or not parts:
        what = repr(unknown[0]) if unknown else "none"
        raise QuestionError(f"parts: got {what}", f"expected some of {', '.join(PARTS)}")
    refuse_twice("parts", parts, QuestionError)
    n_claims = sum(PARTS[name].n_claims(sinks) for name in parts)
    answers = {
        name: PARTS[name].ask(
            model, texts, sinks, n_claims=n_claims, progress=part_of(progress, number, len(parts))
        )
        for number, name in enumerate(parts)
    }
    return Circuit(answers=answers, sinks=sinks, n_layers=int(model.cfg.n_layers))


def join_edges(answers: Mapping[str, Answer]) -> pd.DataFrame:
    """The edges of the answers that are parts of a circuit, in order of the parts."""
    found = [answers[name].cells for name in WITH_EDGES if name in answers]
    return pd.concat(found, ignore_index=True) if found else edges_frame([])


def circuits_of_levels(edges: pd.DataFrame, n_layers: int) -> list[SinkCircuit]:
    """The mean circuit of each kind and level of sinks that has an edge from or to a layer."""
    found = []
    for _, part in edges[edges["layer"].notna()].groupby(["kind", "level"], dropna=False):
        kind, level = str(part["kind"].iloc[0]), float(part["level"].iloc[0])
        of_level = f" of level {level:.0f}" if kind == "secondary" and level == level else ""
        name = f"{kind.replace('_', '-')} sinks{of_level}"
        found.append(SinkCircuit(name=name, edges=by_level(part), n_layers=n_layers))
    return found
