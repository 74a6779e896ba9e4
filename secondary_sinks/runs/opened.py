"""`open`: the folder of any run -> tidy frames with their units and provenance."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from secondary_sinks.errors import RunFolderError
from secondary_sinks.runs import columns, parquet
from secondary_sinks.runs.folder import RECORD, RunFolder

PROVENANCE = ("key", "command", "commit", "device", "dtype", "seed", "versions")


class Opened:
    """The tables of a finished run, each read on first use.

    The `attrs` of a frame hold its `units` (by column), `schema` and `provenance`.
    """

    def __init__(self, path: str | Path) -> None:
        """Read `run.json`. Raises `RunFolderError` if it is missing."""
        self._folder = RunFolder(path)
        if not self._folder.has_record() and (self._folder.path / "sweep").is_dir():
            raise RunFolderError(
                f"{str(path)!r} is an unfinished sweep",
                f"run its command again (see secondary-sinks status {path})",
            )
        self.record = self._folder.record()

    @cached_property
    def sinks(self) -> pd.DataFrame:
        """One row per sink."""
        return self.table("sinks")

    @cached_property
    def effects(self) -> pd.DataFrame:
        """One row per cell, that is, per edited token. Raises `RunFolderError` after `detect`."""
        return self.table("effects")

    @cached_property
    def trace(self) -> pd.DataFrame:
        """One row per text, layer and position; large."""
        return self.table("trace")

    @cached_property
    def roles(self) -> pd.DataFrame:
        """One row per sink and MLP. Raises `RunFolderError` if roles were not asked for."""
        return self.table("roles")

    @property
    def tables(self) -> list[str]:
        """Names of the tables in the folder."""
        return [name for name in columns.TABLES if (self.path / f"{name}.parquet").is_file()]

    @property
    def path(self) -> Path:
        """Path of the folder."""
        return self._folder.path

    @property
    def models(self) -> list[dict[str, Any]]:
        """One record per model: name in the tables, hashes and sizes. Raises `RunFolderError`."""
        try:
            if "models" not in self.record:
                return [{"label": self.record["model"]["name"], **self.record["model"]}]
            first, *rest = self.record["models"]
            return [{"label": one["label"], **one["model"]} for one in (first, *rest)]
        except (KeyError, TypeError, ValueError) as error:
            raise RunFolderError(
                f"{str(self.path / RECORD)!r} is not a complete record: it does not name the model",
                "run again with --force",
            ) from error

    def table(self, name: str) -> pd.DataFrame:
        """A table by name, checked against its schema. Raises `RunFolderError`."""
        frame = self._folder.table(name)
        frame = columns.check_columns(name, frame, self.models[0]["label"])
        frame.attrs = {
            "table": name,
            "schema": parquet.SCHEMAS[name],
            "units": {key: column.unit for key, column in columns.TABLES[name].items()},
            "provenance": self.provenance,
        }
        return frame

    @property
    def provenance(self) -> dict[str, Any]:
        """Origin of the numbers: command, commit, versions, models and their hashes."""
        found = {key: self.record[key] for key in PROVENANCE if key in self.record}
        return found | {"models": self.models}


def by_model(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Split the record of a run into one per model, as if each model had been run alone."""
    if "model" in record:
        return [dict(record)]
    return [{**record, **one, "models": [one]} for one in record["models"]]


def open(path: str | Path) -> Opened:
    """The tables of the run in a folder: `open(DIR).effects`, `.sinks`, `.trace`.

    Raises `RunFolderError` for a folder that holds no finished run, and for tables whose schema
    this version cannot read.
    """
    return Opened(path)
