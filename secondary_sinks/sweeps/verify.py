"""Check that the files of a folder are what was written. Changes nothing."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secondary_sinks import files
from secondary_sinks.errors import RunFolderError
from secondary_sinks.runs import parquet, whole_records
from secondary_sinks.runs.export import read_export
from secondary_sinks.runs.folder import RECORD, TABLES, RunFolder
from secondary_sinks.sweeps.manifest import Manifest
from secondary_sinks.sweeps.plan import Plan
from secondary_sinks.sweeps.status import (
    EXPERIMENTS,
    EXPORT,
    SWEEP,
    exported,
    findings,
    kind_of,
    outcome_of,
)
from secondary_sinks.sweeps.stored_config import Stored, read_stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """The findings of `verify`."""

    n_files: int
    complaints: tuple[str, ...]
    command: str
    """The command that wrote the folder; empty if it was not recorded."""
    note: str = ""
    """What could not be checked, or is not finished."""


def verify(folder: Path) -> Verified:
    """Compare every shard with the manifest, and every table with `run.json`.

    Tables without a recorded SHA-256, such as those of experiments, are read with their page
    checksums. Raises `RunFolderError` for a folder that the tool did not write, and for a
    run whose record is not whole.
    """
    kind = kind_of(folder)
    if kind == EXPERIMENTS:
        found = findings(folder)
        for path in found:
            outcome_of(path)
        tables = [table for path in found for table in sorted(path.parent.glob("*.parquet"))]
        wrong = tuple(_unreadable(tables))
        note = "experiments record no SHA-256: their tables were read with their page checksums"
        return Verified(n_files=len(found) + len(tables), complaints=wrong, command="", note=note)
    if kind == EXPORT:
        for path in (found := exported(folder)):
            read_export(path)  # raises where a table differs from the schema
        note = "exports record no SHA-256: their tables were compared with schema.json"
        return Verified(n_files=len(found) + 1, complaints=(), command="", note=note)
    return _sweep(folder) if kind == SWEEP else _run(folder)


def _run(folder: Path) -> Verified:
    n_tables, wrong, note = _tables(folder)
    if not wrong:
        whole_records(RunFolder(folder))
    return Verified(n_files=n_tables, complaints=tuple(wrong), command=_command(folder), note=note)


def _sweep(folder: Path) -> Verified:
    manifest = Manifest(folder)
    manifest.read()
    shards = {s["name"] for entry in manifest.entries for s in entry.shards.values()}
    complaints = manifest.check()
    n_tables, wrong, note = _tables(folder)
    command = ""
    try:
        stored = read_stored(folder)
    except RunFolderError as error:
        complaints.append(error.problem)
    else:
        command = stored.command
        lacking = _lacking(folder, stored, stored.plans(manifest), manifest)
        complaints += lacking
        if not lacking and not RunFolder(folder).has_record():
            note = "the sweep is not finished: the same command resumes it"
    return Verified(
        n_files=len(shards) + n_tables + 2,  # plus the manifest and the config
        complaints=tuple(complaints + wrong),
        command=command or _command(folder),
        note=note,
    )


def _lacking(folder: Path, stored: Stored, plans: list[Plan], manifest: Manifest) -> list[str]:
    """Parts that a finished sweep should have but lacks."""
    if RunFolder(folder).has_record():
        n_recorded = _record(folder).get("sweep", {}).get("n_units", 0)
        lost = n_recorded - sum(len(keys) for plan in plans for _, keys in plan.present(manifest))
        return [f"{lost} units of the tables are not in the manifest"] if lost > 0 else []
    tables = [name for name in TABLES if (folder / f"{name}.parquet").is_file()]
    whole = len(plans) == len(stored.config.models) and not any(plan.n_missing for plan in plans)
    return [f"{RECORD} is missing, though all cells are done"] if tables or whole else []


def _command(folder: Path) -> str:
    return str(_record(folder).get("command", ""))


def _record(folder: Path) -> dict[str, Any]:
    """`run.json`; empty if unreadable, which `_tables` reports."""
    try:
        return RunFolder(folder).record()
    except RunFolderError:
        return {}


def _tables(folder: Path) -> tuple[int, list[str], str]:
    """Number of files in `run.json`, the ones that differ from it, and what it leaves open."""
    run = RunFolder(folder)
    if not run.has_record():
        return 0, [], ""
    try:
        record = run.record()
    except RunFolderError as error:
        return 1, [error.problem], ""
    tables = record.get("tables") or record.get("sweep", {}).get("tables", {})
    if not tables or not isinstance(tables, dict):
        paths = sorted(folder.glob("*.parquet"))
        note = f"{RECORD} has no SHA-256 of them: tables were read with their page checksums"
        return len(paths) + 1, list(_unreadable(paths)), note
    return len(tables) + 1, list(_changed(folder, tables)), ""


def _changed(folder: Path, tables: dict[str, str]) -> Iterable[str]:
    for name, sha256 in tables.items():
        path = folder / f"{name}.parquet"
        if not path.is_file():
            yield f"table {path.name} is missing"
        elif files.sha256_of(path) != sha256:
            yield f"table {path.name} is damaged (its sha256 is not that of {RECORD})"


def _unreadable(paths: Iterable[Path]) -> Iterable[str]:
    for path in paths:
        try:
            parquet.read(path)
        except (OSError, ValueError, RunFolderError) as error:
            yield f"table {path.name} is damaged ({error})"
