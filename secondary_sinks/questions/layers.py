"""What ablating each layer's MLP takes from sinks beyond what it takes from controls."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd

from secondary_sinks.errors import EditError
from secondary_sinks.questions.answer import combine_outcomes
from secondary_sinks.statistics import (
    CONFIDENCE,
    Interval,
    median_over_texts,
    outcome_of,
    share_over_texts,
    too_few,
)
from secondary_sinks.types import SHARE_UNIT, LayerEffect, Verdict

LITTLE = 0.1
"""An MLP whose ablation takes less than this share of the sinks' mass beyond what it takes from
controls is not needed for being a sink, whatever else it does."""
KEY = ["text_id", "sink_pos", "layer"]
MASSES = ["mass_clean", "mass_edited", "control_mass_clean", "control_mass_edited"]


def layer_effects(effects: pd.DataFrame, n_claims: int | None = None) -> list[LayerEffect]:
    """Mass lost by secondary sinks and by their controls, by layer, with intervals.

    Both are shares of their own clean mass, so that a small mass which is lost whole counts as
    lost whole; `lost` is the median over texts of their difference. Intervals are exact over texts
    (`statistics`), and corrected for `n_claims`: by default the layers tried that could
    end a sink (`could_end`). With too few texts they are NaN. Raises `EditError` for a table that
    mixes edits (seeds of one edit are averaged), or holds the one that changes nothing.
    """
    _check_one_edit(effects)
    cells = _pairs(effects)
    layers = sorted({int(layer) for layer in cells["layer"]})
    unmatched = _n_secondary(effects) - len(cells[["text_id", "pos"]].drop_duplicates())
    n_claims = n_claims or len(could_end(effects))
    return [_one_layer(cells[cells["layer"] == la], la, n_claims, unmatched) for la in layers]


def could_end(effects: pd.DataFrame) -> set[int]:
    """Layers tried at which an edit can end a sink: those up to the last creation layer.

    Above it the state that made the token a sink is written and read already, so nothing that is
    tried there can come out otherwise: no claim is made of it, and none is corrected for.
    """
    sinks = effects[(effects["role"] == "sink") & (effects["kind"] == "secondary")]
    last = sinks["l_start_clean"].max()
    return {int(layer) for layer in effects["layer"].unique() if layer <= last}


def layer_verdicts(effects: pd.DataFrame, n_claims: int | None = None) -> list[Verdict]:
    """Verdicts: one per layer whose MLP the sinks need, or one that says what is missing.

    A layer is needed, by one way to ablate, when the interval of the share of sinks that end lies
    above one half, and that of the share of mass lost by sinks less that lost by controls above
    0. It is not needed when the first lies below one half, or the second below one tenth.
    supported: needed by every way to ablate that was tried. contradicted: no layer that could be
    is needed by any of them. Otherwise, and with too few sinks or texts, inconclusive. All are
    corrected for `n_claims`: by default the layers that could end a sink, of which alone verdicts
    are given. Raises as `layer_effects`.
    """
    possible = could_end(effects)
    n_claims = n_claims or max(len(possible), 1)
    rows = {
        way: [row for row in layer_effects(part, n_claims) if row.layer in possible]
        for way, part in by_way(effects).items()
    }
    return [replace(verdict, n_claims=n_claims) for verdict in _judged(rows, n_claims)]


def _judged(rows: dict[str, list[LayerEffect]], n_claims: int) -> list[Verdict]:
    first = next(iter(rows.values()), [])
    if not first:
        return [_verdict(None, "inconclusive", too_few(0, 0))]
    most = max(first, key=lambda row: (row.removed, row.lost))
    missing = too_few(most.n_sinks, most.n_texts, n_claims=n_claims)
    if missing:
        return [_verdict(most, "inconclusive", missing)]
    asked = {row.layer: _agree(rows, row.layer) for row in first}
    needed = [row for row in first if asked[row.layer][0] == "supported"]
    if needed:
        return [_verdict(row, "supported", _why(row, asked[row.layer][1])) for row in needed]
    if all(outcome == "contradicted" for outcome, _ in asked.values()):
        why = (
            f"none of the {len(first)} MLP(s) that could be is needed; at most, "
            f"{_why(most, asked[most.layer][1])}"
        )
        return [_verdict(most, "contradicted", why)]
    return [_verdict(most, "inconclusive", _why(most, asked[most.layer][1]))]


def by_way(effects: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Cells by way to ablate: the kind of edit, with what it is over, without its seed."""
    way = effects["edit"].str.replace(r"^resample:\d+$", "resample", regex=True)
    return {str(name): effects[way == name] for name in dict.fromkeys(way)}


