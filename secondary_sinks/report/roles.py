"""The section on roles: which MLP writes, which enables, and what ablating it destroys."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from secondary_sinks.questions import damage_by_layer, levels_in, shares_of_roles
from secondary_sinks.report.claims import ROLES
from secondary_sinks.report.figures import judged
from secondary_sinks.report.section import Section, Table, told
from secondary_sinks.report.words import count, format_number, percent

DAMAGED_BY = {"zero": "KL, zeroed", "mean:twins": "KL, by twins"}
"""Edits whose damage is shown with the roles, and their column headings."""
KL = (
    "KL: divergence in nats of the model's prediction at the sink without the MLP's output "
    "(zeroed, or replaced by that at the same token elsewhere) from the clean one, median over all "
    "sinks asked. Where it is large, the edit destroys more than the sink."
)


def roles_section(
    record: Mapping[str, Any], roles: pd.DataFrame, effects: pd.DataFrame | None
) -> Section:
    """How often each MLP has which role, by level; MLPs without any role are left out."""
    found = shares_of_roles(roles)
    damage = {} if effects is None else _damage(effects, roles)
    edits = DAMAGED_BY if damage else {}
    found = found[found["neither"] < 1]
    rows = tuple(
        (
            str(row["level"]),
            str(row["layer"]),
            *(percent(row[role]) for role in ("writer", "enabler", "neither", "undecided")),
            *(nats(damage.get((row["level"], row["layer"], edit))) for edit in edits),
            str(row["n_sinks"]),
            str(row["n_texts"]),
        )
        for row in found.to_dict("records")
    )
    head = ("sinks", "MLP", "writer", "enabler", "neither", "undecided", *edits.values())
    head = (*head, "sinks asked", "texts")
    without = len(roles.loc[roles["n_donors"] == 0, ["text_id", "pos"]].drop_duplicates())
    says = [
        "Which MLP writes the sinks, and which only enable the one that does? A writer's output, "
        "replaced by that at the same token elsewhere, ends "
        "the sink; put there, it makes one; restored alone, it brings the sink back; and it lies "
        "along the primary. An enabler's replacement ends the sink too, but a later MLP's output "
        "alone brings it back."
    ]
    says += [f"{count(without, 'sink')} without such a token: undecided."] if without else []
    says += [KL] if damage else []
    table = Table(head=head, rows=rows, numeric=tuple(range(1, len(head)))) if rows else None
    return Section(
        name="roles",
        title=ROLES,
        says=tuple(says),
        panels=tuple(judged("roles", told(record.get("writers", ())))),
        table=table,
    )


def _damage(effects: pd.DataFrame, roles: pd.DataFrame) -> dict[tuple[str, int, str], float]:
    """Median divergence at the sinks, by level, layer and edit."""
    return {
        (name, int(str(layer)), str(edit)): float(value)
        for name, part in levels_in(roles)
        for edit, column in damage_by_layer(effects, part).items()
        for layer, value in column.items()
    }


def nats(value: float | None) -> str:
    """A divergence in nats; a dash if it was not measured.

    >>> nats(0.3461), nats(None)
    ('0.35', '–')
    """
    return format_number(math.nan if value is None else value, ".2g")
