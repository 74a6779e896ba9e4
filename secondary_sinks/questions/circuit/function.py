"""Function: is a secondary sink a no-op that takes attention, or does its value tell something?"""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd

from secondary_sinks.causal.outcome import readers
from secondary_sinks.errors import EditError
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.numbers import check_whole
from secondary_sinks.progress import Progress, shows_progress
from secondary_sinks.questions.answer import Answer
from secondary_sinks.questions.circuit.cuts import TAKEN, Cut, run_cuts
from secondary_sinks.questions.circuit.delivered import equal_keys, given_by_keys
from secondary_sinks.questions.circuit.drawings import function_figures
from secondary_sinks.questions.circuit.edges import Edge, by_level, edges_frame, of_sink
from secondary_sinks.questions.circuit.function_verdicts import SINK_COLUMNS, function_verdicts
from secondary_sinks.questions.matched_pairs import (
    TextPairs,
    count_censored,
    count_left_out,
    match_pairs,
    with_progress,
)
from secondary_sinks.questions.question import CellCounts, Question, Sample
from secondary_sinks.questions.run_claims import levels_of
from secondary_sinks.statistics import claims_together
from secondary_sinks.types import Sink, SinkTable, Trace

DRAWS = 1
BINS = ((1, 9), (9, 65), (65, 513), (513, 1 << 62))
"""Distances from the sink, in tokens: 1 to 8, 9 to 64, 65 to 512, and more."""
WORDS = {
    "attention": "without_attention",
    "value": "without_value",
    "mean_value": "with_mean_value",
}
"""What the measures of a cut are called."""
Where = tuple[int, str, int]
"""(position of the sink, whose keys are cut: sink or ordinary, number of the draw)."""
BY_DISTANCE = (
    *("text_id", "pos", "token", "kind", "level", "keys", "taken", "draw"),
    *("nearest", "farthest", "kl", "loss_rise", "n"),
)


@shows_progress
def function(
    model: HookedModel,
    traces: Trace | Iterable[Trace],
    sinks: SinkTable,
    *,
    draws: int = DRAWS,
    progress: Progress | None = None,
    n_claims: int | None = None,
) -> Answer:
    """Is a sink a no-op that takes attention, or does its value carry information to later tokens?

    Three cuts (`circuit.cuts`) of one sink at a time, for all later queries, in the blocks that
    read it: `attention`, they don't see the sink and normalise their other attention again;
    `value`, they attend as before and get nothing for it; `mean_value`, they get the mean value of
    ordinary tokens for it. What the sink itself computes stays as it is.
    `cells` are edges (`Edge`), with the same for ordinary keys as `control`:

    * `delivered`: norm of what a head writes per unit of attention, ||W_O v||, mean over heads,
      blocks and later queries, weighted with the attention paid;
    * `kl_without_attention`, `kl_without_value`, `kl_with_mean_value`: KL(clean || cut) in nats,
      mean over the positions after the sink;
    * `loss_without_attention`, ...: rise of the loss there, in nats.

    The ordinary keys are drawn at random (`draws` times) until later queries pay them as much
    attention as the sink, within a tenth. Primary sinks get the same edges, without a control.

    `effects` are their means by level. Tables: "distance", the same by distance from the sink;
    "sinks", one row per sink. Verdict per level: its sinks are no-ops, that is, they deliver less
    than ordinary keys of equal attention, and change later predictions less. The change is the
    smaller of `kl_without_value` and `kl_with_mean_value`, so that a part that all values share
    does not count. A broadcast delivers more and changes more; contradicted only if most sinks are
    that. The KL of one key is compared with that of several together, which biases it in either
    direction: values that partly cancel change less together than one by one, values that add up
    change more. Intervals are corrected for `n_claims`, by default those of this answer. Raises
    `EditError` for `draws` below 1.
    """
    check_whole(EditError, draws=draws, n_claims=n_claims)
    texts = match_pairs(traces, sinks)
    edges: list[Edge] = []
    rows: list[dict[str, Any]] = []
    distances: list[dict[str, Any]] = []
    for text in with_progress(texts, progress):
        if text.cases:
            found = _Text(model, text, sinks, draws)
            edges += found.edges()
            rows += found.rows()
            distances += found.by_distance()
    table, cells = pd.DataFrame(rows, columns=list(SINK_COLUMNS)), edges_frame(edges)
    left_out = count_left_out(texts)
    return Answer(
        question="function",
        cells=cells,
        effects=by_level(cells),
        verdicts=function_verdicts(table, left_out, claims_together(n_claims, levels_of(sinks))),
        tables={"distance": pd.DataFrame(distances, columns=list(BY_DISTANCE)), "sinks": table},
        left_out=left_out,
        n_censored=count_censored(texts),
    )


