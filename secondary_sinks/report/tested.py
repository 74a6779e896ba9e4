"""What the ablations say, and what they don't."""

import math
from typing import Any

import pandas as pd

from secondary_sinks.report.words import count

NOTEWORTHY = 0.1
"""Least share of sinks for which a side result is told."""

EDITS = {
    "zero": "zeroed",
    "mean": "replaced by its mean over the text's ordinary tokens",
    "none": "left as it is (a no-op, to check the measurement)",
}


def verdicts(record: dict[str, Any]) -> list[dict[str, str]]:
    """The run's verdicts: outcome, claim, reason, and the number behind it."""
    return [
        {
            "outcome": verdict["outcome"],
            "claim": verdict["claim"],
            "why": verdict["why"],
            "number": _number(verdict),
        }
        for verdict in record.get("verdicts", [])
    ]


def nothing_shown(effects: pd.DataFrame | None, n_figures: int) -> str:
    """Why the page shows no ablations; empty when it shows some."""
    if effects is None:
        return "Only detection was run: no MLP was ablated."
    if effects.empty:
        return "There was no sink to ablate, so no MLP was tested."
    if not n_figures:
        return "The ablated sinks draw no attention that was measured, so no loss can be given."
    return ""


def prolonged(record: dict[str, Any]) -> list[str]:
    """Layers whose ablation lets sinks live longer: their MLPs have a part in ending them."""
    rows = [row for row in record.get("layer_effects", []) if row["prolonged"] >= NOTEWORTHY]
    return [
        f"Editing the MLP of layer {row['layer']} prolongs the life of {row['prolonged']:.0%} of "
        "the sinks: it has a part in ending them."
        for row in sorted(rows, key=lambda row: -row["prolonged"])
    ]


def basis(record: dict[str, Any]) -> list[str]:
    """What the verdicts rest on, said once: sample, controls."""
    found = [
        f"{count(verdict['n_sinks'], 'sink')} in {count(verdict['n_texts'], 'text')}; "
        f"controls: {verdict['controls']}"
        for verdict in record.get("verdicts", [])
        if verdict["n_sinks"]
    ]
    return list(dict.fromkeys(found))


def limits(record: dict[str, Any], ablated: bool) -> list[str]:
    """What the numbers do not say."""
    least = record["thresholds"].get("min_queries", 0)
    sentences = [
        f"Tokens seen by fewer than {least} queries, at the end of a text, are not judged.",
        "The numbers hold for this model, these texts and these thresholds.",
    ]
    if not ablated:
        return [
            "No MLP was ablated: the page says where sinks are, not what makes them.",
            *sentences,
        ]
    return [
        "Lost mass is a direct effect: the queries of later tokens are kept as in the clean run. "
        "How later layers would adapt their queries was not measured.",
        "One MLP was edited at a time, at one token. Attention heads, groups of layers and "
        "sufficiency (whether an MLP alone can make a sink) were not tested.",
        *sentences,
    ]


def _number(verdict: dict[str, Any]) -> str:
    value, low, high = (_float(verdict[key]) for key in ("value", "low", "high"))
    if math.isnan(value):
        return ""
    found = f"{verdict['statistic']}: {value:.2f}"
    if math.isnan(low) or math.isnan(high):
        return f"{found}, without an interval"
    return f"{found} ({verdict['confidence']:.0%} interval {low:.2f} to {high:.2f})"


def _float(value: float | None) -> float:
    return float("nan") if value is None else float(value)