def _agree(rows: dict[str, list[LayerEffect]], layer: int) -> tuple[str, str]:
    found = {
        way: needed_by(row) for way, part in rows.items() for row in part if row.layer == layer
    }
    return combine_outcomes(found)


def needed_by(row: LayerEffect) -> str:
    """What one layer's effect says, of one way to ablate: supported is needed."""
    ended = outcome_of(
        Interval(value=row.removed, low=row.removed_low, high=row.removed_high, n=0, n_texts=0)
    )
    if ended == "supported" and row.low > 0:
        return "supported"
    return "contradicted" if ended == "contradicted" or row.high < LITTLE else "inconclusive"


def _check_one_edit(effects: pd.DataFrame) -> None:
    for column in ("site", "effect"):
        found = sorted(effects[column].unique())
        if len(found) > 1:
            raise EditError(f"the table mixes {column}s {found}; expected one, so select one")
    ways = sorted(by_way(effects))
    if len(ways) > 1:
        raise EditError(f"the table mixes edits {ways}; expected one, so select one")
    if "none" in ways:
        raise EditError("edit 'none' changes nothing and says nothing of what is needed")


def _n_secondary(effects: pd.DataFrame) -> int:
    sinks = effects[(effects["role"] == "sink") & (effects["kind"] == "secondary")]
    return len(sinks[["text_id", "pos"]].drop_duplicates())


def _pairs(effects: pd.DataFrame) -> pd.DataFrame:
    """One row per secondary sink, layer and seed, with the mean masses of its controls."""
    key = [*KEY, "edit"]
    sinks = effects[(effects["role"] == "sink") & (effects["kind"] == "secondary")]
    controls = effects[effects["role"] == "control"].groupby(key)[["mass_clean", "mass_edited"]]
    pairs = sinks.join(controls.mean().add_prefix("control_"), on=key, how="inner")
    return pairs.dropna(subset=MASSES)  # attention that no block pays is unknown


def _one_layer(cells: pd.DataFrame, layer: int, n_claims: int, unmatched: int) -> LayerEffect:
    by_text = cells.groupby("text_id")[MASSES].sum()
    sinks, controls = _shares_lost(by_text.to_numpy().sum(0))
    beyond = [float(np.subtract(*_shares_lost(masses))) for masses in by_text.to_numpy()]
    lost = median_over_texts(beyond, by_text.index.tolist(), n_claims=n_claims)
    ended = (cells["lifetime_edited"] == 0).astype(float)
    removed = share_over_texts(ended, cells["text_id"].tolist(), n_claims=n_claims)
    return LayerEffect(
        layer=layer,
        lost=lost.value,
        low=lost.low,
        high=lost.high,
        sinks_lost=sinks,
        controls_lost=controls,
        removed=removed.value,
        removed_low=removed.low,
        removed_high=removed.high,
        prolonged=float((cells["lifetime_edited"] > cells["lifetime_clean"]).mean()),
        n_sinks=len(cells[["text_id", "pos"]].drop_duplicates()),
        n_unmatched=unmatched,
        n_texts=len(by_text),
    )


def _shares_lost(masses: np.ndarray) -> tuple[float, float]:
    """Share of mass lost by sinks and by controls, from sums of clean and edited masses."""
    clean, edited, control_clean, control_edited = masses
    with np.errstate(divide="ignore", invalid="ignore"):  # no mass, no share: NaN
        return float(1 - edited / clean), float(1 - control_edited / control_clean)


def _takes(row: LayerEffect) -> str:
    return (
        f"ablating it takes {row.sinks_lost:.0%} of the attention that sinks draw and "
        f"{row.controls_lost:.0%} of what controls draw, and ends {row.removed:.0%} of the sinks"
    )


def _why(row: LayerEffect, agreement: str) -> str:
    return f"{_takes(row)}; {agreement}"


def _verdict(row: LayerEffect | None, outcome: str, why: str) -> Verdict:
    nan = math.nan
    general = "secondary sinks need the MLP of one layer"
    left_out = (
        f"; {row.n_unmatched} sink(s) without one left out" if row and row.n_unmatched else ""
    )
    return Verdict(
        claim="secondary sinks need the MLP of a single layer"
        if row is None
        else f"secondary sinks need the MLP of layer {row.layer}",
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
