"""What a folder is, by the files in it: a sweep, a finished run, or results of experiments."""

import json
from pathlib import Path

from secondary_sinks import files
from secondary_sinks.errors import RunFolderError
from secondary_sinks.runs.folder import OWN, RECORD, WORK

FINDING = "verdict.json"
"""What an experiment writes last into its folder."""
SWEEP, RUN, EXPERIMENTS = "sweep", "run", "experiments"


def kind_of(folder: Path) -> str:
    """Which of `SWEEP`, `RUN` and `EXPERIMENTS` a folder is.

    A run that resumes keeps its cells as a sweep does, and is a `SWEEP` too. Raises
    `RunFolderError` that names what a folder of none of these holds.
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
    """The records of the experiments in a folder: its own, or one in each folder below it."""
    own = folder / FINDING
    return [own] if own.is_file() else sorted(folder.glob(f"*/{FINDING}"))


def outcome_of(finding: Path) -> str:
    """The outcome of an experiment, or "failed". Raises `RunFolderError` for a damaged record."""
    try:
        found = json.loads(files.read_text(finding))
        return "failed" if "failed" in found else str(found["verdict"]["outcome"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunFolderError(
            f"{str(finding)!r} is damaged ({type(error).__name__}: {error})",
            "run its experiment again",
        ) from error


def _what(folder: Path) -> str:
    """What is in the place of a folder that is nothing of ours."""
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
