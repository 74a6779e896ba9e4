"""Which MLPs does a secondary sink need? Effects of single-layer ablations against controls."""

import math

import numpy as np
import pandas as pd
from scipy import stats

from secondary_sinks.errors import EditError
from secondary_sinks.types import LayerEffect, Verdict

LEAST_SINKS, LEAST_TEXTS = 5, 3
CONFIDENCE = 0.95
LEAST_SHARE = 0.5
"""A layer is called necessary when its ablation takes at least half of the sinks' mass."""


def layer_effects(effects: pd.DataFrame) -> list[LayerEffect]:
    """Mass lost by secondary sinks and by their controls, by layer, with intervals.

    Both are shares of their own clean mass, so that a small mass which is lost whole counts as
    lost whole. The interval is a jackknife over texts (the unit that repeats) with the t
    distribution of n - 1 degrees of freedom (Tukey 1958), at 1 - 0.05 / (number of layers tried)
    so that all layers together hold at about 95 %. With fewer than two texts it is NaN.
    Raises `EditError` for a table that mixes edits, or holds the edit that changes nothing.
    """
    _check_one_edit(effects)
    cells = _pairs(effects)
    layers = sorted({int(layer) for layer in cells["layer"]})
    tail = (1 - CONFIDENCE) / 2 / max(len(layers), 1)
    unmatched = _n_secondary(effects) - len(cells[["text_id", "pos"]].drop_duplicates())
    return [_one_layer(cells[cells["layer"] == la], la, tail, unmatched) for la in layers]


def necessity(effects: pd.DataFrame) -> list[Verdict]:
    """Verdicts: one per layer whose MLP the sinks need, or one that says what is missing.

    supported: the interval of the share of mass lost by sinks less that lost by controls lies
    above one half. contradicted: every layer tried has its interval below one half. Otherwise,
    and with fewer than five sinks or three texts, inconclusive. Raises as `layer_effects`.
    """
    rows = layer_effects(effects)
    if not rows:
        why = "no secondary sink with a control was found, so nothing is claimed"
        return [_verdict(None, "inconclusive", why)]
    most = max(rows, key=lambda row: row.lost)
    if most.n_sinks < LEAST_SINKS or most.n_texts < LEAST_TEXTS:
        why = (
            f"{most.n_sinks} sink(s) in {most.n_texts} text(s) with controls; "
            f"at least {LEAST_SINKS} in {LEAST_TEXTS} are needed"
        )
        return [_verdict(most, "inconclusive", why)]
    needed = [row for row in rows if row.low > LEAST_SHARE]
    if needed:
        return [_verdict(row, "supported", _takes(row)) for row in needed]
    if all(row.high < LEAST_SHARE for row in rows):
        why = (
            f"none of the {len(rows)} MLP(s) tried takes half of the mass; at most, {_takes(most)}"
        )
        return [_verdict(most, "contradicted", why)]
    return [_verdict(most, "inconclusive", f"the interval includes one half; {_takes(most)}")]


def _check_one_edit(effects: pd.DataFrame) -> None:
    for column in ("edit", "site", "effect"):
        found = sorted(effects[column].unique())
        if len(found) > 1:
            raise EditError(f"the table mixes {column}s {found}; expected one, so select one")
    if (effects["edit"] == "none").any():
        raise EditError("edit 'none' changes nothing and says nothing of what is needed")


def _n_secondary(effects: pd.DataFrame) -> int:
    sinks = effects[(effects["role"] == "sink") & (effects["kind"] == "secondary")]
    return len(sinks[["text_id", "pos"]].drop_duplicates())


def _pairs(effects: pd.DataFrame) -> pd.DataFrame:
    """One row per secondary sink and layer, with the masses of its control."""
    key = ["text_id", "sink_pos", "layer"]
    sinks = effects[(effects["role"] == "sink") & (effects["kind"] == "secondary")]
    controls = effects[effects["role"] == "control"].groupby(key)[["mass_clean", "mass_edited"]]
    pairs = sinks.join(controls.mean().add_prefix("control_"), on=key, how="inner")
    masses = ["mass_clean", "mass_edited", "control_mass_clean", "control_mass_edited"]
    return pairs.dropna(subset=masses)  # attention that no block pays is unknown


def _one_layer(cells: pd.DataFrame, layer: int, tail: float, unmatched: int) -> LayerEffect:
    masses = ["mass_clean", "mass_edited", "control_mass_clean", "control_mass_edited"]
    by_text = cells.groupby("text_id")[masses].sum().to_numpy()
    sinks, controls = _shares_lost(by_text.sum(0))
    low, high = _jackknife(by_text, tail)
    return LayerEffect(
        layer=layer,
        lost=sinks - controls,
        low=low,
        high=high,
        sinks_lost=sinks,
        controls_lost=controls,
        removed=float((cells["lifetime_edited"] == 0).mean()),
        prolonged=float((cells["lifetime_edited"] > cells["lifetime_clean"]).mean()),
        n_sinks=len(cells),
        n_unmatched=unmatched,
        n_texts=len(by_text),
    )


def _shares_lost(masses: np.ndarray) -> tuple[float, float]:
    """Share of mass lost by sinks and by controls, from sums of clean and edited masses."""
    clean, edited, control_clean, control_edited = masses
    with np.errstate(divide="ignore", invalid="ignore"):  # no mass, no share: NaN
        return float(1 - edited / clean), float(1 - control_edited / control_clean)


def _jackknife(by_text: np.ndarray, tail: float) -> tuple[float, float]:
    """Interval of the difference of shares, from leaving out one text at a time."""
    n = len(by_text)
    if n < 2:
        return math.nan, math.nan
    whole = np.subtract(*_shares_lost(by_text.sum(0)))
    left_out = [np.subtract(*_shares_lost(by_text.sum(0) - row)) for row in by_text]
    pseudo = n * whole - (n - 1) * np.array(left_out)
    reach = stats.t.ppf(1 - tail, n - 1) * pseudo.std(ddof=1) / math.sqrt(n)
    return float(whole - reach), float(whole + reach)


def _takes(row: LayerEffect) -> str:
    return (
        f"ablating it takes {row.sinks_lost:.0%} of the attention that sinks draw and "
        f"{row.controls_lost:.0%} of what controls draw, and ends {row.removed:.0%} of the sinks"
    )


def _verdict(row: LayerEffect | None, outcome: str, why: str) -> Verdict:
    nan = math.nan
    claim = "secondary sinks need the MLP of a single layer"
    left_out = (
        f"; {row.n_unmatched} sink(s) without one left out" if row and row.n_unmatched else ""
    )
    return Verdict(
        claim=claim if row is None else f"secondary sinks need the MLP of layer {row.layer}",
        outcome=outcome,
        why=why,
        statistic="share of mass lost, sinks less controls",
        value=nan if row is None else row.lost,
        low=nan if row is None else row.low,
        high=nan if row is None else row.high,
        confidence=CONFIDENCE,
        controls=f"same edit at token twins, or at the nearest ordinary token{left_out}",
        n_sinks=0 if row is None else row.n_sinks,
        n_texts=0 if row is None else row.n_texts,
    )
