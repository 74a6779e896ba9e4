"""Cells of ablations as tables, one row per token and one column per layer."""

import pandas as pd

from secondary_sinks.errors import SinkError
from secondary_sinks.types import mass_lost

MOST_ROWS = 60
TOKEN = ["text_id", "sink_pos", "pos"]
"""Columns that identify an edited token; a control belongs to a sink."""


def loss_shares(effects: pd.DataFrame, role: str) -> pd.DataFrame:
    """Cells of a role, with `unit` (clean mass of the sink) and `share` (lost mass / unit)."""
    for column in ("edit", "effect"):
        if effects[column].nunique() > 1:
            raise SinkError(
                f"expected one {column} for a heat map; select one of the frame's first"
            )
    sinks = effects[effects["role"] == "sink"].drop_duplicates(["text_id", "sink_pos"])
    unit = sinks.set_index(["text_id", "sink_pos"])["mass_clean"].rename("unit")
    cells = effects[effects["role"] == role].join(unit, on=["text_id", "sink_pos"])
    if cells["unit"].notna().sum() == 0:
        raise SinkError(f"expected cells with role {role!r} whose sink has a known mass; got none")
    return cells.assign(share=mass_lost(cells["mass_clean"], cells["mass_edited"], cells["unit"]))


def strongest_rows(cells: pd.DataFrame) -> pd.DataFrame:
    """One row per token, in descending order of its sink's clean mass; at most `MOST_ROWS`."""
    tokens = cells.drop_duplicates(TOKEN)
    ordered = tokens.sort_values(["unit", *TOKEN], ascending=[False, True, True, True])
    return ordered.head(MOST_ROWS).reset_index(drop=True)


def grid_of(cells: pd.DataFrame, rows: pd.DataFrame, layers: range, value: str) -> pd.DataFrame:
    """`value` as a table of rows by layers; missing if a cell was not run."""
    grid = cells.pivot(index=TOKEN, columns="layer", values=value)
    return grid.reindex(index=pd.MultiIndex.from_frame(rows[TOKEN]), columns=list(layers))
