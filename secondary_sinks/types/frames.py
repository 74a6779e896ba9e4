"""Rows of plain data as a data frame."""

from dataclasses import fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def tidy(rows: list[dict[str, Any]], kind: type) -> "pd.DataFrame":
    """Rows as a data frame with the column types of the dataclass `kind`, even without rows."""
    import pandas as pd

    plain = (int, float, bool)
    kinds = {item.name: item.type if item.type in plain else str for item in fields(kind)}
    return pd.DataFrame(rows, columns=list(kinds)).astype(kinds)
