"""Copy what result pages need: verdicts, tables and pictures, stored next to the pages."""

import csv
import gzip
import io
import json
import math
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from experiments.across_models import NAME as ACROSS
from experiments.recorded import damaged, read_record
from experiments.table import BY_NAME
from experiments.written import RECORD
from secondary_sinks import files
from secondary_sinks.errors import RunFolderError
from secondary_sinks.runs import RunFolder

LARGEST_TABLE, LARGEST_PICTURE = 60_000, 500_000
LARGEST_ARCHIVE = 400_000
"""Most bytes of a table; a larger one is copied compressed if that makes it small enough."""
PAGES = (*BY_NAME, ACROSS)
PNG = b"\x89PNG"


def copy_results(results: Path, out: Path) -> list[str]:
    """Copy verdicts, tables and pictures of finished experiments to `out`/data.

    Large tables are compressed. Returns the files that remain too large; each page lists its own.
    Raises `RunFolderError` if `results` holds no finished experiment, and `SinkError` for a record,
    a table or a picture that is none.
    """
    found = [name for name in PAGES if (results / name / RECORD).is_file()]
    if not found:
        raise RunFolderError(
            f"{str(results)!r} has no results", "run python -m experiments.all first"
        )
    for name in found:
        for path in sorted((results / name).iterdir()):
            _check(path)
    for name in PAGES:  # only our own files in the folder
        shutil.rmtree(out / "data" / name, ignore_errors=True)
    large = []
    for name in found:
        target = out / "data" / name
        target.mkdir(parents=True)
        left = [path.name for path in sorted((results / name).iterdir()) if not _copy(path, target)]
        large += [str(results / name / one) for one in left]
        _without_texts(target / RECORD, left)
    return large


def _check(path: Path) -> None:
    """Raise `SinkError` for a record, a table or a picture that is none."""
    if path.name == RECORD:
        read_record(path)
    try:
        if path.suffix == ".csv":
            _check_table(files.read_text(path))
        if path.suffix == ".png" and not files.read_bytes(path).startswith(PNG):
            raise ValueError("it is not a picture in PNG format")
    except (OSError, ValueError, csv.Error) as error:
        raise damaged(path, error) from error


def _check_table(content: str) -> None:
    """Raise `ValueError` or `csv.Error` unless a CSV table is text with rows of one length."""
    bad = re.search(r"[\x00-\x09\x0b-\x1f]", content)  # we write them as escapes
    if bad:
        raise ValueError(f"character {bad.start()} is {bad[0]!r}; expected a table of text")
    rows = csv.reader(io.StringIO(content), strict=True)
    length = len(next(rows, []))
    for number, row in enumerate(rows, start=2):
        if len(row) != length:
            raise ValueError(f"row {number} has {len(row)} cells; expected {length}")
    if not length:
        raise ValueError("it holds no table")


def _copy(path: Path, target: Path) -> bool:
    """Copy the files that a page shows or links to; returns whether all were small enough."""
    limit = {".json": math.inf, ".csv": LARGEST_TABLE, ".png": LARGEST_PICTURE}
    if path.suffix not in limit:
        return True
    if path.stat().st_size <= limit[path.suffix]:
        files.copy(path, target / path.name)
        return True
    if path.suffix != ".csv":
        return False
    content = gzip.compress(files.read_bytes(path), mtime=0)
    if len(content) <= LARGEST_ARCHIVE:
        with files.open_file(target / f"{path.name}.gz", "wb") as file:
            file.write(content)
    return len(content) <= LARGEST_ARCHIVE


def _without_texts(path: Path, left_out: Sequence[str]) -> None:
    """Remove the text itself from a record; names of texts and digests of their tokens stay.

    Files that were too large to be copied are listed in the record.
    """
    record = read_record(path) | {"not_copied": list(left_out)}
    for text in record.get("provenance", {}).get("texts", []):
        text.pop("fed", None)
    content = json.dumps(record, indent=2, ensure_ascii=False)
    RunFolder(path.parent).write_text(path.name, content + "\n")
