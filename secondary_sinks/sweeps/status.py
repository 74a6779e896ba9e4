"""Progress of a run or a sweep. Changes nothing."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from secondary_sinks import files
from secondary_sinks.display import count
from secondary_sinks.errors import RunFolderError
from secondary_sinks.runs import whole_records
from secondary_sinks.runs.export import FORMATS, SCHEMA, read_export
from secondary_sinks.runs.folder import OWN, RECORD, WORK, RunFolder
from secondary_sinks.sweeps.manifest import Manifest
from secondary_sinks.sweeps.stored_config import read_stored

FINDING = "verdict.json"
"""Name of the file that an experiment writes last into its folder."""
SWEEP, RUN, EXPERIMENTS, EXPORT = "sweep", "run", "experiments", "export"


def kind_of(folder: Path) -> str:
    """Kind of a folder: `SWEEP`, `RUN`, `EXPERIMENTS` or `EXPORT`.

    A run that can resume keeps its cells as a sweep does, and counts as `SWEEP`. Raises
    `RunFolderError` for any other folder, naming what it holds.
    """
    if (folder / WORK).is_dir():
        return SWEEP
    files.refuse_special(folder / RECORD)
    if (folder / RECORD).is_file():
        return RUN
    if findings(folder):
        return EXPERIMENTS
    if (folder / SCHEMA).is_file():
        return EXPORT
    raise RunFolderError(
        f"{str(folder)!r} {_what(folder)}",
        "expected the folder of a run, a sweep, a merge, an export or of experiments",
    )


def exported(folder: Path) -> list[Path]:
    """Tables in a folder that `export` wrote."""
    return sorted(one for one in folder.iterdir() if one.suffix.removeprefix(".") in FORMATS)


def findings(folder: Path) -> list[Path]:
    """Records of the experiments in a folder: its own, or one per folder below it."""
    own = folder / FINDING
    return [own] if own.is_file() else sorted(folder.glob(f"*/{FINDING}"))


def outcome_of(finding: Path) -> str:
    """The outcome of an experiment, or "failed". Raises `RunFolderError` for a damaged record."""
    try:
        found = files.unseal(files.load_json(files.read_text(finding)), required=False)
        return "failed" if "failed" in found else str(found["verdict"]["outcome"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunFolderError(
            f"{str(finding)!r} is damaged, or was changed ({type(error).__name__}: {error})",
            "move it away, and run its experiment again",
        ) from error


def _what(folder: Path) -> str:
    """Description of a path that is no folder of ours."""
    if not folder.exists():
        return "does not exist"
    if not folder.is_dir():
        return "is a file"
    names = sorted(item.name for item in folder.iterdir())
    if not names:
        return "is an empty folder"
    tables = [name for name in names if name in OWN]
    if tables:
        return f"holds {tables[0]!r} but no {RECORD}: a run that was not finished"
    return f"holds {names[0]!r}, but nothing that a run wrote"


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepStatus:
    """Progress of a sweep."""

    folder: str
    command: str
    models: tuple[str, ...]
    n_models: int
    """Number of models asked for; `models` lists only those that were loaded so far."""
    n_texts: int
    n_units: int
    n_missing: int
    n_cells: int
    n_sinks: int
    failed: tuple[str, ...]
    finished: bool
    """Whether the tables and run.json exist."""
    complaints: tuple[str, ...]
    seconds: float
    """Seconds of computing so far."""

    def lines(self) -> list[str]:
        """The status as lines to print."""
        todo = self.n_models - len(self.models)
        waiting = f", {count(todo, 'model')} not begun" if todo else ""
        found = [
            f"{self.folder}: {'finished' if self.finished else 'not finished'}",
            f"  models    {', '.join(self.models)}{waiting}",
            f"  texts     {self.n_texts}",
            f"  units     {self.n_units - self.n_missing} of {self.n_units} done",
            f"  sinks     {self.n_sinks}, transient ones too, which get no edit",
            f"  cells     {self.n_cells}",
            f"  computed  {self.seconds:.1f} s",
            *(f"  skipped   {what}" for what in self.failed),
            *(f"  damaged   {what}" for what in self.complaints),
        ]
        if not self.finished or self.n_missing or todo or self.complaints:
            found.append(f"  resume    {self.command or 'the same call of sweep()'}")
        return found


def status_facts(folder: Path) -> dict[str, Any]:
    """The status of any folder as plain data. Raises `RunFolderError` for foreign folders."""
    kind = kind_of(folder)
    facts: dict[str, Any] = {"folder": str(folder), "kind": kind}
    if kind == EXPERIMENTS:
        return facts | {"outcomes": {one.parent.name: outcome_of(one) for one in findings(folder)}}
    if kind == EXPORT:
        return facts | {"rows": {one.stem: len(read_export(one)) for one in exported(folder)}}
    if kind == RUN:
        return facts | _run_facts(folder)
    return facts | asdict(sweep_status(folder)) | {"questions": _asked(folder)}


def status_lines(folder: Path) -> list[str]:
    """The status of any folder as lines to print. Raises `RunFolderError` for foreign folders."""
    if kind_of(folder) == SWEEP:
        return [*sweep_status(folder).lines(), *_about_questions(_asked(folder))]
    facts = status_facts(folder)
    if facts["kind"] == EXPERIMENTS:
        outcomes = facts["outcomes"].items()
        what = f"{folder}: {count(len(outcomes), 'experiment')}"
        return [what, *(f"  {name:18} {outcome}" for name, outcome in outcomes)]
    if facts["kind"] == EXPORT:
        rows = facts["rows"].items()
        what = f"{folder}: an export of {count(len(rows), 'table')}"
        return [what, *(f"  {name:9} {count(n, 'row')}" for name, n in rows)]
    models = ", ".join(facts["models"])
    rows = {"models": models, "texts": facts["n_texts"], "sinks": facts["n_sinks"]}
    told = [f"{folder}: finished", *(f"  {name:9} {value}" for name, value in rows.items())]
    return told + _about_questions(facts["questions"])


def _about_questions(asked: list[str] | None) -> list[str]:
    return [] if asked is None else [f"  questions {', '.join(asked) or 'none asked'}"]


def _asked(folder: Path) -> list[str] | None:
    """Questions that a finished run answers; None for a sweep, which has none."""
    try:
        asked = RunFolder(folder).record().get("asked")
    except RunFolderError:  # not finished; `verify` reports damage
        return None
    return asked if asked is None else list(asked)


def _run_facts(folder: Path) -> dict[str, Any]:
    """A finished run without stored cells: of an earlier version, or of a session."""
    run = RunFolder(folder)
    records = whole_records(run)
    return {
        "models": [record["model"]["name"] for record in records],
        "n_texts": max(len(record["texts"]) for record in records),
        "n_sinks": int((run.table("sinks")["kind"] != "primary").sum()),
        "questions": [answer["question"] for answer in records[0].get("answers", ())],
    }


def sweep_status(folder: Path) -> SweepStatus:
    """The status of a sweep folder. Raises `RunFolderError` for any other folder."""
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
