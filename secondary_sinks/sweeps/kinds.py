"""Recognise a folder by its files: a sweep, a finished run, or results of experiments."""

from pathlib import Path

from secondary_sinks import files
from secondary_sinks.errors import RunFolderError
from secondary_sinks.runs.folder import OWN, RECORD, WORK

FINDING = "verdict.json"
"""Name of the file that an experiment writes last into its folder."""
SWEEP, RUN, EXPERIMENTS = "sweep", "run", "experiments"


def kind_of(folder: Path) -> str:
    """Kind of a folder: `SWEEP`, `RUN` or `EXPERIMENTS`.

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
    raise RunFolderError(
        f"{str(folder)!r} {_what(folder)}",
        "expected the folder of a run, a sweep, a merge or of experiments",
    )


def findings(folder: Path) -> list[Path]:
    """Records of the experiments in a folder: its own, or one per folder below it."""
    own = folder / FINDING
    return [own] if own.is_file() else sorted(folder.glob(f"*/{FINDING}"))


def outcome_of(finding: Path) -> str:
    """The outcome of an experiment, or "failed". Raises `RunFolderError` for a damaged record."""
    try:
        found = files.load_json(files.read_text(finding))
        return "failed" if "failed" in found else str(found["verdict"]["outcome"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunFolderError(
            f"{str(finding)!r} is damaged ({type(error).__name__}: {error})",
            "run its experiment again",
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
