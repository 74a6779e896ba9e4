"""Sparsity: how few neurons of the forming MLPs carry a sink?"""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from secondary_sinks.attribution import formation
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.progress import Progress, shows_progress
from secondary_sinks.questions import figures
from secondary_sinks.questions.answer import Answer, combine_outcomes, judge, sum_counts
from secondary_sinks.questions.forming import Forming, Place, by_place
from secondary_sinks.questions.held_out import held_out
from secondary_sinks.questions.lost_by_layer import by_way
from secondary_sinks.questions.matched_pairs import (
    MatchedPair,
    TextPairs,
    count_censored,
    match_pairs,
    with_progress,
)
from secondary_sinks.questions.necessity import is_there
from secondary_sinks.questions.question import Cells, Question, Sample
from secondary_sinks.questions.trials import (
    Trial,
    frame_of,
    lives,
    paired_rates,
    rate_difference,
    run_trials,
    summary,
)
from secondary_sinks.statistics import outcome_of
from secondary_sinks.types import Cell, Edit, SinkTable, Trace, Verdict

N_CLAIMS = 2
SEEDS = 3
FEW = 0.01
"""Few neurons: at most this share of the neurons of the forming MLPs, but at least one."""
WAYS = ("zero", "mean:twins")
"""The second one, the mean over the same token elsewhere, only at the k of the verdicts."""
WORDS = ("test", "edit", "neurons", "k", "n_neurons", "few", "seed")
NEEDED = "a sink ends without the few neurons that write most of it"
ENOUGH = "a sink stays with only the few neurons that write most of it"
NO_NEURONS = "whose MLPs are mixtures of experts, without neurons of their own"
CONDITIONS = {"without": "without", "only": "with only"}

Neuron = tuple[int, int]
"""(layer, index) of a neuron."""


@shows_progress
def sparsity(
    model: HookedModel,
    traces: Trace | Iterable[Trace],
    sinks: SinkTable,
    *,
    few: float = FEW,
    seeds: int = SEEDS,
    forming: Iterable[Forming] | None = None,
    progress: Progress | None = None,
    n_claims: int | None = None,
) -> Answer:
    """Ablate the k neurons that write most of a sink, or all others, for k = 1, 2, 4, ...

    The neurons of the sink's forming MLPs are sorted by what they write along the primary's
    direction (signed, minus the typical token, at the creation layer: `formation`). Column `test`:
    "without" ablates the first k of them, "only" ablates all the others. Column `neurons`: "top"
    are the first k; "random" are k random neurons of the same MLPs, drawn `seeds` times; "control"
    are the top ones ablated at the sink's control token. Column `few` marks the k that is the share
    `few` of all neurons, at least one. Column `edit`: neurons are zeroed ("zero"), and at that k
    also set to their mean at the same token elsewhere ("mean:twins"), if it occurs elsewhere.

    Verdicts at that k, compared with one half, by both edits: share of sinks that end without the
    top neurons (no sink any more, nor half of its attention), but not without random ones; share
    that stay sinks with the top neurons only, and end with random ones only. A verdict on which the
    two edits disagree is inconclusive. `n_claims`: number of claims that intervals are corrected
    for (`n_claims_of`); by default those of this answer. Table "smallest": the smallest k by sink.
    Sinks that no MLP forms are included: they count as failures. Sinks whose MLP has no neurons of
    its own (mixtures of experts) are left out and counted.
    """
    n_claims = n_claims or N_CLAIMS
    texts = match_pairs(traces, sinks)
    formed_by = by_place(model, texts, sinks, forming)
    tested_with = held_out(texts, formed_by)
    left_out = sum_counts(*(text.left_out for text in texts)) | {NO_NEURONS: 0}
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
        verdicts=(
            _verdict(cells, "without", left_out, n_claims),
            _verdict(cells, "only", left_out, n_claims),
        ),
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
    least = least_of(n, few)
    for k in sizes_of(n, few):
        for edit in WAYS if k == least else WAYS[:1]:
            words = {"edit": edit, "k": k, "n_neurons": n, "few": k == least, "seed": None}
            if is_there(edit, trace, sink.pos):
                trial = Trial(sink=sink, pos=sink.pos, cell=(), words=words)
                yield from _ablated(trial, ordered, k, seeds)
            if is_there(edit, trace, case.control):
                trial = Trial(sink=sink, pos=case.control, cell=(), words=words)
                yield _ablating(trial, "without", "control", ordered[:k])


def least_of(n: int, few: float = FEW) -> int:
    """The number of units that verdicts are about: the share `few` of all, at least one."""
    return max(1, int(few * n))


def sizes_of(n: int, few: float = FEW) -> list[int]:
    """The numbers of units that are tried: powers of two, and `least_of` all.

    >>> sizes_of(8)
    [1, 2, 4]
    """
    return sorted({least_of(n, few), *(1 << p for p in range(n.bit_length()) if 1 << p < n)})


