"""Which MLPs does a secondary sink need? Effects of single-layer ablations against controls."""

import numpy as np
import pandas as pd

from secondary_sinks.types import LayerEffect, Verdict

LEAST_SINKS, LEAST_TEXTS = 5, 3
RESAMPLES = 4000
CONFIDENCE = 0.95
LEAST_SHARE = 0.5
"""A layer is called necessary when its ablation takes at least half of the sinks' mass."""


def layer_effects(effects: pd.DataFrame, seed: int = 0) -> list[LayerEffect]:
    """Mass lost by layer, with intervals by resampling texts (clusters), for secondary sinks.

    The intervals together hold at 95 %: each is at 1 - 0.05 / (number of layers tried).
    With fewer than two texts there is no interval (NaN).
    """
    cells = _pairs(effects)
    layers = sorted({int(layer) for layer in cells["layer"]})
    tail = 50 * (1 - CONFIDENCE) / max(len(layers), 1)
    rng = np.random.default_rng(seed)
    return [_one_layer(cells[cells["layer"] == layer], layer, tail, rng) for layer in layers]


def necessity(effects: pd.DataFrame, seed: int = 0) -> list[Verdict]:
    """Verdicts: one per layer whose MLP the sinks need, or one that says what is missing.

    supported: the interval of the share of mass lost beyond controls lies above one half.
    contradicted: every layer's interval lies below one half. Otherwise, and with fewer than
    five sinks or three texts, inconclusive.
    """
    rows = layer_effects(effects, seed)
    if not rows:
        return [
            _verdict(None, "inconclusive", "no secondary sink was found, so nothing is claimed")
        ]
    most = max(rows, key=lambda row: row.lost)
    if most.n_sinks < LEAST_SINKS or most.n_texts < LEAST_TEXTS:
        why = (
            f"{most.n_sinks} sink(s) in {most.n_texts} text(s) with controls; "
            f"at least {LEAST_SINKS} in {LEAST_TEXTS} are needed"
        )
        return [_verdict(most, "inconclusive", why)]
    needed = [row for row in rows if row.low > LEAST_SHARE]
    if needed:
        return [_verdict(row, "supported", _removes(row)) for row in needed]
    if all(row.high < LEAST_SHARE for row in rows):
        why = "no single layer's MLP takes half of the mass when it is ablated at the sink"
        return [_verdict(most, "contradicted", why)]
    return [_verdict(most, "inconclusive", "the interval includes one half")]


def _pairs(effects: pd.DataFrame) -> pd.DataFrame:
    """One row per secondary sink and layer, with the mean loss of its controls."""
    effects = effects.assign(loss=effects["mass_clean"] - effects["mass_edited"])
    key = ["text_id", "sink_pos", "layer"]
    sinks = effects[(effects["role"] == "sink") & (effects["kind"] == "secondary")]
    controls = effects[effects["role"] == "control"].groupby(key)["loss"].mean().rename("control")
    pairs = sinks.join(controls, on=key, how="inner")
    return pairs.dropna(subset=["loss", "control"])  # attention that no block pays is unknown


def _one_layer(
    cells: pd.DataFrame, layer: int, tail: float, rng: np.random.Generator
) -> LayerEffect:
    by_text = cells.groupby("text_id").agg(
        lost=("loss", "sum"), control=("control", "sum"), mass=("mass_clean", "sum")
    )
    net, mass = (by_text["lost"] - by_text["control"]).to_numpy(), by_text["mass"].to_numpy()
    low, high = _interval(net, mass, tail, rng)
    return LayerEffect(
        layer=int(layer),
        lost=float(net.sum() / mass.sum()),
        low=low,
        high=high,
        removed=float((cells["lifetime_edited"] == 0).mean()),
        prolonged=float((cells["lifetime_edited"] > cells["lifetime_clean"]).mean()),
        n_sinks=len(cells),
        n_texts=len(by_text),
    )


def _interval(
    net: np.ndarray, mass: np.ndarray, tail: float, rng: np.random.Generator
) -> tuple[float, float]:
    """Percentile interval of sum(net) / sum(mass) under resampling of texts."""
    if len(net) < 2:
        return float("nan"), float("nan")
    picks = rng.integers(len(net), size=(RESAMPLES, len(net)))
    ratios = net[picks].sum(1) / mass[picks].sum(1)
    low, high = np.percentile(ratios, [tail, 100 - tail])
    return float(low), float(high)


def _removes(row: LayerEffect) -> str:
    return (
        f"ablating it at the sink alone takes {row.lost:.0%} of the sink's attention mass beyond "
        f"what it takes from control tokens, and ends {row.removed:.0%} of the sinks"
    )


def _verdict(row: LayerEffect | None, outcome: str, why: str) -> Verdict:
    nan = float("nan")
    claim = "secondary sinks need the MLP of a single layer"
    return Verdict(
        claim=claim if row is None else f"secondary sinks need the MLP of layer {row.layer}",
        outcome=outcome,
        why=why,
        statistic="share of mass lost beyond controls",
        value=nan if row is None else row.lost,
        low=nan if row is None else row.low,
        high=nan if row is None else row.high,
        confidence=CONFIDENCE,
        controls="same edit at token twins, or at the nearest ordinary token",
        n_sinks=0 if row is None else row.n_sinks,
        n_texts=0 if row is None else row.n_texts,
    )
