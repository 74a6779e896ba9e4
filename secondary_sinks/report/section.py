"""The parts of a section of the page, and verdicts read from a record."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from secondary_sinks.report.figures import Panel
from secondary_sinks.types import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of a table of the page, and which columns are numeric."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One section: its opening text, then its figures, then its table."""

    name: str
    title: str
    says: tuple[str, ...]
    panels: tuple[Panel, ...] = ()
    table: Table | None = None


def verdicts_of(rows: Sequence[Mapping[str, Any]]) -> list[Verdict]:
    """Verdicts of a record; older records lack fields, and a missing number is NaN."""
    names = {item.name for item in fields(Verdict)}
    missing = dict.fromkeys(("value", "low", "high"), math.nan)
    known = [{k: v for k, v in row.items() if k in names and v is not None} for row in rows]
    return [Verdict(**(missing | row)) for row in known]
