"""`Tried`: one edit that was tried, what it did to its token, and what to the control."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from secondary_sinks.notebook.choice import SITES, Choice
from secondary_sinks.plots.labels import MISSING, make_visible
from secondary_sinks.types import Edit, Trace

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
class Tried:
    """One edit at a token and, where there is one, the same edit at its control."""

    choice: Choice
    edits: tuple[Edit, ...]
    """At the token; then at the control."""
    layers: tuple[int, ...]
    """Layers that means are over."""
    rows: tuple[Row, ...]
    """One per edit, as `causal.before_and_after` has them."""
    control_kind: str = ""
    """twin (same token id) or neighbour; empty without control."""
    curves: dict[str, Any]
    """Measures of the edited token and control by layer, `[layer][edit]`."""
    totals: tuple[Row, ...] = ()
    """One per edit, once asked for: mass_total, and loss_change (nats, mean from the token on)."""


def does(choice: Choice) -> str:
    """What an edit does, in words.

    >>> does(Choice(pos=20, layer=3, kind="scale", value=2.0))
    'scale the MLP output of layer 3 by 2'
    """
    what = f"the {SITES[choice.site]} of layer {choice.layer}"
    return {
        "none": "no edit",
        "zero": f"zero {what}",
        "mean": f"put the mean of ordinary tokens in place of {what}",
        "patch": f"patch {what} from position {choice.donor}",
        "scale": f"scale {what} by {choice.value:g}",
        "remove": f"remove the primary's component from {what}",
    }[choice.kind]


def named(trace: Trace, pos: int) -> str:
    """A token and its position, in visible characters.

    >>> from secondary_sinks.testing import Plant, plant
    >>> from secondary_sinks import observe
    >>> planted = plant([Plant(pos=0, forming=(1,), strength=400.0)])
    >>> named(observe(planted.model, planted.tokens), 0)
    "'[0]' (position 0)"
    """
    return f"'{make_visible(trace.token_strings[pos], most=24)}' (position {pos})"


def summary(trace: Trace, tried: Tried) -> str:
    """What an edit did, in one or two sentences: for a screen reader, and the list of trials."""
    own, *controls = tried.rows
    first = f"{does(tried.choice)} at {named(trace, own['pos'])}: {_went(own)}"
    if not controls:
        return f"{first[:1].upper()}{first[1:]}. There is no control."
    said = f"Control {named(trace, controls[0]['pos'])}, {tried.control_kind}: {_went(controls[0])}"
    return f"{first[:1].upper()}{first[1:]}. {said}."


def _went(row: Row) -> str:
    lifetime = f"lifetime {row['lifetime_clean']} to {row['lifetime_edited']} layers"
    return f"{lifetime}, attention mass {shown(row['mass_clean'])} to {shown(row['mass_edited'])}"


def shown(value: float) -> str:
    """A number to three digits, or a dash.

    >>> shown(0.28104), shown(25036.2), shown(float("nan"))
    ('0.281', '25,036', '–')
    """
    if math.isnan(value):
        return MISSING
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def table(tried: Tried) -> list[list[str]]:
    """Rows of the table: quantity, token before, after, control before, after."""
    lines = []
    for name, title in QUANTITIES.items():
        cells = [shown(float(row[f"{name}_{run}"])) for row in tried.rows for run in _RUNS]
        lines.append([title, *cells])
    return lines + (_total_lines(tried.rows, tried.totals) if tried.totals else [])


_RUNS = ("clean", "edited")


def _total_lines(rows: Sequence[Row], totals: Sequence[Row]) -> list[list[str]]:
    masses, losses = ["attention mass, total effect"], ["loss of later tokens, change (nats)"]
    for row, total in zip(rows, totals, strict=True):
        masses += [shown(row["mass_clean"]), shown(total["mass_total"])]
        losses += ["", shown(total["loss_change"])]
    return [masses, losses]
