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
from secondary_sinks.questions.answer import Answer, Words, format_exclusions, verdict_of
from secondary_sinks.questions.forming import Forming, Place, by_place, formed_only
from secondary_sinks.questions.held_out import held_out
from secondary_sinks.questions.matched_pairs import (
    MatchedPair,
    TextPairs,
    count_censored,
    match_pairs,
    with_progress,
)
from secondary_sinks.questions.question import Cells, Question, Sample
from secondary_sinks.questions.trials import Trial, frame_of, rate_difference, run_trials, summary
from secondary_sinks.statistics import outcome_of, too_few
from secondary_sinks.types import SHARE_UNIT, Cell, Edit, SinkTable, Trace, Verdict

N_CLAIMS = 2
SEEDS = 3
FEW = 0.01
"""Few neurons: at most this share of the neurons of the forming MLPs, but at least one."""
WORDS = ("test", "neurons", "k", "n_neurons", "few", "seed")
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
    """Zero the k neurons that write most of a sink, or all others, for k = 1, 2, 4, ...

    The neurons of the sink's forming MLPs are sorted by what they write along the primary's
    direction (signed, minus the typical token, at the creation layer: `formation`). Column `test`:
    "without" zeroes the first k of them, "only" zeroes all the others. Column `neurons`: "top" are
    the first k; "random" are k random neurons of the same MLPs, drawn `seeds` times; "control" are
    the top ones zeroed at the sink's control token. Column `few` marks the k that is the share
    `few` of all neurons, at least one.

    Verdicts at that k, compared with one half: share of sinks that end without the top neurons, and
    do not without random ones; share that stay with the top neurons only, and do not with random
    ones only. `n_claims`: number of claims that intervals are corrected for (`n_claims_of`); by
    default those of this answer. Table "smallest": the smallest k by sink. Sinks whose MLP has no
    neurons of its own (mixtures of experts) are left out and counted.
    """
    n_claims = n_claims or N_CLAIMS
    texts = match_pairs(traces, sinks)
    formed_by = by_place(model, texts, sinks, forming)
    tested_with = held_out(texts, formed_by)
    texts, left_out = formed_only(texts, formed_by)
    rows: list[dict[str, Any]] = []
    left_out[NO_NEURONS] = 0
    for text in with_progress(texts, progress):
        ordered = _neurons(model, text, sinks, tested_with)
        left_out[NO_NEURONS] += len(text.cases) - len(ordered)
        trials = [
            trial
            for case in text.cases
            if case.sink.pos in ordered
            for trial in _trials(case, ordered[case.sink.pos], few, seeds)
        ]
        rows += run_trials(model, text.trace, sinks.thresholds, trials)
    cells = frame_of(rows, *WORDS)
    return Answer(
        question="sparsity",
        cells=cells,
        effects=summary(cells, "test", "neurons", "k"),
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
    own = {case.sink.pos for case in text.cases}
    table = SinkTable(
        sinks=tuple(s for s in sinks.of_text(text.trace.text_id).sinks if s.pos in own),
        thresholds=sinks.thresholds,
    )
    written = formation(model, text.trace, table, top_neurons=model.cfg.d_mlp)
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
    case: MatchedPair, ordered: Sequence[Neuron], few: float, seeds: int
) -> Iterator[Trial]:
    n, sink = len(ordered), case.sink
    least = max(1, int(few * n))
    sizes = sorted({least, *(1 << power for power in range(n.bit_length()) if 1 << power < n)})
    for k in sizes:
        words = {"k": k, "n_neurons": n, "few": k == least, "seed": None}
        trial = Trial(sink=sink, pos=sink.pos, cell=(), words=words)
        yield _zeroing(trial, "without", "top", ordered[:k])
        yield _zeroing(trial, "only", "top", ordered[k:])
        yield _zeroing(replace(trial, pos=case.control), "without", "control", ordered[:k])
        for seed in range(seeds):
            drawn = random.Random(f"{seed} {sink.text_id} {sink.pos} {k}").sample(list(ordered), k)
            rest = sorted(set(ordered) - set(drawn))
            again = replace(trial, words=words | {"seed": seed})
            yield _zeroing(again, "without", "random", drawn)
            yield _zeroing(again, "only", "random", rest)


