"""Restoration: does the primary get attention back when a secondary sink is removed?

A softmax that loses a key gives what it paid to it to all other keys, so some of it to the primary,
without any further mechanism. Whether the primary gets more than that, `redistribution` tells.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from secondary_sinks.causal import recompute
from secondary_sinks.causal.ablate import checked_labels
from secondary_sinks.causal.outcome import still_drawing
from secondary_sinks.detection.contrasts import LEAST_QUERIES, ROUNDING, Values, paid_of, step
from secondary_sinks.detection.weakening import WINDOW
from secondary_sinks.display import count
from secondary_sinks.errors import EditError
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.numbers import check_whole
from secondary_sinks.progress import Progress, shows_progress
from secondary_sinks.questions import figures
from secondary_sinks.questions.answer import Answer, combine_outcomes, format_exclusions, verdict_of
from secondary_sinks.questions.forming import Forming, by_place, cell_at, formed_only
from secondary_sinks.questions.lost_by_layer import by_way
from secondary_sinks.questions.matched_pairs import (
    MatchedPair,
    Place,
    TextPairs,
    count_censored,
    match_pairs,
    with_progress,
)
from secondary_sinks.questions.necessity import EDITS
from secondary_sinks.questions.question import CellCounts, Question, Sample
from secondary_sinks.statistics import Interval, median_over_texts, min_texts, outcome_of
from secondary_sinks.types import Sink, SinkTable, Trace, Verdict

CLAIM = (
    "part of a secondary sink's attention is taken from the primary, as any softmax does: with the "
    "sink removed, the primary regains attention"
)
COLUMNS = ("text_id", "sink_pos", "pos", "role", "edit", "l_start", "change", "gained", "stays")
STAYED = "that keep half of their attention or more under the edit, so that nothing is removed"


@shows_progress
def restoration(
    model: HookedModel,
    traces: Trace | Iterable[Trace],
    sinks: SinkTable,
    *,
    edits: Sequence[str] = EDITS,
    window: int = WINDOW,
    forming: Iterable[Forming] | None = None,
    progress: Progress | None = None,
    n_claims: int = 1,
) -> Answer:
    """Does the primary regain attention when the first secondary sink of a text is removed?

    The sink's forming MLPs are ablated, and everything after it is recomputed. Sinks that keep half
    of their attention (`stays`) are left out, by way to ablate. `gained` is the additional
    attention that later queries then pay to the primary: mean over these queries and over `window`
    layers from the sink's l_start on, minus the mean over as many layers before. The same edit at
    the sink's control token is subtracted. There is one number per text, since sinks of the same
    text are not independent. `change` is observed in the clean run: at the same layers, queries
    after the sink minus queries before it. Total effects; seeds are averaged. In `effects` both are
    medians over texts.

    Verdict, by the exact interval of the median of `gained` over texts
    (`statistics.median_over_texts`): supported if it lies above 0 by every way to ablate,
    contradicted if below, both with and without subtracting the control; inconclusive otherwise
    and with too few texts: it takes at least six, and more if corrected for several `n_claims`. The
    softmax alone can support it: the control draws little attention, so its removal frees little. A
    gain beyond the softmax's is a claim of its own (`redistribution`).
    """
    check_whole(EditError, window=window, n_claims=n_claims)
    labels = checked_labels(edits)
    texts = match_pairs(traces, sinks, ("secondary",))
    formed_by = by_place(model, texts, sinks, forming)
    texts, left_out = formed_only(texts, formed_by)
    rows: list[dict[str, Any]] = []
    for text in with_progress(texts, progress):
        rows += _rows(model, text, sinks, formed_by, labels, window)
    cells = pd.DataFrame(rows, columns=list(COLUMNS))
    effects, verdict = judge_cells(cells, left_out, n_claims)
    return Answer(
        question="restoration",
        cells=cells,
        effects=effects,
        verdicts=(verdict,),
        left_out=left_out,
        n_censored=count_censored(texts),
    )


def judge_cells(
    cells: pd.DataFrame, left_out: Mapping[str, int], n_claims: int
) -> tuple[pd.DataFrame, Verdict]:
    """Medians over texts by way to ablate, and the verdict."""
    ways = {way: _by_text(part) for way, part in by_way(cells).items()}
    for first in list(by_way(cells).values())[:1]:
        left_out = {**left_out, STAYED: len(_kept_by(first))}
    found, alone = (
        {
            way: median_over_texts(part[name], part.index.tolist(), n_claims=n_claims)
            for way, part in ways.items()
        }
        for name in ("gained", "alone")
    )
    effects = [
        (way, one.value, one.low, one.high, float(ways[way]["change"].median()), one.n_texts)
        for way, one in found.items()
    ]
    names = ["edit", "gained", "low", "high", "change", "n_texts"]
    verdict = _verdict(ways, found, alone, left_out, n_claims)
    return pd.DataFrame(effects, columns=names), verdict


def _rows(
    model: HookedModel,
    text: TextPairs,
    sinks: SinkTable,
    found: Mapping[Place, Forming],
    edits: Sequence[str],
    window: int,
) -> Iterator[dict[str, Any]]:
    """The first sink of a text that has an active primary around its creation, and its control."""
    trace = text.trace
    primaries = [s for s in sinks.of_text(trace.text_id).sinks if s.kind == "primary"]
    for case in sorted(text.cases, key=lambda one: one.sink.pos):
        primary = next((one for one in primaries if case.sink.l_start in one.layers), None)
        change = _change(trace, primary, case.sink, window)
        if primary is None or not np.isfinite(change):
            continue
        layers = found[case.place].layers
        yield from _edited(model, trace, primary, case, layers, edits, window, change)
        return


def _edited(
    model: HookedModel,
    trace: Trace,
    primary: Sink,
    case: MatchedPair,
    layers: Sequence[int],
    edits: Sequence[str],
    window: int,
    change: float,
) -> Iterator[dict[str, Any]]:
    asked = [
        (role, pos, edit)
        for role, pos in (("sink", case.sink.pos), ("control", case.control))
        for edit in edits
    ]
    cells = [cell_at(pos, layers, edit) for _, pos, edit in asked]
    watch = [case.sink.pos]
    result = recompute(model, trace, cells, watch=watch, loss=False, by_query=True)
    stays = still_drawing(trace, result, [case.sink])[:, 0].tolist()
    assert result.paid_to_primary is not None
    clean = step(paid_of(trace, primary), case.sink.l_start, window)
    for number, (role, pos, edit) in enumerate(asked):
        edited = paid_of(trace, primary, result.paid_to_primary[:, number])
        gained = (step(edited, case.sink.l_start, window) - clean)[pos + 1 :]
        yield {
            "text_id": trace.text_id,
            "sink_pos": case.sink.pos,
            "pos": pos,
            "role": role,
            "edit": edit,
            "l_start": case.sink.l_start,
            "change": change,
            "gained": float(np.mean(gained[np.isfinite(gained)])) if len(gained) else np.nan,
            "stays": role == "sink" and stays[number],
        }


def _change(trace: Trace, primary: Sink | None, sink: Sink, window: int) -> float:
    """Change in the clean run; NaN with too few layers or queries around the sink."""
    if primary is None:
        return np.nan
    change: Values = step(paid_of(trace, primary), sink.l_start, window)
    sides = change[primary.pos + 1 : sink.pos], change[sink.pos + 1 :]
    before, after = (side[np.isfinite(side)] for side in sides)
    if min(len(before), len(after)) < LEAST_QUERIES:
        return np.nan
    return float(after.mean() - before.mean())


def _by_text(cells: pd.DataFrame) -> pd.DataFrame:
    """Attention regained, per text: `alone`, and minus that with the control ablated (`gained`).

    Seeds are averaged. Texts whose sink stays are left out.
    """
    cells = cells[~cells["text_id"].isin(_kept_by(cells))]
    names = ["gained", "change"]
    means = {
        role: cells[cells["role"] == role].groupby("text_id")[names].mean()
        for role in ("sink", "control")
    }
    sinks, controls = means["sink"]["gained"], means["control"]["gained"]
    both = means["sink"].assign(alone=sinks, controls=controls, gained=sinks - controls)
    for name in ("alone", "gained"):
        both.loc[both[name].abs() <= ROUNDING, name] = 0.0
    return both.dropna(subset="gained")


def _kept_by(cells: pd.DataFrame) -> set[str]:
    """Texts whose sink keeps half of its attention under an edit, or under a seed of it."""
    return set(cells.loc[cells["stays"].astype(bool), "text_id"])


def _verdict(
    ways: Mapping[str, pd.DataFrame],
    found: Mapping[str, Interval],
    alone: Mapping[str, Interval],
    left_out: Mapping[str, int],
    n_claims: int,
) -> Verdict:
    outcome, interval = "inconclusive", next(iter(found.values()), None)
    least = min_texts(n_claims)
    if interval is None:
        why = "no removable sink has an active primary both before and after its creation layer"
    elif interval.n_texts < least:
        texts = count(interval.n_texts, "text")
        why = f"only {texts} with a removable sink; at least {least} are needed"
    else:
        outcome, agreement = combine_outcomes(
            {way: _outcome(one, alone[way]) for way, one in found.items()}
        )
        why = f"{_in_words(next(iter(ways.values())).median())}; {agreement}"
    return verdict_of(
        CLAIM,
        outcome,
        why,
        interval,
        statistic="rise of the attention that later queries pay to the primary, from the creation "
        "layer on, when a text's first secondary sink is removed, minus that for its control; "
        "median over texts",
        unit="attention",
        controls="same edit at token twins, or at ordinary tokens nearby"
        + format_exclusions(left_out),
        line=0.0,
        n_claims=n_claims,
    )


def _in_words(medians: "pd.Series[float]") -> str:
    return (
        f"with the first secondary sink removed, later queries pay the primary "
        f"{medians['alone']:+.3f} of their attention more (with its control removed, "
        f"{medians['controls']:+.3f}), the gain by the softmax included; in the clean run this had "
        f"changed by {medians['change']:+.3f} at the creation layer (medians over texts)"
    )


def _outcome(beyond: Interval, alone: Interval) -> str:
    """What both say, with and without the control."""
    outcomes = {outcome_of(beyond, 0.0), outcome_of(alone, 0.0)}
    return outcomes.pop() if len(outcomes) == 1 else "inconclusive"


def cells_of(sample: Sample) -> CellCounts:
    """Cost: each way to ablate at one sink of each text and at its control.

    An upper bound: a text without an active primary around its first sink costs nothing.
    """
    return CellCounts(recomputed=[2 * len(EDITS) * bool(text.cases) for text in sample.texts])


RESTORATION = Question(
    name="restoration",
    title="Attention the primary regains",
    asks="Does the primary regain attention when a secondary sink is removed?",
    ask=restoration,
    n_claims=lambda sinks: 1,
    cost=cells_of,
    figures=figures.restoration,
    recomputes=True,
)