def _ablated(trial: Trial, ordered: Sequence[Neuron], k: int, seeds: int) -> Iterator[Trial]:
    """The top k neurons ablated and all others, and as many random ones."""
    sink = trial.sink
    yield _ablating(trial, "without", "top", ordered[:k])
    yield _ablating(trial, "only", "top", ordered[k:])
    for seed in range(seeds):
        drawn = random.Random(f"{seed} {sink.text_id} {sink.pos} {k}").sample(list(ordered), k)
        rest = sorted(set(ordered) - set(drawn))
        again = replace(trial, words=trial.words | {"seed": seed})
        yield _ablating(again, "without", "random", drawn)
        yield _ablating(again, "only", "random", rest)


def _ablating(trial: Trial, test: str, neurons: str, ablated: Iterable[Neuron]) -> Trial:
    by_layer: dict[int, list[int]] = {}
    for layer, index in ablated:
        by_layer.setdefault(layer, []).append(index)
    edit, pos = trial.words["edit"], trial.pos
    cell: Cell = tuple(
        Edit.of_label(edit, pos=pos, layer=layer, site="post", units=tuple(units))
        for layer, units in by_layer.items()
    )
    return replace(trial, cell=cell, words=trial.words | {"test": test, "neurons": neurons})


def _verdict(cells: pd.DataFrame, test: str, left_out: Mapping[str, int], n_claims: int) -> Verdict:
    claim, alive = (ENOUGH, True) if test == "only" else (NEEDED, False)
    part = cells[(cells["test"] == test) & cells["few"].astype(bool)]
    found = {
        way: rate_difference(one, "neurons", "top", "random", alive=alive, n_claims=n_claims)
        for way, one in by_way(part).items()
    }
    outcome, agreement = combine_outcomes({way: outcome_of(one) for way, one in found.items()})
    verb = "stay" if alive else "end"

    def why() -> str:
        top, other = paired_rates(part, "neurons", "top", "random", alive=alive).mean()
        return (
            f"{CONDITIONS[test]} the {_span(part['k'])} of {_span(part['n_neurons'])} neurons that "
            f"write most along the primary's direction, {top:.0%} of the sinks {verb}; with random "
            f"neurons instead, {other:.0%}{' do, or draw half of their attention' * alive}; "
            f"{agreement}; zeroed, {_half(cells, test)}"
        )

    return judge(
        claim,
        min(found.values(), key=lambda one: one.value, default=None),
        why,
        statistic=f"share of sinks that {verb}, but not with random neurons instead",
        controls="the same number of random neurons of the same MLPs",
        left_out=left_out,
        n_claims=n_claims,
        outcome=outcome,
    )


def _span(numbers: "pd.Series[Any]") -> str:
    low, high = int(numbers.min()), int(numbers.max())
    return f"{low}" if low == high else f"{low} to {high}"


def _half(cells: pd.DataFrame, test: str) -> str:
    """The smallest k at which most sinks end (test "without"), or stay (test "only"), as text."""
    zeroed = cells[cells["edit"] == "zero"]
    top = zeroed[(zeroed["test"] == test) & (zeroed["neurons"] == "top")]
    stays = top["is_sink"].astype(float) if test == "only" else lives(top)
    stay = stays.groupby(top["k"]).mean()
    most = stay.index[stay > 0.5] if test == "only" else stay.index[stay < 0.5]
    verb = "stay" if test == "only" else "end"
    smallest = f"from k = {most[0]} on" if len(most) else "at no k that was tried"
    return f"most sinks {verb} {smallest}"


def _smallest(cells: pd.DataFrame) -> pd.DataFrame:
    """`smallest_sizes` by zeroing, and the number of neurons of the sink's MLPs."""
    top = cells[(cells["neurons"] == "top") & (cells["edit"] == "zero")]
    found = smallest_sizes(top).sort_values(["text_id", "pos"], ignore_index=True)
    n_neurons = top.groupby(["text_id", "sink_pos"])["n_neurons"].first()
    found.insert(2, "n_neurons", n_neurons.tolist())
    return found


def smallest_sizes(top: pd.DataFrame) -> pd.DataFrame:
    """Per sink: the smallest k without which it ends, and with which alone it stays.

    NaN where no k that was tried does.
    """
    needed = top["k"].where((top["test"] == "without") & (lives(top) == 0))
    enough = top["k"].where((top["test"] == "only") & top["is_sink"].astype(bool))
    by_sink = top.assign(needed=needed, enough=enough).groupby(["text_id", "sink_pos"], sort=False)
    found = by_sink[["needed", "enough"]].min().astype(float)
    return found.rename_axis(["text_id", "pos"]).reset_index()


def cells_of(sample: Sample) -> Cells:
    """Cost for sinks with one forming MLP; with more MLPs, and so more neurons, slightly more.

    Every size is zeroed; that of the verdicts is replaced by twins too, where there are some.
    """
    sizes, at_sink, with_twins = len(sizes_of(sample.d_mlp)), 2 + 2 * SEEDS, 0
    for text in sample.texts:
        for case in text.cases:
            with_twins += at_sink * is_there("mean:twins", text.trace, case.sink.pos)
            with_twins += is_there("mean:twins", text.trace, case.control)
    return Cells(replayed=sample.n_sinks * sizes * (at_sink + 1) + with_twins)


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
