"""Sparsity: how few neurons of the forming MLPs carry a sink?"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from secondary_sinks.attribution import formation
from secondary_sinks.errors import EditError
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.numbers import check_whole
from secondary_sinks.progress import Progress, shows_progress
from secondary_sinks.questions import few_units, figures
from secondary_sinks.questions.answer import Answer, judge_ways
from secondary_sinks.questions.forming import Forming, by_place
from secondary_sinks.questions.held_out import held_out
from secondary_sinks.questions.lost_by_layer import by_way
from secondary_sinks.questions.matched_pairs import (
    MatchedPair,
    Place,
    TextPairs,
    count_censored,
    count_left_out,
    match_pairs,
    with_progress,
)
from secondary_sinks.questions.necessity import is_there
from secondary_sinks.questions.question import CellCounts, Question, Sample
from secondary_sinks.questions.trials import (
    Trial,
    frame_of,
    run_trials,
    summary,
    survives,
)
from secondary_sinks.statistics import claims_together
from secondary_sinks.types import Cell, Edit, Sink, SinkTable, Trace, Verdict

N_CLAIMS = 2
WAYS = ("zero", "mean:twins")
"""The second one, the mean over the same token elsewhere, only at the k of the verdicts."""
WORDS = ("test", "edit", "neurons", "k", "n_neurons", "few", "seed")
NEEDED = "a sink ends without the few neurons that write most of it"
ENOUGH = "a sink stays with only the few neurons that write most of it"
NO_NEURONS = "whose MLPs are mixtures of experts, without neurons of their own"
CLAIMS = {"without": NEEDED, "only": ENOUGH}

Neuron = tuple[int, int]
"""(layer, index) of a neuron."""


@shows_progress
def sparsity(
    model: HookedModel,
    traces: Trace | Iterable[Trace],
    sinks: SinkTable,
    *,
    few: float = few_units.FEW,
    seeds: int = few_units.SEEDS,
    forming: Iterable[Forming] | None = None,
    progress: Progress | None = None,
    n_claims: int | None = None,
) -> Answer:
    """How many neurons of its forming MLPs does a sink need?

    The k neurons that write most of it are ablated, or all others, for k = 1, 2, 4, ...
    The neurons of the sink's forming MLPs are sorted by what they write along the primary's
    direction (signed, minus the typical token, at the creation layer: `formation`). Column `test`:
    "without" ablates the first k of them, "only" ablates all the others. Column `neurons`: "top"
    are the first k; "random" are k random neurons of the same MLPs, drawn `seeds` times; "control"
    are the top ones ablated at the sink's control token. Column `few` marks the k that is the share
    `few` of all neurons, at least one. Column `edit`: neurons are zeroed ("zero"), and at that k
    also set to their mean at the same token elsewhere ("mean:twins"), if it occurs elsewhere.

    Verdicts at that k, compared with one half, by both edits: share of sinks that end without the
    top neurons (no sink any more, nor half of its attention), but not without random ones; and
    share that stay sinks with only the top neurons, but not with only random ones. A verdict on
    which the two edits disagree is inconclusive. Intervals are corrected for `n_claims`, by default
    those of this answer. Table "smallest": the smallest k by sink. Sinks that no MLP forms are
    included: they count as failures. Sinks whose MLP has no neurons of its own (mixtures of
    experts) are left out and counted.
    """
    check_whole(EditError, seeds=seeds, n_claims=n_claims)
    n_claims = claims_together(n_claims, N_CLAIMS)
    texts = match_pairs(traces, sinks)
    formed_by = by_place(model, texts, sinks, forming)
    tested_with = held_out(texts, formed_by)
    left_out = count_left_out(texts) | {NO_NEURONS: 0}
    rows: list[dict[str, Any]] = []
    for text in with_progress(texts, progress):
        ordered = _neurons(model, text, sinks, tested_with)
        left_out[NO_NEURONS] += len(text.cases) - len(ordered)
        trials = [
            trial
            for case in text.cases
            if case.sink.pos in ordered
            for trial in _trials(case, text.trace, ordered[case.sink.pos], few, seeds)
        ]
        rows += run_trials(model, text.trace, sinks.thresholds, trials)
    cells = frame_of(rows, *WORDS)
    return Answer(
        question="sparsity",
        cells=cells,
        effects=summary(cells, "test", "edit", "neurons", "k"),
        verdicts=tuple(_verdict(cells, test, left_out, n_claims) for test in CLAIMS),
        tables={"smallest": _smallest(cells)},
        left_out=left_out,
        n_censored=count_censored(texts),
    )


def _neurons(
    model: HookedModel, text: TextPairs, sinks: SinkTable, found: Mapping[Place, Forming]
) -> dict[int, list[Neuron]]:
    """Neurons of each sink's forming MLPs; first those that write most along the primary."""
    tested = text.tested_of(sinks)
    written = formation(model, text.trace, tested, top_neurons=model.cfg.d_mlp)
    ordered = {}
    for number, event in enumerate(written.events):
        if event.event != "creation":
            continue
        layers = list(found[event.text_id, event.pos].layers)
        if not bool(written.neurons[number, layers].isfinite().all()):
            continue
        pairs = [
            (float(amount), layer, int(index))
            for layer in layers
            for index, amount in zip(
                written.neurons[number, layer], written.neuron[number, layer], strict=True
            )
        ]
        ordered[event.pos] = [(layer, index) for _, layer, index in sorted(pairs, reverse=True)]
    return ordered


