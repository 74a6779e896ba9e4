"""Export the tables of a run for other programs, and read them back."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api.types import infer_dtype

from secondary_sinks import files, memory
from secondary_sinks.errors import RunFolderError
from secondary_sinks.runs import as_csv, columns, durable, parquet
from secondary_sinks.runs.folder import RECORD, WORK
from secondary_sinks.runs.opened import open as open_run


def _write_jsonl(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame, one JSON object per line: floats to the last digit, NaN as null."""
    columns = [
        [f"{json.dumps(str(name))}: {cell}" for cell in _cells(frame[name])] for name in frame
    ]
    with path.open("w", encoding="ascii", newline="\n") as file:
        for cells in zip(*columns, strict=True):
            file.write(f"{{{', '.join(cells)}}}\n")


def _read_jsonl(path: Path, kinds: Mapping[str, str]) -> pd.DataFrame:
    """Read a table with columns of the given kinds. Raises `ValueError` for any other table."""
    free = memory.free_ram()
    most = files.MOST_BYTES if free is None else free // 10  # rows take ten times as much
    content = files.read_text(path, most=most)
    rows = [files.load_json(line) for line in content.rstrip("\n").split("\n") if line]
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or list(row) != list(kinds):
            raise ValueError(f"line {number} has other columns")
        for name, kind in kinds.items():
            if type(row[name]) not in _FITTING[kind]:
                raise ValueError(f"line {number}: {name} is {row[name]!r:.60}; expected {kind}")
    types = {name: as_csv.TYPES[kind] for name, kind in kinds.items()}
    return pd.DataFrame(rows, columns=list(kinds)).astype(types)


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


_WRITERS: dict[str, Callable[[pd.DataFrame, Path], Any]] = {
    "csv": as_csv.write,
    "parquet": lambda frame, part: part.write_bytes(parquet.to_bytes(frame.attrs["table"], frame)),
    "jsonl": _write_jsonl,
}
_READERS: dict[str, Callable[[Path, dict[str, str]], pd.DataFrame]] = {
    "csv": as_csv.read,
    "parquet": lambda path, kinds: parquet.read(path).to_pandas(ignore_metadata=True),
    "jsonl": _read_jsonl,
}
FORMATS = tuple(_WRITERS)
SCHEMA = "schema.json"


def export(folder: Path, format: str = "csv", out: Path | None = None) -> list[Path]:
    """Write every table in a format, with `schema.json`: columns, units, provenance.

    Writes to `out`, by default the folder `export` of the run, and returns the files. `read_export`
    reads them back. NaN is an empty field in CSV and null in JSON lines; `as_csv` describes how CSV
    stores texts. Raises `RunFolderError` for an unknown format, for a column that holds anything
    but numbers, truth values or texts, and in the same cases as `open`.
    """
    if format not in _WRITERS:
        raise RunFolderError(f"unknown format {format!r}", f"expected one of {', '.join(FORMATS)}")
    run = open_run(folder)
    place = folder / "export" if out is None else out
    frames = [_plain(run.table(name)) for name in run.tables]
    if not frames:
        raise RunFolderError(f"{str(folder)!r} has no tables to export", "run again with --force")
    _check_place(place, [*(f"{frame.attrs['table']}.{format}" for frame in frames), SCHEMA])
    durable.make_folder(place)
    written = []
    for frame in frames:
        path = place / f"{frame.attrs['table']}.{format}"
        durable.fill(path, lambda part, frame=frame: _WRITERS[format](frame, part))  # type: ignore[misc]
        written.append(path)
    schema = place / SCHEMA
    durable.write(schema, (json.dumps(_schema(frames), indent=2) + "\n").encode())
    return [*written, schema]


def _check_place(place: Path, names: list[str]) -> None:
    """Raise `RunFolderError` if the export would replace a run or files that are not an export."""
    if (place / RECORD).exists() or (place / WORK).exists():
        raise RunFolderError(f"{str(place)!r} holds a run", "choose another --out")
    there = [name for name in names if (place / name).exists()]
    if there and not (place / SCHEMA).is_file():
        raise RunFolderError(
            f"{str(place)!r} holds {there[0]!r}, which no export wrote", "choose another --out"
        )


def read_export(path: Path) -> pd.DataFrame:
    """Read a table that `export` wrote; it equals the table of the run.

    The types of its columns come from `schema.json`. Raises `RunFolderError` for a file that is not
    an export, or whose `schema.json` is missing.
    """
    try:
        schema = files.load_json(files.read_text(path.parent / SCHEMA))
        described = schema["tables"][path.stem]["columns"]
        kinds = {name: column["kind"] for name, column in described.items()}
        frame = _READERS[path.suffix.removeprefix(".")](path, kinds)
        if list(frame) != list(kinds):
            raise ValueError("its columns are others")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise RunFolderError(
            f"{str(path)!r} is not a table of an export with its {SCHEMA} ({error}); export again"
        ) from error
    return frame


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with columns of kinds that all formats can hold. Raises `RunFolderError` otherwise.

    Half-precision numbers become float64, which is exact.
    """
    types = {"int": "int64", "float": "float64", "bool": "bool"}
    kinds = {name: _kind(str(name), frame) for name in frame}
    return frame.astype({name: types[kind] for name, kind in kinds.items() if kind in types})


def _kind(name: str, frame: pd.DataFrame) -> str:
    """The kind of a column, as named in the schema. Raises `RunFolderError` for other kinds."""
    column = frame[name]
    found = {"i": "int", "u": "int", "f": "float", "b": "bool"}.get(column.dtype.kind)
    if found is None and infer_dtype(column, skipna=False) in ("string", "empty"):
        found = "str"
    if found is None or (found == "int" and len(column) and column.max() >= 2**63):
        raise RunFolderError(
            f"column {name!r} of table {frame.attrs['table']!r} is {column.dtype}",
            "expected whole numbers below 2^63, floats, truth values or texts without a gap",
        )
    return found


def _schema(frames: list[pd.DataFrame]) -> dict[str, Any]:
    tables = {
        frame.attrs["table"]: {
            "schema": frame.attrs["schema"],
            "columns": {name: column._asdict() for name, column in _columns(frame).items()},
        }
        for frame in frames
    }
    return {"tables": tables, "provenance": frames[0].attrs["provenance"]}


def _columns(frame: pd.DataFrame) -> dict[str, columns.Column]:
    """Columns of a frame: those of the schema first, then all others."""
    known = columns.TABLES[frame.attrs["table"]]
    further = "no column of this schema"
    return {
        str(name): known.get(str(name), columns.Column(_kind(str(name), frame), "", further))
        for name in frame
    }
