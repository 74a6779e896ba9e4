"""Cells of ablations as tables of rows (tokens) by columns (layers)."""

import pandas as pd

from secondary_sinks.errors import SinkError
from secondary_sinks.types import mass_lost

MOST_ROWS = 60
TOKEN = ["text_id", "sink_pos", "pos"]
"""What tells edited tokens apart: a control belongs to a sink."""


def shares(effects: pd.DataFrame, role: str) -> pd.DataFrame:
    """The cells of a role with `unit`, the clean mass of their sink, and `share` of it lost."""
    for column in ("edit", "effect"):
        if effects[column].nunique() > 1:
            raise SinkError(f"a heat map shows one {column}; select one of the frame's first")
    sinks = effects[effects["role"] == "sink"].drop_duplicates(["text_id", "sink_pos"])
    unit = sinks.set_index(["text_id", "sink_pos"])["mass_clean"].rename("unit")
    cells = effects[effects["role"] == role].join(unit, on=["text_id", "sink_pos"])
    if cells["unit"].notna().sum() == 0:
        raise SinkError(f"no cell with role {role!r} and a sink whose mass is known")
    return cells.assign(share=mass_lost(cells["mass_clean"], cells["mass_edited"], cells["unit"]))


def strongest(cells: pd.DataFrame) -> pd.DataFrame:
    """One row per token, by falling clean mass of its sink; at most `MOST_ROWS`."""
    tokens = cells.drop_duplicates(TOKEN)
    ordered = tokens.sort_values(["unit", *TOKEN], ascending=[False, True, True, True])
    return ordered.head(MOST_ROWS).reset_index(drop=True)


def grid_of(cells: pd.DataFrame, rows: pd.DataFrame, layers: range, value: str) -> pd.DataFrame:
    """`value` as a table of rows by layers; missing where no cell was run."""
    grid = cells.pivot(index=TOKEN, columns="layer", values=value)
    return grid.reindex(index=pd.MultiIndex.from_frame(rows[TOKEN]), columns=list(layers))
