"""Tables as JSON lines: floats to the last digit, NaN as null, infinity as 1e999."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from secondary_sinks import files, memory


def write(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame, one JSON object per line."""
    columns = [
        [f"{json.dumps(str(name))}: {cell}" for cell in _cells(frame[name])] for name in frame
    ]
    with path.open("w", encoding="ascii", newline="\n") as file:
        for cells in zip(*columns, strict=True):
            file.write(f"{{{', '.join(cells)}}}\n")


def read(path: Path, kinds: Mapping[str, str]) -> pd.DataFrame:
    """Read a table with columns of the given kinds. Raises `ValueError` for any other table."""
    content = files.read_text(path, most=_most())
    rows = [json.loads(line) for line in content.rstrip("\n").split("\n") if line]
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or list(row) != list(kinds):
            raise ValueError(f"line {number} has other columns")
        for name, kind in kinds.items():
            if type(row[name]) not in _FITTING[kind]:
                raise ValueError(f"line {number}: {name} is {row[name]!r:.60}; expected {kind}")
    types = {name: _TYPES[kind] for name, kind in kinds.items()}
    return pd.DataFrame(rows, columns=list(kinds)).astype(types)


def _most() -> int:
    """Largest file in bytes whose rows fit in memory, where they take about ten times as much."""
    free = memory.free_ram()
    return files.MOST_BYTES if free is None else free // 10


_TYPES = {"int": "int64", "float": "float64", "bool": "bool", "str": "str"}
_FITTING: dict[str, tuple[type, ...]] = {
    **{"int": (int,), "float": (float, type(None))},
    **{"bool": (bool,), "str": (str,)},
}


def _cells(column: pd.Series) -> Iterator[str]:
    """Column values as JSON; infinity, which JSON lacks, becomes a number too large for a float.

    >>> list(_cells(pd.Series([0.5, float("nan"), float("-inf")])))
    ['0.5', 'null', '-1e999']
    """
    for value in column.tolist():
        if isinstance(value, float) and not math.isfinite(value):
            yield "null" if math.isnan(value) else f"{'-' if value < 0 else ''}1e999"
        else:
            yield json.dumps(value)
