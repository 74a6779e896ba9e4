"""Output of `status`, `verify`, `merge` and `export`."""

from pathlib import Path

from secondary_sinks.cli.output import Stopped, say
from secondary_sinks.questions import QUESTIONS
from secondary_sinks.runs.export import export
from secondary_sinks.sweeps.merge import merge
from secondary_sinks.sweeps.status import status_lines
from secondary_sinks.sweeps.verify import verify
from secondary_sinks.types import EDIT_KINDS, SITES

DAMAGED = 3


def show_status(folder: Path) -> None:
    """Print the status of a run, a sweep or experiments."""
    for line in status_lines(folder):
        say(line)


def show_verified(folder: Path) -> None:
    """Print every file that differs from what was written; exit code 3 if there is one."""
    found = verify(folder)
    for complaint in found.complaints:
        say(complaint)
    if found.complaints:
        again = f": {found.command}" if found.command else ""
        raise Stopped(
            DAMAGED,
            f"{len(found.complaints)} of {found.n_files} files are damaged or missing; rerun the "
            f"command of this folder to restore them{again}",
        )
    say(f"all {found.n_files} files are intact")
    if found.note:
        say(found.note)


def show_merged(folders: list[Path], out: Path) -> None:
    """Print how many cells were merged."""
    found = merge(folders, out)
    say(f"{found.n_cells} cells of {found.n_tasks} texts from {len(folders)} folders: {out}")
    if found.n_missing:
        say(
            f"{found.n_missing} units of all combinations of models, texts and edits are missing "
            "in these folders"
        )
    if found.n_unused:
        say(f"{found.n_unused} units of earlier code or inputs are kept, but are in no table")
    say(f"tables: {out}")


def show_exported(folder: Path, format: str, out: Path | None) -> None:
    """Print where the exported files are."""
    for path in export(folder, format, out):
        say(str(path))


def show_questions() -> None:
    """Print one line per causal question."""
    _show([(question.name, question.asks) for question in QUESTIONS])


def show_edits() -> None:
    """Print one line per kind of edit, then one per site."""
    _show([(kind.label, f"{kind.becomes}; at {', '.join(kind.sites)}") for kind in EDIT_KINDS])
    say("")
    _show([(site.name, site.meaning) for site in SITES])


def _show(rows: list[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows)
    for name, words in rows:
        say(f"{name:{width}}  {words}")
