"""`Trial`: one edit and its effects at the token and at its control."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from secondary_sinks.display import rounded
from secondary_sinks.notebook.choice import SITES, UNITS, Choice
from secondary_sinks.plots.labels import MISSING, make_visible
from secondary_sinks.types import Edit, Trace, format_layers

QUANTITIES = {
    "alignment": "alignment",
    "alignment_centred": "centred alignment",
    "norm": "norm",
    "mass": "attention mass",
    "lifetime": "lifetime (layers)",
}
"""Rows of the table before and after."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One edit at a token and, if there is a control, the same edit there."""

    choice: Choice
    edits: tuple[Edit, ...]
    """The edit at the token, then at the control."""
    layers: tuple[int, ...]
    """Layers that means are taken over."""
    rows: tuple[Row, ...]
    """One row per edit, as in `causal.before_and_after`."""
    control_kind: str = ""
    """twin (same token id) or neighbour; empty without a control."""
    curves: dict[str, Any]
    """Measures of the edited token and control by layer, `[layer][edit]`."""
    totals: tuple[Row, ...] = ()
    """One row per edit, if total effects were computed: mass_total and loss_change (nats, mean over
    the later tokens)."""


def describe_edit(choice: Choice) -> str:
    """Description of an edit.

    >>> describe_edit(Choice(pos=20, layer=3, kind="scale", value=2.0))
    'scale the MLP output of layer 3 by 2'
    """
    what = f"the {SITES[choice.site]} of layer {choice.layer}"
    if choice.units:
        what += f" ({UNITS[choice.site]} {format_layers(choice.units)})"
    return {
        "none": "no edit",
        "zero": f"zero {what}",
        "mean": f"replace {what} by the mean of ordinary tokens",
        "patch": f"patch {what} from position {choice.donor}",
        "scale": f"scale {what} by {choice.value:g}",
        "remove": f"remove the primary's component from {what}",
    }[choice.kind]


def describe_token(trace: Trace, pos: int) -> str:
    """Description of a token, with visible characters and its position.

    >>> from secondary_sinks.testing import Plant, plant
    >>> from secondary_sinks import observe
    >>> planted = plant([Plant(pos=0, forming=(1,), strength=400.0)])
    >>> describe_token(observe(planted.model, planted.tokens), 0)
    "'[0]' (position 0)"
    """
    return f"'{make_visible(trace.token_strings[pos], most=24)}' (position {pos})"


def summary(trace: Trace, trial: Trial) -> str:
    """The effect of an edit in one or two sentences, for screen readers and the list of trials."""
    own, *controls = trial.rows
    where = f"{describe_edit(trial.choice)} at {describe_token(trace, own['pos'])}"
    total, control_total = trial.totals or ({}, {})
    first = f"{where[:1].upper()}{where[1:]}: {_describe_outcome(own | total)}"
    if not controls:
        return f"{first}. There is no control."
    control = f"{describe_token(trace, controls[0]['pos'])}, {trial.control_kind}"
    return f"{first}. Control {control}: {_describe_outcome(controls[0] | control_total)}."


def _describe_outcome(row: Row) -> str:
    lifetime = f"lifetime {row['lifetime_clean']} to {row['lifetime_edited']} layers"
    clean = row["mass_clean"]
    direct, *total = [
        f"{format_value(row[name])}{format_change(clean, row[name])}"
        for name in ("mass_edited", "mass_total")
        if name in row
    ]
    mass = f"attention mass {format_value(clean)} to {direct}"
    return f"{lifetime}, {mass}" + "".join(f", in total to {after}" for after in total)


def format_change(clean: float, edited: float) -> str:
    """Relative change in per cent, in brackets; empty if it is not defined.

    >>> format_change(0.25, 0.05), format_change(0.01, 0.02), format_change(0.0, 0.1)
    (' (-80%)', ' (+100%)', '')
    """
    if not clean or math.isnan(clean) or math.isnan(edited):
        return ""
    return f" ({edited / clean - 1:+.0%})"


def format_value(value: float) -> str:
    """A number to three digits, or a dash.

    >>> format_value(0.28104), format_value(25036.2), format_value(float("nan"))
    ('0.281', '25,036', '–')
    """
    if math.isnan(value):
        return MISSING
    return f"{value:,.0f}" if abs(value) >= 1000 else rounded(value)


def table(trial: Trial) -> list[list[str]]:
    """Rows of the table: quantity, token before, after, control before, after."""
    lines = []
    for name, title in QUANTITIES.items():
        cells = [format_value(float(row[f"{name}_{run}"])) for row in trial.rows for run in _RUNS]
        lines.append([title, *cells])
    return lines + (_total_lines(trial.rows, trial.totals) if trial.totals else [])


_RUNS = ("clean", "edited")


def _total_lines(rows: Sequence[Row], totals: Sequence[Row]) -> list[list[str]]:
    masses, losses = ["attention mass, total effect"], ["loss of later tokens, change (nats)"]
    for row, total in zip(rows, totals, strict=True):
        masses += [format_value(row["mass_clean"]), format_value(total["mass_total"])]
        losses += ["", format_value(total["loss_change"])]
    return [masses, losses]
