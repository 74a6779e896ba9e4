"""Damage: effect of an edit on the model's predictions, at the edited token and after it."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from secondary_sinks.display import count, rounded
from secondary_sinks.types.edits import SHORT

AT_TOKEN = ("role", "layer", "edit", "kl_at_token", "n_sinks")
CELL = ["text_id", "pos", "layer"]
REPORTED = ("writer", "enabler")
"""Roles for which damage is reported: ablating these MLPs ends a sink."""


def damage_at_tokens(effects: pd.DataFrame, roles: pd.DataFrame) -> pd.DataFrame:
    """Effect of ablating the writers and enablers of sinks on the prediction at the sink.

    One row per role, layer and edit. `kl_at_token` is KL(clean || edited) in nats of the
    prediction at the sink, median over the sinks for which the MLP of that layer has this role;
    `n_sinks` is the number of these sinks. Computed from the cells of a sweep, without running the
    model. Cells without a measured divergence are left out. Edits have their full label, also where
    the sweep was asked for them by a short form.
    """
    both = _measured(effects, roles[roles["role"].isin(REPORTED)])
    order = both["role"].map(list(REPORTED).index)
    groups = both.assign(order=order).groupby(["order", "role", "layer", "edit"], sort=True)
    found = groups["kl_at_token"].agg(kl_at_token="median", n_sinks="size").reset_index()
    return found[list(AT_TOKEN)]


def damage_by_layer(effects: pd.DataFrame, roles: pd.DataFrame) -> pd.DataFrame:
    """Effect of ablating each MLP up to the creation layer on the prediction at the sink.

    KL(clean || edited) in nats, whatever the role of the MLP: one row per layer, one column per
    edit, medians over the sinks of `roles`.
    """
    by_edit = _measured(effects, roles).groupby(["layer", "edit"])["kl_at_token"]
    return by_edit.median().unstack("edit")


def _measured(effects: pd.DataFrame, roles: pd.DataFrame) -> pd.DataFrame:
    """Cells of single MLPs at sinks with roles and a measured divergence."""
    if "kl_at_token" not in effects:
        effects = effects.assign(kl_at_token=float("nan"))
    of_sinks = effects["role"].eq("sink") & effects["site"].eq("mlp_out")
    cells = effects.loc[of_sinks, [*CELL, "edit", "kl_at_token"]].dropna(subset="kl_at_token")
    full = cells.assign(edit=[SHORT.get(edit, edit) for edit in cells["edit"]])
    return full.merge(roles[[*CELL, "role"]], on=CELL)


def damage_of_cells(cells: pd.DataFrame) -> pd.DataFrame:
    """Medians over recomputed cells, by edit and role.

    `kl_at_token` is KL(clean || edited) in nats at the edited token; `loss_later` is the change of
    the mean loss (nats) at later tokens, `loss_clean` that loss in the clean run.
    """
    names = ["kl_at_token", "loss_later", "loss_clean"]
    by_edit = cells.groupby(["edit", "role"], sort=False)
    return by_edit[names].median().assign(n_cells=by_edit.size()).reset_index()


def damage_in_words(rows: Iterable[Mapping[str, Any]]) -> str:
    """The rows of `damage_at_tokens` as a sentence; empty without rows.

    MLPs with fewer than half as many sinks as the one with most are only in the table.

    >>> row = {"role": "writer", "layer": 2, "kl_at_token": 0.35, "n_sinks": 9}
    >>> damage_in_words([row | {"edit": "zero"}])
    'KL at the sink (nats, median): MLP 2 (writer, alone or not, of 9 sinks) zero 0.35'
    """
    found = list(rows)
    most = max((row["n_sinks"] for row in found), default=0)
    by_mlp: dict[str, list[str]] = {}
    for row in found:
        if 2 * row["n_sinks"] >= most:
            role = "writer, alone or not," if row["role"] == "writer" else row["role"]
            name = f"MLP {row['layer']} ({role} of {count(row['n_sinks'], 'sink')})"
            by_mlp.setdefault(name, []).append(f"{row['edit']} {rounded(row['kl_at_token'], 2)}")
    words = [f"{name} {', '.join(numbers)}" for name, numbers in by_mlp.items()]
    return f"KL at the sink (nats, median): {'; '.join(words)}" if words else ""
