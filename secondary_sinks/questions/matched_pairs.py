"""Which sinks are tested: the lasting sinks of each text, each matched with a control token."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from secondary_sinks.causal.controls import controls_of, ordinary_positions
from secondary_sinks.detection import shared_lengths
from secondary_sinks.errors import DetectionError
from secondary_sinks.progress import Progress
from secondary_sinks.questions.answer import sum_counts
from secondary_sinks.types import LASTING, Sink, SinkTable, Trace, as_traces
from secondary_sinks.types.controls import similar_tokens
from secondary_sinks.types.own_sinks import check_is_sinks

Text = TypeVar("Text")
Place = tuple[str, int]
"""Text and position of a sink."""
COPIES = "copies of sinks in earlier texts"
UNREAD = "present only at the last layer, which no later attention reads"
"""Reasons to leave out sinks."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MatchedPair:
    """A sink and the control token that it is compared with."""

    sink: Sink
    control: int
    """Position of its token twin, or else of a neighbour."""
    kind: str
    """twin or neighbour."""

    @property
    def place(self) -> Place:
        """Text and position of the sink."""
        return self.sink.text_id, self.sink.pos


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TextPairs:
    """The matched pairs of one text."""

    trace: Trace
    begin: int
    """Length in tokens of the longest beginning that an earlier text shares."""
    cases: tuple[MatchedPair, ...]
    left_out: dict[str, int]
    """Number of lasting sinks of the text without a pair, by reason."""

    def tested_of(self, sinks: SinkTable) -> SinkTable:
        """The tested sinks of the text, as a table."""
        own = {case.sink.pos for case in self.cases}
        tested = tuple(s for s in sinks.of_text(self.trace.text_id).sinks if s.pos in own)
        return SinkTable(sinks=tested, thresholds=sinks.thresholds)


def match_pairs(
    traces: Trace | Iterable[Trace], sinks: SinkTable, kinds: Sequence[str] = LASTING
) -> list[TextPairs]:
    """The sinks of some texts that can be tested, with controls; the others are counted by reason.

    By default these are the secondary and primary-like sinks; a primary-like one may be the
    strongest of a text. Left out are the primary, transient sinks, copies (an earlier text has the
    same tokens), sinks present only at the last layer, which no later attention reads, and sinks
    without a control. A token in a beginning that an earlier text has too is no control: in both
    texts it is one observation. Raises `DetectionError` for sinks not found by the joint criterion,
    by which edited tokens are judged.
    """
    check_is_sinks(sinks)
    others = {sink.criterion for sink in sinks.sinks} - {"joint"}
    if others:
        raise DetectionError(
            "edited tokens are judged by the joint criterion, but the table has sinks found by "
            f"{others.pop()!r}",
            "use detect(traces)",
        )
    texts = as_traces(traces)
    begins = shared_lengths([trace.tokens for trace in texts])
    return [_of_text(*text, sinks, kinds) for text in zip(texts, begins, strict=True)]


def lasting_of(text_id: str, sinks: SinkTable) -> list[Sink]:
    """The secondary and primary-like sinks of a text that a later block reads, copies included."""
    own = [sink for sink in sinks.of_text(text_id).sinks if sink.kind in LASTING]
    return [sink for sink in own if sink.mass_max == sink.mass_max]


def testable(sinks: Iterable[Sink]) -> tuple[list[Sink], dict[str, int]]:
    """The sinks that are no copies and that a later block reads; how many are not, by reason."""
    every = list(sinks)
    fresh = [sink for sink in every if not sink.copy_of]
    known = [sink for sink in fresh if sink.mass_max == sink.mass_max]
    return known, {COPIES: len(every) - len(fresh), UNREAD: len(fresh) - len(known)}


def _of_text(trace: Trace, begin: int, sinks: SinkTable, kinds: Sequence[str]) -> TextPairs:
    known, left_out = testable(s for s in sinks.of_text(trace.text_id).sinks if s.kind in kinds)
    found = {control.sink_pos: control for control in controls_of(trace, sinks, known, begin=begin)}
    cases = [
        MatchedPair(sink=sink, control=found[sink.pos].pos, kind=found[sink.pos].kind)
        for sink in known
        if sink.pos in found
    ]
    return TextPairs(
        trace=trace,
        begin=begin,
        cases=tuple(cases),
        left_out=left_out | {"without a control": len(known) - len(cases)},
    )


def with_progress(texts: Sequence[Text], progress: Progress | None) -> Iterator[Text]:
    """Iterate over texts; `progress` is called with (texts done, texts) on the way."""
    for done, text in enumerate(texts):
        if progress:
            progress(done, len(texts))
        yield text
    if progress:
        progress(len(texts), len(texts))


def count_left_out(texts: Iterable[TextPairs]) -> dict[str, int]:
    """Number of lasting sinks without a pair, by reason."""
    return sum_counts(*(text.left_out for text in texts))


def count_censored(texts: Iterable[TextPairs]) -> int:
    """Number of tested sinks whose start or end is hidden (`Sink.censored`)."""
    return sum(case.sink.censored != "none" for text in texts for case in text.cases)


def matched_draw(
    trace: Trace,
    sinks: SinkTable,
    targets: Sequence[Sink],
    seed: int,
    fits: Callable[[int], bool] = lambda pos: True,
) -> dict[int, int]:
    """For each sink, a random ordinary token of similar position and norm: sink -> token position.

    No token is used twice. Every one of the `targets` gets a token, unless `fits` rules out too
    many; then some sinks are missing in the result.
    """
    free = ordinary_positions(trace, sinks)
    drawn: dict[int, int] = {}
    for sink in targets:
        able = [pos for pos in free if fits(pos)]
        norm = trace.norm[max(sink.l_start - 1, 0)].tolist()
        for pos in similar_tokens(norm, sink.pos, able, 1, seed):
            drawn[sink.pos] = pos
            free.remove(pos)
    return drawn