class _Text:
    """The cuts of one text: at each sink, at ordinary keys of equal attention, at the primary."""

    def __init__(self, model: HookedModel, text: TextPairs, sinks: SinkTable, draws: int) -> None:
        trace, self.draws = text.trace, draws
        self.n_pos = len(trace)
        self.tested = [case.sink for case in text.cases]
        self.sinks = [*self.tested, *_primaries(trace, sinks)]
        blocks = {sink.pos: readers(sink.layers, len(trace.mass)) for sink in self.sinks}
        self.given = given_by_keys(model, trace, blocks)
        self.keys: dict[Where, tuple[int, ...]] = {
            (sink.pos, "sink", 0): (sink.pos,) for sink in self.sinks
        }
        for pos in (sink.pos for sink in self.tested):
            for seed in range(draws):
                drawn = equal_keys(trace, sinks, self.given[pos], pos, seed)
                self.keys |= {(pos, "ordinary", seed): drawn} if drawn else {}
        self.cuts = {
            (where, taken): Cut(
                keys=keys, layers=tuple(blocks[where[0]]), taken=taken, first=where[0] + 1
            )
            for where, keys in self.keys.items()
            for taken in TAKEN
        }
        self.losses = run_cuts(model, trace, list(self.cuts.values()))

    def edges(self) -> Iterator[Edge]:
        """One edge per sink and measure."""
        for sink in self.sinks:
            control = self._control(sink)
            for name, effect in self._measures((sink.pos, "sink", 0)).items():
                yield Edge(
                    **of_sink(sink),
                    part="function",
                    measure=name,
                    site="pattern" if name.endswith("without_attention") else "v",
                    layer=math.nan,
                    effect=effect,
                    control=control[name],
                    unit="length per attention" if name == "delivered" else "nats",
                )

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row per tested sink."""
        for sink in self.tested:
            attention = float(self.given[sink.pos].attention[sink.pos])
            sizes = [len(keys) for (pos, role, _), keys in self.keys.items()
                     if (pos, role) == (sink.pos, "ordinary")]  # fmt: skip
            yield {
                **of_sink(sink),
                "attention": attention,
                "n_keys": sum(sizes) / len(sizes) if sizes else math.nan,
                **self._measures((sink.pos, "sink", 0)),
                **{f"{name}_control": value for name, value in self._control(sink).items()},
            }

    def by_distance(self) -> Iterator[dict[str, Any]]:
        """One row per sink, cut and range of distances that the text has."""
        by_pos = {sink.pos: sink for sink in self.sinks}
        for where, taken in self.cuts:
            pos, role, draw = where
            for since, until in BINS:
                kl, rise, n = self._after(where, taken, since, until)
                if n:
                    yield {
                        **of_sink(by_pos[pos]),
                        "keys": role,
                        "taken": taken,
                        "draw": draw,
                        "nearest": since,
                        "farthest": since + n - 1,
                        "kl": kl,
                        "loss_rise": rise,
                        "n": n,
                    }

    def _measures(self, where: Where) -> dict[str, float]:
        """All measures of a sink, or of ordinary keys; NaN where nothing was cut."""
        keys = self.keys.get(where)
        found = {"delivered": self.given[where[0]].per_attention(keys) if keys else math.nan}
        for taken, words in WORDS.items():
            kl, rise, _ = self._after(where, taken, 1, self.n_pos)
            found |= {f"kl_{words}": kl, f"loss_{words}": rise}
        return found

    def _control(self, sink: Sink) -> dict[str, float]:
        """Mean over the draws that gave ordinary keys of equal attention; NaN without any."""
        drawn = [self._measures((sink.pos, "ordinary", seed)) for seed in range(self.draws)]
        return {str(name): float(value) for name, value in pd.DataFrame(drawn).mean().items()}

    def _after(self, where: Where, taken: str, since: int, until: int) -> tuple[float, float, int]:
        """Mean KL and mean rise of the loss at some distances from a sink, and their number."""
        cut = (where, taken)
        part = slice(where[0] + since, min(where[0] + until, self.n_pos - 1))
        n = max(0, part.stop - part.start)
        if cut not in self.cuts or not n:
            return math.nan, math.nan, n
        number = list(self.cuts).index(cut)
        kl, loss = (one[number, part].double() for one in (self.losses.kl, self.losses.loss))
        return float(kl.mean()), float((loss - self.losses.clean[part]).mean()), n


def _primaries(trace: Trace, sinks: SinkTable) -> Iterator[Sink]:
    """The primary sinks that a block and later tokens read."""
    for sink in sinks.of_text(trace.text_id).of_kind("primary").sinks:
        if readers(sink.layers, len(trace.mass)) and sink.pos + 2 < len(trace):
            yield sink


def cells_of(sample: Sample) -> CellCounts:
    """Cost: each cut and two clean passes; less where no ordinary keys have equal attention."""
    return CellCounts(recomputed=[_n_cells(text, sample.sinks) for text in sample.texts])


def _n_cells(text: TextPairs, sinks: SinkTable) -> int:
    of_each = len(TAKEN) * (1 + DRAWS)
    n_primaries = len(list(_primaries(text.trace, sinks)))
    return len(text.cases) * of_each + n_primaries * len(TAKEN) + 2 if text.cases else 0


FUNCTION = Question(
    name="function",
    title="No-op or broadcast",
    asks="Do the values of secondary sinks tell later tokens something, or nothing?",
    ask=function,
    n_claims=levels_of,
    cost=cells_of,
    figures=function_figures,
    further_tables=("distance", "sinks"),
    recomputes=True,
    circuit=True,
    needs_forming=False,
)
