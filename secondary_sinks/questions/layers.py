"""Which MLPs do secondary sinks need? Verdicts from the effect of ablating each layer."""

import math
from dataclasses import replace

import pandas as pd

from secondary_sinks.display import Results, as_frame
from secondary_sinks.questions.answer import combine_outcomes
from secondary_sinks.questions.lost_by_layer import by_way, could_end, layer_effects
from secondary_sinks.statistics import CONFIDENCE, Interval, outcome_of, too_few
from secondary_sinks.types import SHARE_UNIT, LayerEffect, Verdict

LITTLE = 0.1
"""If ablating an MLP takes less than this share of the sinks' mass, beyond what controls lose, the
MLP is not needed."""


def layer_verdicts(effects: pd.DataFrame | Results, n_claims: int | None = None) -> list[Verdict]:
    """One verdict per layer whose MLP the sinks need, or one verdict if no layer is needed.

    A layer is needed, by one way to ablate, if two intervals say so: that of the share of sinks
    that end lies above one half, and that of the mass lost by sinks minus that lost by controls
    lies above 0. It is not needed if the first lies below one half, or the second below one tenth.
    Only sinks that the layer could have ended are counted; if others were created before it, the
    claim is about those created there or later.

    supported: needed by every way to ablate that was tried. contradicted: every layer that can be
    judged is not needed, by any of them. inconclusive: otherwise, and with too few sinks or texts.
    Verdicts are given only for layers that could end a sink, and are corrected for `n_claims`: by
    default the number of these layers. Raises as `layer_effects` does.
    """
    effects = as_frame(effects)
    n_claims = n_claims or max(len(could_end(effects)), 1)
    rows = {
        way: [row for row in layer_effects(part, n_claims) if row.n_sinks]
        for way, part in by_way(effects).items()
    }
    return [replace(verdict, n_claims=n_claims) for verdict in _verdicts(rows, n_claims)]


def _verdicts(rows: dict[str, list[LayerEffect]], n_claims: int) -> list[Verdict]:
    first = next(iter(rows.values()), [])
    if not first:
        return [_verdict(None, "inconclusive", too_few(0, 0))]
    asked = {row.layer: _agree(rows, row, n_claims) for row in first}
    needed = [row for row in first if asked[row.layer][0] == "supported"]
    if needed:
        return [_verdict(row, "supported", _why(row, asked[row.layer][1])) for row in needed]
    decided = [row for row in first if not _missing(row, n_claims)]
    most = max(decided or first, key=lambda row: (row.removed, row.n_sinks, row.lost))
    if not decided:
        return [_verdict(most, "inconclusive", _missing(most, n_claims))]
    if all(asked[row.layer][0] == "contradicted" for row in decided):
        why = (
            f"none of the {len(decided)} MLP(s) tested is needed; for the most important one, "
            f"{_why(most, asked[most.layer][1])}"
        )
        return [_verdict(most, "contradicted", why)]
    return [_verdict(most, "inconclusive", _why(most, asked[most.layer][1]))]


def _missing(row: LayerEffect, n_claims: int) -> str:
    return too_few(row.n_sinks, row.n_texts, n_claims=n_claims)


def _agree(
    rows: dict[str, list[LayerEffect]], first: LayerEffect, n_claims: int
) -> tuple[str, str]:
    missing = _missing(first, n_claims)
    if missing:
        return "inconclusive", missing
    found = {
        way: needed_by(row)
        for way, part in rows.items()
        for row in part
        if row.layer == first.layer
    }
    return combine_outcomes(found)


def needed_by(row: LayerEffect) -> str:
    """Whether one layer is needed, by one way to ablate: "supported" means needed."""
    ended = outcome_of(
        Interval(value=row.removed, low=row.removed_low, high=row.removed_high, n=0, n_texts=0)
    )
    if ended == "supported" and row.low > 0:
        return "supported"
    return "contradicted" if ended == "contradicted" or row.high < LITTLE else "inconclusive"


def _takes(row: LayerEffect) -> str:
    return (
        f"ablating it ends {row.removed:.0%} of the sinks and removes {row.sinks_lost:.0%} of "
        f"their attention (controls: {_percent(row.controls_lost)}, in the same units)"
    )


def _why(row: LayerEffect, agreement: str) -> str:
    return f"{_takes(row)}; {agreement}"


def _percent(share: float) -> str:
    return f"{round(share, 2) + 0.0:.0%}"  # avoid "-0 %"


def _claim(row: LayerEffect | None) -> str:
    if row is None:
        return "secondary sinks need the MLP of a single layer"
    created = f" created at layer {row.layer} or later" if row.n_impossible else ""
    return f"secondary sinks{created} need the MLP of layer {row.layer}"


def _verdict(row: LayerEffect | None, outcome: str, why: str) -> Verdict:
    nan = math.nan
    general = "secondary sinks need the MLP of one layer"
    left_out = (
        f"; left out: {row.n_unmatched} sink(s) without a control"
        if row and row.n_unmatched
        else ""
    )
    return Verdict(
        claim=_claim(row),
        general=general,
        layer=None if row is None else row.layer,
        outcome=outcome,
        why=why,
        statistic="share of sinks that end, mean over texts",
        unit=SHARE_UNIT,
        value=nan if row is None else row.removed,
        low=nan if row is None else row.removed_low,
        high=nan if row is None else row.removed_high,
        confidence=CONFIDENCE,
        controls=f"same edit at token twins, or at ordinary tokens nearby{left_out}",
        n_sinks=0 if row is None else row.n_sinks,
        n_texts=0 if row is None else row.n_texts,
    )
