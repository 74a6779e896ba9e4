"""The section on roles: which MLP writes, which enables, and what ablating it destroys."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from secondary_sinks.questions import damage_by_layer, levels_in, shares_of_roles
from secondary_sinks.report.claims import ROLES
from secondary_sinks.report.figures import verdict_panels
from secondary_sinks.report.section import Section, Table, verdicts_of
from secondary_sinks.report.words import count, format_number, percent

DAMAGED_BY = {"zero": "KL, zeroed", "mean:twins": "KL, twin mean"}
"""Edits whose damage is shown with the roles, and their column headings."""
KL = (
    "KL: divergence (nats) between the model's clean prediction at the sink and that without the "
    "MLP's output (zeroed, or replaced by that at the same token elsewhere); median over all "
    "sinks tested. Where it is large, the edit destroys more than the sink."
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
    head = (*head, "sinks tested", "texts")
    without = len(roles.loc[roles["n_donors"] == 0, ["text_id", "pos"]].drop_duplicates())
    says = [
        "Which MLP writes the sinks, and which ones only enable the writer? Replacing a writer's "
        "output by that at the same token elsewhere ends the sink; patching its output in there "
        "makes a sink; restoring it alone brings the sink back; and it is aligned with the "
        "primary. Replacing an enabler's output ends the sink too, but restoring a later MLP's "
        "output alone brings it back."
    ]
    words = (
        f"{count(without, 'sink')} undecided: the token occurs nowhere else without being a sink."
    )
    says += [words] if without else []
    says += [KL] if damage else []
    table = Table(head=head, rows=rows, numeric=tuple(range(1, len(head)))) if rows else None
    return Section(
        name="roles",
        title=ROLES,
        says=tuple(says),
        panels=tuple(verdict_panels("roles", verdicts_of(record.get("writers", ())))),
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
