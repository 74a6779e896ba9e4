"""What the ablations show, and what they do not."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from secondary_sinks.questions import QUESTIONS, Answer

NOTEWORTHY = 0.1
"""Smallest share of sinks for which a side result is mentioned."""

EDIT_HEADS = {"trigger", "function", "eviction"}
"""Questions that edit attention."""

EDITS = {
    "zero": "zeroed",
    "twins": "replaced by its mean at the same token elsewhere, where that is not a sink",
    "mean": "replaced by its mean over the text's ordinary tokens",
    "none": "unchanged (a no-op, to check the measurement)",
}


def edit_words(edit: str | None) -> str | None:
    """The edits of a run, in words.

    >>> edit_words("zero,resample:3")
    'zeroed, or resample:3'
    """
    if edit is None:
        return None
    return ", or ".join(EDITS.get(one.strip(), one.strip()) for one in edit.split(","))


def nothing_shown(effects: pd.DataFrame | None, n_figures: int) -> str:
    """Why the page shows no ablations; empty if it shows some."""
    if effects is None:
        return "Only detection was run: no MLP was ablated."
    if effects.empty:
        return "There was no sink to ablate, so no MLP was tested."
    if not n_figures:
        return "No attention was measured at the ablated sinks, so no loss can be shown."
    return ""


def prolonging_layers(record: dict[str, Any]) -> list[str]:
    """Layers whose ablation prolongs sinks: a hint, since no control and no interval is made."""
    rows = [row for row in record.get("layer_effects", []) if row["prolonged"] >= NOTEWORTHY]
    return [
        f"With the MLP of layer {row['layer']} edited, {row['prolonged']:.0%} of the sinks last "
        "longer. This has neither control nor interval: a hint, not a verdict."
        for row in sorted(rows, key=lambda row: -row["prolonged"])
    ]


def limits(
    record: dict[str, Any], ablated: bool, answers: Mapping[str, Answer] | None = None
) -> list[str]:
    """Limits of the numbers, in sentences."""
    least = record["thresholds"].get("min_queries", 0)
    sentences = [
        f"Tokens seen by fewer than {least} queries, at the end of a text, are not classified.",
        "The numbers hold for this model, these texts and these thresholds.",
    ]
    if not ablated:
        return [
            "No MLP was ablated: the page shows where sinks are, not what makes them.",
            *sentences,
        ]
    asked = set(answers or ())
    tested = [
        "Lost mass is a direct effect: the queries of later tokens are those of the clean run."
    ]
    if not any(question.recomputes for question in QUESTIONS if question.name in asked):
        tested.append("How the queries of later tokens would change was not measured.")
    if "necessity" not in asked:
        tested.append("Except for the roles, one MLP was edited at a time; few groups were tested.")
    if "sufficiency" not in asked:
        tested.append(
            "Whether an MLP's output makes another token a sink was tested at token twins only."
            if record.get("writers")
            else "Whether an MLP alone can make a sink (sufficiency) was not tested."
        )
    if not asked & EDIT_HEADS:
        tested.append("Attention heads were not edited.")
    return [*tested, *sentences]
