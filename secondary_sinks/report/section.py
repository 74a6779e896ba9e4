"""The parts of a section of the page, and verdicts read from a record."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from secondary_sinks.report.figures import Panel
from secondary_sinks.report.words import MISSING
from secondary_sinks.types import Verdict
from secondary_sinks.types.lists import join_words


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of a table of the page; `numeric` and `mono` columns are shown as such."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[int, ...] = ()
    mono: tuple[int, ...] = ()
    keys: tuple[str, ...] = ()
    """Sink of each row, as `Piece.key` names it; the page links rows and tokens by it."""
    same: str = ""
    """What the columns hold that were left out, since all rows agree."""


HALF_HEIGHT = 700
"""Pixels that the figures of a section may take, one below the other, in half of the page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One section: its opening text, then its figures, then its table."""

    name: str
    title: str
    says: tuple[str, ...]
    judged: tuple[Panel, ...] = ()
    """The numbers behind its verdicts, folded: the list of all verdicts shows them too."""
    panels: tuple[Panel, ...] = ()
    table: Table | None = None

    @property
    def half_for_text(self) -> bool:
        """Whether its text takes the half of the page that its figures or its table leave."""
        return bool(len(self.panels) % 2 or (self.table and not self.panels))


def in_rows(sections: Sequence[Section]) -> list[list[Section]]:
    """The sections in their order; two that fit into half of the page each stand side by side."""
    rows: list[list[Section]] = []
    open_half = False
    for section in sections:
        half = sum(panel.height for panel in section.panels) < HALF_HEIGHT
        if half and open_half:
            rows[-1].append(section)
        else:
            rows.append([section])
        open_half = half and not open_half
    return rows


def without_constants(table: Table, optional: Sequence[str] = ()) -> Table:
    """The table without columns that are the same in all of its rows; `same` says what they hold.

    In `optional` columns, missing cells don't count. A table of one row stays as it is.
    """
    values = [{row[place] for row in table.rows} for place in range(len(table.head))]
    values = [
        cells - {MISSING} if name in optional else cells
        for name, cells in zip(table.head, values, strict=True)
    ]
    kept = [place for place, cells in enumerate(values) if len(cells) > 1]
    if len(table.rows) < 2 or not kept:
        return table
    left_out = [
        f"{name} ({''.join(cells)})"
        for name, cells in zip(table.head, values, strict=True)
        if len(cells) == 1
    ]
    return Table(
        head=tuple(table.head[place] for place in kept),
        rows=tuple(tuple(row[place] for place in kept) for row in table.rows),
        numeric=tuple(new for new, place in enumerate(kept) if place in table.numeric),
        mono=tuple(new for new, place in enumerate(kept) if place in table.mono),
        keys=table.keys,
        same=f"The same in all rows: {join_words(left_out)}." if left_out else "",
    )


def as_verdicts(rows: Sequence[Mapping[str, Any]]) -> list[Verdict]:
    """Verdicts of a record; older records lack fields, and a missing number is NaN."""
    names = {item.name for item in fields(Verdict)}
    missing = dict.fromkeys(("value", "low", "high"), math.nan)
    known = [{k: v for k, v in row.items() if k in names and v is not None} for row in rows]
    return [Verdict(**(missing | row)) for row in known]
