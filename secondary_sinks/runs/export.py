"""The tables of a run for other programs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from secondary_sinks.errors import RunFolderError
from secondary_sinks.runs import columns, durable, parquet
from secondary_sinks.runs.opened import open as open_run

_WRITERS: dict[str, Callable[[pd.DataFrame, Path], Any]] = {
    "csv": lambda frame, part: frame.to_csv(part, index=False),
    "parquet": lambda frame, part: part.write_bytes(parquet.to_bytes(frame.attrs["table"], frame)),
    "jsonl": lambda frame, part: frame.to_json(
        part, orient="records", lines=True, double_precision=15
    ),
}
FORMATS = tuple(_WRITERS)


def export(folder: Path, format: str = "csv", out: Path | None = None) -> list[Path]:
    """Write every table in a format, with `schema.json`: columns, units, provenance.

    Into `out`, by default the folder `export` of the run. NaN is an empty field in CSV and null in
    JSON lines. Returns the files. Raises `RunFolderError` for an unknown format, and as `open`.
    """
    if format not in _WRITERS:
        raise RunFolderError(f"unknown format {format!r}; expected one of {', '.join(FORMATS)}")
    run = open_run(folder)
    place = folder / "export" if out is None else out
    frames = [run.table(name) for name in run.tables]
    if not frames:
        raise RunFolderError(f"{str(folder)!r} has no tables to export; run again with --force")
    durable.make_folder(place)
    written = []
    for frame in frames:
        path = place / f"{frame.attrs['table']}.{format}"
        durable.fill(path, lambda part, frame=frame: _WRITERS[format](frame, part))  # type: ignore[misc]
        written.append(path)
    schema = place / "schema.json"
    durable.write(schema, (json.dumps(_schema(frames), indent=2) + "\n").encode())
    return [*written, schema]


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
    return columns.TABLES[frame.attrs["table"]]
