"""How much later MLPs weaken or shorten a sink that exists already."""

import pandas as pd

from secondary_sinks.display import Results
from secondary_sinks.questions.answer import Words, combine_outcomes, verdict_of
from secondary_sinks.questions.layers import LITTLE
from secondary_sinks.questions.lost_by_layer import by_way, later_cells, lost_by_text
from secondary_sinks.statistics import (
    Interval,
    chosen_before,
    median_over_texts,
    outcome_of,
    too_few,
)
from secondary_sinks.types import SHARE_UNIT, Verdict

CLAIM = (
    "an MLP above the creation layer, chosen on earlier texts, sustains a tenth or more of a "
    "sink's attention"
)


def later_verdict(effects: pd.DataFrame | Results, n_claims: int = 1) -> Verdict:
    """Does the later MLP that matters most keep sinks up?

    An MLP above the creation layer cannot have made the sink, but without it the sink may draw less
    attention. Only the one chosen on earlier texts is judged: other later MLPs may matter at single
    sinks.
    Statistic: the mass that sinks lose minus the mass that their controls lose (`mass_lost`),
    median over texts. It is measured at one layer per text: the layer with the largest loss in
    earlier texts or, for the first text, the layer after the first creation layer
    (`statistics.choice`). Only sinks that this layer could have weakened are counted
    (`later_effects`).

    supported: the interval lies above one tenth by every way to ablate; contradicted: below, by
    every way. Raises `EditError` for a table with several sites or effects.
    """
    found = {way: _interval(part, n_claims) for way, part in by_way(effects).items()}
    words: Words = {
        "statistic": "mass lost beyond controls at the layer with the largest loss in earlier "
        "texts, median over texts",
        "unit": SHARE_UNIT,
        "line": LITTLE,
        "controls": "same edit at token twins, or at ordinary tokens nearby",
        "n_claims": n_claims,
    }
    if not found:
        return verdict_of(CLAIM, "inconclusive", too_few(0, 0), None, **words)
    interval, layers = next(iter(found.values()))
    missing = too_few(interval.n, interval.n_texts, n_claims=n_claims)
    if missing:
        return verdict_of(CLAIM, "inconclusive", missing, interval, **words)
    outcome, agreement = combine_outcomes(
        {way: outcome_of(one, LITTLE) for way, (one, _) in found.items()}
    )
    often = max(sorted(set(layers)), key=layers.count)
    why = (
        f"ablating the chosen MLP (layer {often} in {layers.count(often)} of {len(layers)} texts) "
        f"removes {interval.value:.0%} of the attention that sinks draw; {agreement}"
    )
    return verdict_of(CLAIM, outcome, why, interval, **words)


def _interval(effects: pd.DataFrame, n_claims: int) -> tuple[Interval, list[int]]:
    """Mass lost per text at the layer that earlier texts chose, and these layers."""
    cells = later_cells(effects)
    if cells.empty:
        return median_over_texts([], [], n_claims=n_claims), []
    lost = pd.DataFrame(
        {layer: lost_by_text(part)["beyond"] for layer, part in cells.groupby("layer")}
    ).reindex(list(dict.fromkeys(cells["text_id"])))
    lost = lost.dropna(how="all")
    scores = [
        {int(str(layer)): float(value) for layer, value in row.dropna().items()}
        for _, row in lost.iterrows()
    ]
    layers = chosen_before(scores, [sorted(one) for one in scores])
    values = [one[layer] for one, layer in zip(scores, layers, strict=True)]
    found = median_over_texts(values, list(lost.index), n_claims=n_claims)
    n_sinks = len(cells[["text_id", "pos"]].drop_duplicates())
    return Interval(
        value=found.value, low=found.low, high=found.high, n=n_sinks, n_texts=found.n_texts
    ), layers