def _zeroing(trial: Trial, test: str, neurons: str, zeroed: Iterable[Neuron]) -> Trial:
    by_layer: dict[int, list[int]] = {}
    for layer, index in zeroed:
        by_layer.setdefault(layer, []).append(index)
    cell: Cell = tuple(
        Edit(pos=trial.pos, layer=layer, site="post", units=tuple(units))
        for layer, units in by_layer.items()
    )
    return replace(trial, cell=cell, words=trial.words | {"test": test, "neurons": neurons})


def _verdict(cells: pd.DataFrame, test: str, left_out: Mapping[str, int], n_claims: int) -> Verdict:
    claim, alive = (ENOUGH, True) if test == "only" else (NEEDED, False)
    part = cells[(cells["test"] == test) & cells["few"].astype(bool)]
    interval = rate_difference(part, "neurons", "top", "random", alive=alive, n_claims=n_claims)
    words: Words = {
        "n_claims": n_claims,
        "statistic": f"share of sinks that {'stay' if alive else 'end'}, but not with random "
        "neurons instead",
        "unit": SHARE_UNIT,
        "controls": "the same number of random neurons of the same MLPs"
        + format_exclusions(left_out),
    }
    missing = too_few(interval.n, interval.n_texts, left_out, n_claims)
    if missing:
        return verdict_of(claim, "inconclusive", missing, interval, **words)
    stay = part.groupby("neurons")["is_sink"].apply(lambda one: one.astype(float).mean())
    verb = "stay" if alive else "end"
    top, other = (stay[name] if alive else 1 - stay[name] for name in ("top", "random"))
    why = (
        f"{CONDITIONS[test]} the {_span(part['k'])} of {_span(part['n_neurons'])} neurons that "
        f"write most along the primary's direction, {top:.0%} of the sinks {verb}; with random "
        f"neurons instead, {other:.0%}; {_half(cells, test)}"
    )
    return verdict_of(claim, outcome_of(interval), why, interval, **words)


def _span(numbers: "pd.Series[Any]") -> str:
    low, high = int(numbers.min()), int(numbers.max())
    return f"{low}" if low == high else f"{low} to {high}"


def _half(cells: pd.DataFrame, test: str) -> str:
    """The smallest k at which most sinks end (test "without"), or stay (test "only"), as text."""
    top = cells[(cells["test"] == test) & (cells["neurons"] == "top")]
    stay = top.groupby("k")["is_sink"].apply(lambda one: one.astype(float).mean())
    most = stay.index[stay > 0.5] if test == "only" else stay.index[stay < 0.5]
    verb = "stay" if test == "only" else "end"
    smallest = f"from k = {most[0]} on" if len(most) else "at no k that was tried"
    return f"most sinks {verb} {smallest}"


def _smallest(cells: pd.DataFrame) -> pd.DataFrame:
    """Per sink: the smallest k without which it ends, and with which alone it stays; else NaN."""
    top = cells[cells["neurons"] == "top"]
    rows = []
    for (text_id, pos), group in top.groupby(["text_id", "sink_pos"]):
        alive = group["is_sink"].astype(bool)
        needed = group[(group["test"] == "without") & ~alive]["k"].min()
        enough = group[(group["test"] == "only") & alive]["k"].min()
        n = int(group["n_neurons"].iloc[0])
        rows.append((text_id, pos, n, float(needed), float(enough)))
    return pd.DataFrame(rows, columns=["text_id", "pos", "n_neurons", "needed", "enough"])


def cells_of(sample: Sample) -> Cells:
    """Cost for sinks with one forming MLP; with more MLPs, and so more neurons, slightly more."""
    few, d_mlp = max(1, int(sample.d_mlp * FEW)), sample.d_mlp
    sizes = len({few, *(1 << power for power in range((d_mlp - 1).bit_length()))})
    return Cells(replayed=sample.n_sinks * sizes * (3 + 2 * SEEDS))


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
