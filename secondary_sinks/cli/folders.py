"""What `status`, `verify`, `merge` and `export` print."""

from pathlib import Path

from secondary_sinks.cli.output import Stopped, say
from secondary_sinks.runs.export import export
from secondary_sinks.sweeps.merge import merge
from secondary_sinks.sweeps.status import sweep_status, verify

DAMAGED = 3


def show_status(folder: Path) -> None:
    """Where a sweep stands; says it of a run that is no sweep, too."""
    for line in sweep_status(folder).lines():
        say(line)


def show_verified(folder: Path) -> None:
    """Every file that is not what was written; exit code 3 where there is one."""
    found = verify(folder)
    for complaint in found.complaints:
        say(complaint)
    if found.complaints:
        raise Stopped(
            DAMAGED,
            f"{len(found.complaints)} of {found.n_files} files damaged or missing; run the sweep's "
            f"command again to do them anew: {found.command}",
        )
    say(f"{found.n_files} files are what was written")


def show_merged(folders: list[Path], out: Path) -> None:
    """How many cells came together."""
    found = merge(folders, out)
    say(f"{found.n_cells} cells of {found.n_tasks} texts from {len(folders)} folders: {out}")
    if found.n_missing:
        say(f"{found.n_missing} units of the product of all that was asked are in no folder")
    say(f"tables: {out}")


def show_exported(folder: Path, format: str, out: Path | None) -> None:
    """Where the files are."""
    for path in export(folder, format, out):
        say(str(path))
