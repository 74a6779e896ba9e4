"""Where a sweep stands, and whether its files are what was written. Nothing is changed."""

from dataclasses import dataclass
from pathlib import Path

from secondary_sinks.errors import RunFolderError
from secondary_sinks.runs import durable
from secondary_sinks.runs.folder import WORK, RunFolder
from secondary_sinks.sweeps.manifest import Manifest
from secondary_sinks.sweeps.stored_config import read_stored


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepStatus:
    """What of a sweep is done."""

    folder: str
    command: str
    models: tuple[str, ...]
    n_models: int
    """Models asked for; those not loaded yet are not among `models`."""
    n_texts: int
    n_units: int
    n_missing: int
    n_cells: int
    n_sinks: int
    failed: tuple[str, ...]
    finished: bool
    """Whether the tables and run.json are there."""
    complaints: tuple[str, ...]
    seconds: float
    """Seconds of computing so far."""

    def lines(self) -> list[str]:
        """For people."""
        todo = self.n_models - len(self.models)
        waiting = f", {todo} model(s) not begun" if todo else ""
        found = [
            f"{self.folder}: {'finished' if self.finished else 'not finished'}",
            f"  models    {', '.join(self.models)}{waiting}",
            f"  texts     {self.n_texts}",
            f"  units     {self.n_units - self.n_missing} of {self.n_units} done",
            f"  cells     {self.n_cells}, of {self.n_sinks} sinks",
            f"  computed  {self.seconds:.1f} s",
            *(f"  skipped   {what}" for what in self.failed),
            *(f"  damaged   {what}" for what in self.complaints),
        ]
        if not self.finished or self.n_missing or todo or self.complaints:
            found.append(f"  go on     {self.command or 'the same call of sweep()'}")
        return found


def sweep_status(folder: Path) -> SweepStatus:
    """Look at the folder of a sweep. Raises `RunFolderError` for another one."""
    stored, manifest = read_stored(folder), Manifest(folder)
    complaints = manifest.check()
    plans = stored.plans(manifest)
    keys = {task.key for plan in plans for task in plan.tasks}
    entries = [entry for entry in manifest.entries if entry.task in keys]
    last = {entry.task: entry for entry in entries}
    failed = [f"text {bad.text_id!r}: {bad.reason}" for p in plans for bad in p.prepared.bad]
    names = {task.key: text.text_id for plan in plans for text, task in plan.texts()}
    for entry in last.values():
        failed += [f"text {names[entry.task]!r}: {one['message']}" for one in entry.failures]
    return SweepStatus(
        folder=str(folder),
        command=stored.command,
        models=tuple(spec.name for spec, _ in stored.models),
        n_models=len(stored.config.models),
        n_texts=max((len(plan.prepared.texts) for plan in plans), default=0),
        n_units=sum(plan.n_units for plan in plans),
        n_missing=sum(plan.n_missing for plan in plans),
        n_cells=sum(entry.n_cells for entry in entries),
        n_sinks=sum(entry.n_sinks for entry in last.values()),
        failed=tuple(failed),
        finished=RunFolder(folder).has_record(),
        complaints=tuple(complaints),
        seconds=sum((took for entry in entries for took in entry.seconds.values()), 0.0),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What `verify` found."""

    n_files: int
    complaints: tuple[str, ...]
    command: str


def verify(folder: Path) -> Verified:
    """Compare every shard with the manifest and every table with `run.json`.

    Raises `RunFolderError` for a folder of no sweep.
    """
    manifest = Manifest(folder)
    manifest.read()
    shards = {s["name"] for entry in manifest.entries for s in entry.shards.values()}
    complaints = manifest.check()
    n_tables, wrong = _tables(folder)
    command, missing = _question(folder, manifest)
    return Verified(
        n_files=len(shards) + n_tables + 2,  # with the manifest and the config
        complaints=tuple(complaints + missing + wrong),
        command=command,
    )


def _question(folder: Path, manifest: Manifest) -> tuple[str, list[str]]:
    """The command of a sweep, and what its config says is not there though it is finished."""
    try:
        stored = read_stored(folder)
    except RunFolderError as error:
        if not (folder / WORK).is_dir():
            raise
        return "", [error.problem]
    missing = sum(plan.n_missing for plan in stored.plans(manifest))
    lost = missing and RunFolder(folder).has_record() and not _skipped(folder)
    what = f"{missing} units of the tables are not in the manifest"
    return stored.command, [what] if lost else []


def _skipped(folder: Path) -> bool:
    try:
        return bool(RunFolder(folder).record().get("sweep", {}).get("failed"))
    except RunFolderError:
        return False


def _tables(folder: Path) -> tuple[int, list[str]]:
    run = RunFolder(folder)
    if not run.has_record():
        return 0, []
    try:
        tables = run.record().get("sweep", {}).get("tables", {})  # a run has none
    except RunFolderError as error:
        return 1, [error.problem]
    wrong = []
    for name, sha256 in tables.items():
        path = folder / f"{name}.parquet"
        if not path.is_file():
            wrong.append(f"table {path.name} is missing")
        elif durable.sha256_of(path) != sha256:
            wrong.append(f"table {path.name} is damaged (its sha256 is not that of run.json)")
    return len(tables) + 1, wrong
