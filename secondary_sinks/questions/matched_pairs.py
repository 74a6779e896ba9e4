"""Who is asked: the sinks of each text that last, each with its controls."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from secondary_sinks.causal.controls import controls_of, last_judged
from secondary_sinks.causal.replay import Progress
from secondary_sinks.errors import DetectionError
from secondary_sinks.types import LASTING, Sink, SinkTable, Trace
from secondary_sinks.types.controls import similar_tokens


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MatchedPair:
    """A sink and the tokens that it is compared with."""

    sink: Sink
    control: int
    """Position of its token twin, or else of a neighbour."""
    kind: str
    """twin or neighbour."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TextPairs:
    """The cases of one text."""

    trace: Trace
    cases: tuple[MatchedPair, ...]
    left_out: dict[str, int]
    """Sinks of the text that last and are not among them, by reason."""


def match_pairs(
    traces: Trace | Iterable[Trace], sinks: SinkTable, kinds: Sequence[str] = LASTING
) -> list[TextPairs]:
    """The sinks of some texts that can be asked; the others are counted by reason.

    Asked are by default secondary sinks and primary-like ones, which may be the strongest; not the
    primary, nor what is transient. Left out are copies (the same tokens stood in an earlier text),
    sinks of which no block that reads them is there to say what attention they draw, and sinks
    without a control. Raises `DetectionError` for sinks of another criterion than the one that
    edited tokens are judged by.
    """
    others = {sink.criterion for sink in sinks.sinks} - {"joint"}
    if others:
        raise DetectionError(
            f"edited tokens are judged by the joint criterion, but the table has sinks by "
            f"{others.pop()!r}",
            "use detect(traces)",
        )
    texts = [traces] if isinstance(traces, Trace) else list(traces)
    return [_of_text(trace, sinks, kinds) for trace in texts]


def _of_text(trace: Trace, sinks: SinkTable, kinds: Sequence[str]) -> TextPairs:
    every = [s for s in sinks.of_text(trace.text_id).sinks if s.kind in kinds]
    fresh = [sink for sink in every if not sink.copy_of]
    known = [sink for sink in fresh if sink.mass_max == sink.mass_max]
    found = {control.sink_pos: control for control in controls_of(trace, sinks, known)}
    cases = [
        MatchedPair(sink=sink, control=found[sink.pos].pos, kind=found[sink.pos].kind)
        for sink in known
        if sink.pos in found
    ]
    return TextPairs(
        trace=trace,
        cases=tuple(cases),
        left_out={
            "copies of sinks in earlier texts": len(every) - len(fresh),
            "whose attention no block pays": len(fresh) - len(known),
            "without a control": len(known) - len(cases),
        },
    )


def with_progress(texts: Sequence[TextPairs], progress: Progress | None) -> Iterator[TextPairs]:
    """The texts one after the other; `progress` is called with (texts done, texts) on the way."""
    for done, text in enumerate(texts):
        if progress:
            progress(done, len(texts))
        yield text
    if progress:
        progress(len(texts), len(texts))


def censored(texts: Iterable[TextPairs]) -> int:
    """How many of the sinks that are asked are cut off, by the model's ends or the primary's."""
    return sum(case.sink.censored != "none" for text in texts for case in text.cases)


def matched_draw(
    trace: Trace,
    sinks: SinkTable,
    targets: Sequence[Sink],
    seed: int,
    fits: Callable[[int], bool] = lambda pos: True,
) -> dict[int, int]:
    """An ordinary token for each sink, of similar position and norm, drawn at random.

    None is used twice. Of all tokens there are enough: each of the `targets` has a control from
    among them. Of those that `fits` there may be fewer; then some sinks have none.
    """
    taken = {sink.pos for sink in sinks.of_text(trace.text_id).sinks}
    taken |= set(trace.reference.tolist()) | {trace.primary}
    drawn: dict[int, int] = {}
    for sink in targets:
        able = [pos for pos in range(1, last_judged(trace, sinks) + 1) if pos not in taken]
        able = [pos for pos in able if fits(pos)]
        norm = trace.norm[max(sink.l_start - 1, 0)].tolist()
        for pos in similar_tokens(norm, sink.pos, able, 1, seed):
            drawn[sink.pos] = pos
            taken.add(pos)
    return drawn
