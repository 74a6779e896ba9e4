"""Output of `status`, `verify`, `merge` and `export`."""

from dataclasses import asdict
from pathlib import Path

from secondary_sinks.cli.output import Stopped, say
from secondary_sinks.cli.show import print_lines, print_plain
from secondary_sinks.display import count
from secondary_sinks.questions import QUESTIONS
from secondary_sinks.runs.export import export
from secondary_sinks.sweeps.merge import merge
from secondary_sinks.sweeps.status import status_facts, status_lines
from secondary_sinks.sweeps.verify import verify
from secondary_sinks.types import EDIT_KINDS, SITES

DAMAGED = 3


def show_status(folder: Path, *, as_json: bool = False) -> None:
    """Print the status of a run, a sweep or experiments."""
    if as_json:
        print_plain(status_facts(folder))
    else:
        print_lines(status_lines(folder))


def show_verified(folder: Path, *, as_json: bool = False) -> None:
    """Print every file that differs from what was written; exit code 3 if there is one."""
    found = verify(folder)
    if as_json:
        print_plain(asdict(found))
    else:
        for complaint in found.complaints:
            say(complaint)
    if found.complaints:
        again = f": {found.command}" if found.command else ""
        what = count(found.n_files, "file")
        raise Stopped(
            DAMAGED,
            f"damaged or missing: {len(found.complaints)} of {what}; rerun the command of this "
            f"folder to restore them{again}",
        )
    if not as_json:
        say(f"{count(found.n_files, 'file')}: all intact")
        if found.note:
            say(found.note)


def show_merged(folders: list[Path], out: Path) -> None:
    """Print how many cells were merged."""
    found = merge(folders, out)
    say(
        f"{count(found.n_cells, 'cell')} of {count(found.n_tasks, 'text')} from "
        f"{count(len(folders), 'folder')}: {out}"
    )
    if found.n_missing:
        say(
            f"missing in these folders: {count(found.n_missing, 'unit')} of all combinations of "
            "models, texts and edits"
        )
    if found.n_unused:
        say(f"{count(found.n_unused, 'unit')} of earlier code or inputs kept, but in no table")
    say(f"tables: {out}")


def show_exported(folder: Path, format: str, out: Path | None) -> None:
    """Print where the exported files are."""
    for path in export(folder, format, out):
        say(str(path))


def show_questions(*, as_json: bool = False) -> None:
    """Print one line per causal question."""
    rows = {question.name: question.asks for question in QUESTIONS}
    if as_json:
        print_plain(rows)
    else:
        _show(rows)


def show_edits(*, as_json: bool = False) -> None:
    """Print one line per kind of edit, then one per site."""
    kinds = {kind.label: f"{kind.becomes}; at {', '.join(kind.sites)}" for kind in EDIT_KINDS}
    sites = {site.name: site.meaning for site in SITES}
    if as_json:
        print_plain({"edits": kinds, "sites": sites})
    else:
        _show(kinds)
        say("")
        _show(sites)


def _show(rows: dict[str, str]) -> None:
    width = max(map(len, rows))
    for name, words in rows.items():
        say(f"{name:{width}}  {words}")