def _trials(
    case: MatchedPair, trace: Trace, ordered: Sequence[Neuron], few: float, seeds: int
) -> Iterator[Trial]:
    n, sink = len(ordered), case.sink
    least = few_units.least_of(n, few)
    for k in few_units.sizes_of(n, few):
        for edit in WAYS if k == least else WAYS[:1]:
            words = {"edit": edit, "k": k, "n_neurons": n, "few": k == least, "seed": None}
            if is_there(edit, trace, sink.pos):
                for more, neurons in few_units.edited_units(sink, ordered, k, "neurons", seeds):
                    yield _ablating(sink, sink.pos, neurons, words | more)
            if is_there(edit, trace, case.control):
                at_control = {"test": "without", "neurons": "control"}
                yield _ablating(sink, case.control, ordered[:k], words | at_control)


def _ablating(sink: Sink, pos: int, neurons: Iterable[Neuron], words: dict[str, Any]) -> Trial:
    by_layer: defaultdict[int, list[int]] = defaultdict(list)
    for layer, index in neurons:
        by_layer[layer].append(index)
    cell: Cell = tuple(
        Edit.of_label(words["edit"], pos=pos, layer=layer, site="post", units=tuple(units))
        for layer, units in by_layer.items()
    )
    return Trial(sink=sink, pos=pos, cell=cell, words=words)


def _verdict(cells: pd.DataFrame, test: str, left_out: Mapping[str, int], n_claims: int) -> Verdict:
    part = few_units.judged(cells, test)
    found = {
        way: few_units.share_of(one, test, "neurons", n_claims) for way, one in by_way(part).items()
    }

    def why(agreement: str) -> str:
        which = (
            f"{_span(part['k'])} of {_span(part['n_neurons'])} neurons that write most along the "
            "primary's direction"
        )
        words = few_units.in_words(part, test, "neurons", which)
        return f"{words}; {agreement}; zeroed, {_half(cells, test)}"

    return judge_ways(
        CLAIMS[test],
        found,
        why,
        lowest=True,
        statistic=few_units.statistic_of(test, "neurons"),
        controls="the same number of random neurons of the same MLPs",
        left_out=left_out,
        n_claims=n_claims,
    )


def _span(numbers: "pd.Series[Any]") -> str:
    low, high = int(numbers.min()), int(numbers.max())
    return f"{low}" if low == high else f"{low} to {high}"


def _half(cells: pd.DataFrame, test: str) -> str:
    """The smallest k at which most sinks end (test "without"), or stay (test "only"), as text."""
    zeroed = cells[cells["edit"] == "zero"]
    top = zeroed[(zeroed["test"] == test) & (zeroed["neurons"] == "top")]
    stays = top["is_sink"].astype(float) if test == "only" else survives(top)
    stay = stays.groupby(top["k"]).mean()
    most = stay.index[stay > 0.5] if test == "only" else stay.index[stay < 0.5]
    smallest = f"from k = {most[0]} on" if len(most) else "at no k that was tried"
    return f"most sinks {few_units.VERBS[test]} {smallest}"


def _smallest(cells: pd.DataFrame) -> pd.DataFrame:
    """`smallest_sizes` by zeroing, and the number of neurons of the sink's MLPs."""
    top = cells[(cells["neurons"] == "top") & (cells["edit"] == "zero")]
    found = few_units.smallest_sizes(top).sort_values(["text_id", "pos"], ignore_index=True)
    n_neurons = top.groupby(["text_id", "sink_pos"])["n_neurons"].first()
    found.insert(2, "n_neurons", n_neurons.tolist())
    return found


def cells_of(sample: Sample) -> CellCounts:
    """Cost for sinks with one forming MLP; with more MLPs, and so more neurons, slightly more.

    Every size is zeroed; that of the verdicts is replaced by twins too, where there are some.
    """
    sizes, at_sink, with_twins = len(few_units.sizes_of(sample.d_mlp)), 2 + 2 * few_units.SEEDS, 0
    for text in sample.texts:
        for case in text.cases:
            with_twins += at_sink * is_there("mean:twins", text.trace, case.sink.pos)
            with_twins += is_there("mean:twins", text.trace, case.control)
    return CellCounts(replayed=sample.n_sinks * sizes * (at_sink + 1) + with_twins)


SPARSITY = Question(
    name="sparsity",
    title="Number of neurons",
    asks="How many neurons of the forming MLPs does a sink need?",
    ask=sparsity,
    n_claims=lambda sinks: N_CLAIMS,
    cost=cells_of,
    figures=figures.sparsity,
    further_tables=("smallest",),
)
