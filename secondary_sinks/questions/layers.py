"""Which MLPs do secondary sinks need, and do later MLPs keep them up? Verdicts by ablated layer."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd

from secondary_sinks.causal.outcome import LITTLE
from secondary_sinks.display import Results, as_frame, count
from secondary_sinks.questions.answer import combine_outcomes, judge_ways, verdict_of
from secondary_sinks.questions.lost_by_layer import (
    Pairs,
    by_way,
    could_end,
    effects_by_layer,
    lost_by,
    pairs_of,
)
from secondary_sinks.statistics import (
    Interval,
    chosen_before,
    claims_together,
    median_over_texts,
    outcome_of,
    too_few,
)
from secondary_sinks.types import SHARE_UNIT, LayerEffect, Verdict


def layer_verdicts(effects: pd.DataFrame | Results, n_claims: int | None = None) -> list[Verdict]:
    """One verdict per layer whose MLP the sinks need, or one verdict if no layer is needed.

    A layer is needed, by one way to ablate, if three intervals say so: that of the share of sinks
    that end lies above one half, and those of the mass that sinks lose, with and without that lost
    by controls subtracted, lie above one tenth. It is not needed if the first lies below one half:
    the others cannot refute what the first shows. Only sinks that the layer could have ended are
    counted; if others were created before it, the claim is about those created there or later.

    supported: needed by every way to ablate that was tried. contradicted: every layer that can be
    judged is not needed, by any of them. inconclusive: otherwise, and with too few sinks or texts.
    Verdicts are given only for layers that could end a sink, and are corrected for `n_claims`: by
    default the number of these layers. Raises as `layer_effects` does.
    """
    effects = as_frame(effects)
    return verdicts_of_layers(
        paired_by_way(effects), claims_together(n_claims, len(could_end(effects)))
    )


def paired_by_way(effects: pd.DataFrame | Results) -> dict[str, Pairs]:
    """Cells of each way to ablate, paired with controls once for all verdicts."""
    return {way: pairs_of(part) for way, part in by_way(effects).items()}


def verdicts_of_layers(ways: Mapping[str, Pairs], n_claims: int) -> list[Verdict]:
    """`layer_verdicts` of cells that are paired already."""
    rows = {
        way: [row for row in effects_by_layer(pairs, n_claims) if row.n_sinks]
        for way, pairs in ways.items()
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
        tried = ", ".join(f"MLP {row.layer} ({row.removed:.0%})" for row in first)
        why = f"{_missing(most, n_claims)}; tried, with the share of sinks that end: {tried}"
        return [_verdict(most, "inconclusive", why)]
    if all(asked[row.layer][0] == "contradicted" for row in decided):
        why = (
            f"{'the MLP' if len(decided) == 1 else f'none of the {len(decided)} MLPs'} tested is "
            f"{'not ' * (len(decided) == 1)}needed; for the most important one, "
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
    return "inconclusive" if _may_keep_attention(row) else outcome_of(_removed(row))


def _may_keep_attention(row: LayerEffect) -> bool:
    """Whether most sinks end, but a loss of more than a tenth of their attention is not shown."""
    lost = row.low > LITTLE and row.sinks_low > LITTLE
    return outcome_of(_removed(row)) == "supported" and not lost


def _why(row: LayerEffect, agreement: str) -> str:
    lost, low, high = map(_percent, (row.lost, row.low, row.high))
    kept = (
        "; that they lose more than a tenth beyond controls is not shown: "
        f"{lost} [{low}, {high}], median over texts"
    )
    return (
        f"ablating it ends {row.removed:.0%} of the sinks and removes {row.sinks_lost:.0%} of "
        f"their attention (controls: {_percent(row.controls_lost)}, in the same units"
        f"{kept * _may_keep_attention(row)}); {agreement}"
    )


def _percent(share: float) -> str:
    return f"{round(share, 2) + 0.0:.0%}"  # avoid "-0 %"


def _claim(row: LayerEffect | None) -> str:
    if row is None:
        return "secondary sinks need the MLP of a single layer"
    created = f" created at layer {row.layer} or later" if row.n_impossible else ""
    return f"secondary sinks{created} need the MLP of layer {row.layer}"


def _verdict(row: LayerEffect | None, outcome: str, why: str) -> Verdict:
    left_out = (
        f"; left out: {count(row.n_unmatched, 'sink')} without a control"
        if row and row.n_unmatched
        else ""
    )
    found = verdict_of(
        _claim(row),
        outcome,
        why,
        None if row is None else _removed(row),
        statistic="share of sinks that end, mean over texts",
        unit=SHARE_UNIT,
        controls=f"same edit at token twins, or at ordinary tokens nearby{left_out}",
    )
    general, layer = "secondary sinks need the MLP of one layer", row.layer if row else None
    return replace(found, general=general, layer=layer)


def _removed(row: LayerEffect) -> Interval:
    """The share of sinks that end, with its interval."""
    low, high = row.removed_low, row.removed_high
    return Interval(value=row.removed, low=low, high=high, n=row.n_sinks, n_texts=row.n_texts)


CLAIM = (
    "an MLP above the creation layer, chosen on earlier texts, sustains a tenth or more of a "
    "sink's attention"
)


def later_verdict(effects: pd.DataFrame | Results, n_claims: int = 1) -> Verdict:
    """Does an MLP above the creation layer sustain the attention that sinks draw?

    An MLP above the creation layer cannot have made the sink, but without it the sink may draw less
    attention. Only the one chosen on earlier texts is judged: other later MLPs may matter at single
    sinks. Statistic: the mass that sinks lose minus the mass that their controls lose
    (`mass_lost`), median over texts. The mass is measured at one layer per text: the layer with the
    largest loss in earlier texts or, for the first text, the layer after the first creation layer
    (`statistics.choice`). Only sinks that this layer could have weakened are counted
    (`later_effects`).

    supported: what sinks lose lies above one tenth, with and without what their controls lose
    subtracted, by every way to ablate. contradicted: both lie below it, by every way. Raises
    `EditError` for a table with several sites or effects.
    """
    return verdict_of_later(paired_by_way(effects), n_claims)


def verdict_of_later(ways: Mapping[str, Pairs], n_claims: int) -> Verdict:
    """`later_verdict` of cells that are paired already."""
    found = {way: _lost_later(pairs.later, n_claims) for way, pairs in ways.items()}

    def why(agreement: str) -> str:
        one = next(iter(found.values()))
        often = max(sorted(set(one.layers)), key=one.layers.count)
        return (
            f"ablating the chosen MLP (layer {often} in {one.layers.count(often)} of "
            f"{len(one.layers)} texts) removes {_percent(one.sinks.value)} of the attention that "
            f"sinks draw (controls: {_percent(one.controls)}, in the same units); {agreement}"
        )

    return judge_ways(
        CLAIM,
        {way: one.beyond for way, one in found.items()},
        why,
        most={way: one.sinks for way, one in found.items()},
        least={way: one.sinks for way, one in found.items()},
        statistic="mass lost beyond controls at the layer with the largest loss in earlier texts, "
        "median over texts",
        controls="same edit at token twins, or at ordinary tokens nearby",
        n_claims=n_claims,
        line=LITTLE,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LostLater:
    """Mass lost at the layers that earlier texts chose, medians over texts."""

    sinks: Interval
    beyond: Interval
    """Lost by sinks minus lost by their controls."""
    controls: float
    layers: list[int]
    """The chosen layer of each text."""


def _lost_later(cells: pd.DataFrame, n_claims: int) -> LostLater:
    if cells.empty:
        none = median_over_texts([], [], n_claims=n_claims)
        return LostLater(sinks=none, beyond=none, controls=math.nan, layers=[])
    lost = lost_by(["text_id", "layer"], cells).dropna(subset="beyond").sort_index()
    known = set(lost.index.get_level_values("text_id"))
    texts = [text for text in dict.fromkeys(cells["text_id"]) if text in known]
    scores = [dict(lost.loc[text, "beyond"].items()) for text in texts]
    layers = chosen_before(scores, [sorted(one) for one in scores])
    chosen = lost.loc[list(zip(texts, layers, strict=True))]
    at = cells["layer"] == cells["text_id"].map(dict(zip(texts, layers, strict=True)))
    n_sinks = cells.loc[at, "sink"].nunique()
    sinks, beyond = (
        replace(median_over_texts(chosen[name], texts, n_claims=n_claims), n=n_sinks)
        for name in ("sinks", "beyond")
    )
    return LostLater(
        sinks=sinks, beyond=beyond, controls=float(chosen["controls"].median()), layers=layers
    )
