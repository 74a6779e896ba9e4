"""Copy what result pages need: verdicts, tables and pictures, stored next to the pages."""

import csv
import gzip
import io
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.made import base_name, texts_name
from experiments.recorded import RECORD, damaged, read_record, write_record
from experiments.table import BY_NAME
from secondary_sinks import files
from secondary_sinks.errors import RunFolderError

LARGEST_TABLE, LARGEST_PICTURE = 60_000, 500_000
LARGEST_ARCHIVE = 400_000
"""Most bytes of a table; a larger one is copied compressed if that makes it small enough."""
LARGEST_READ = files.MOST_BYTES
"""A table of more bytes is neither read nor copied, and the page says so."""
FOLDERS = re.compile(r"(?<!\w)/(?:[^\s/'\"]+/)+")
"""The folders of a path in a message, as text."""
PNG = b"\x89PNG"


def copy_results(results: Sequence[Path], out: Path) -> list[str]:
    """Copy verdicts, tables and pictures of finished experiments to `out`/data.

    Each folder has its own experiments, and may have its own texts; all have the same weights.
    Large tables are compressed. Returns the files that remain too large; each page lists its own.
    Raises `RunFolderError` if a folder holds no finished experiment, some of other weights or
    texts than its others, or one that an earlier folder holds too; and `SinkError` for a record, a
    table or a picture that is none.
    """
    places = _places(results, out)
    for folder in places.values():
        for path in sorted(folder.iterdir()):
            _check(path)
    for name in BY_NAME:  # only our own files in the folder
        shutil.rmtree(out / "data" / name, ignore_errors=True)
    large = []
    for name, folder in places.items():
        target = out / "data" / name
        target.mkdir(parents=True)
        left = [path.name for path in sorted(folder.iterdir()) if not _copy(path, target)]
        large += [str(folder / one) for one in left]
        _without_folders(target / RECORD, left)
    return large


def _places(results: Sequence[Path], out: Path) -> dict[str, Path]:
    """The folder of each finished experiment; raises `RunFolderError` as `copy_results` does."""
    places: dict[str, Path] = {}
    weights: set[str] = set()
    for folder in results:
        if folder.resolve() == (out / "data").resolve():
            raise RunFolderError(
                f"{str(folder)!r} is where these pages keep their data, which is replaced",
                "copy it to another folder first, and give the copy",
            )
        found = records_of(folder)
        _refuse_mixed(folder, found)
        twice = [name for name in found if name in places]
        if twice:
            raise RunFolderError(
                f"{', '.join(twice)}: in {str(places[twice[0]].parent)!r} and in {str(folder)!r}",
                "expected each experiment in one folder",
            )
        places |= {name: folder / name for name in found}
        weights |= {str(_inputs(one)[0]) for one in found.values() if _answered(one)}
    if len(weights) > 1:
        raise RunFolderError(
            f"{', '.join(map(str, results))}: results of different weights",
            "expected those of one model",
        )
    return places


def _answered(record: Mapping[str, Any]) -> bool:
    return "verdict" in record


def model_of(results: Sequence[Path]) -> str:
    """Short name of the model, as recorded; the name of its folder of pages.

    Raises `RunFolderError` for results of several models, and as `refuse_name` does.
    """
    records = [record for folder in results for record in records_of(folder).values()]
    made = [record.get("provenance", {}) for record in records]
    names = {base_name(one["asked"]["model"]) for one in made if "asked" in one}
    if len(names) != 1:
        raise RunFolderError(
            f"{', '.join(map(str, results))}: results of "
            f"{', '.join(sorted(names)) or 'no named model'}",
            "expected those of one model",
        )
    return refuse_name(names.pop())


def refuse_name(name: str) -> str:
    """The name of a model; `RunFolderError` if it cannot be the name of a folder of pages."""
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise RunFolderError(
            f"{name!r} cannot be the name of a model's pages",
            "expected letters, digits, dots, dashes and underscores; give --name",
        )
    return name


def records_of(results: Path) -> dict[str, dict[str, Any]]:
    """Record of each finished experiment, by its name. Raises `RunFolderError` if there is none."""
    places = {name: results / name / RECORD for name in BY_NAME}
    found = {name: read_record(path) for name, path in places.items() if path.is_file()}
    if not found:
        raise RunFolderError(
            f"{str(results)!r} has no results", "run python -m experiments.all first"
        )
    return found


def _refuse_mixed(results: Path, found: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise `RunFolderError` if experiments had other weights or texts than the first one."""
    made = {name: _inputs(record) for name, record in found.items() if _answered(record)}
    first = next(iter(made), "")
    other = [name for name in made if made[name] != made[first]]
    if other:
        raise RunFolderError(
            f"{str(results)!r} holds results of other weights or texts than those of {first}: "
            f"{', '.join(other)}",
            "run these again with python -m experiments.all --force, or keep them in a folder of "
            "their own and give both folders",
        )


def _inputs(record: Mapping[str, Any]) -> list[Any]:
    made = record.get("provenance", {})
    texts = [text.get("tokens_sha256") for text in made.get("texts", ())]
    return [made.get("model", {}).get("weights_sha256"), texts]


def _check(path: Path) -> None:
    """Raise `SinkError` for a record, a table or a picture that is none."""
    if path.name == RECORD:
        read_record(path)
    try:
        if path.suffix == ".csv" and path.stat().st_size <= LARGEST_READ:
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
    """Copy the files that a page shows or links to; returns whether all were small enough.

    A table that is compressed already, in the data of other pages, stays so.
    """
    limit = {".json": math.inf, ".csv": LARGEST_TABLE, ".png": LARGEST_PICTURE}
    limit |= {".gz": LARGEST_ARCHIVE}
    if path.suffix not in limit:
        return True
    if path.stat().st_size <= limit[path.suffix]:
        files.copy(path, target / path.name)
        return True
    if path.suffix != ".csv" or path.stat().st_size > LARGEST_READ:
        return False
    content = gzip.compress(files.read_bytes(path), mtime=0)
    if len(content) <= LARGEST_ARCHIVE:
        with files.open_file(target / f"{path.name}.gz", "wb") as file:
            file.write(content)
    return len(content) <= LARGEST_ARCHIVE


def _without_folders(path: Path, left_out: Sequence[str]) -> None:
    """Remove texts and folders of the machine from a record.

    Names of texts and digests of their tokens stay, and base names of files. Files that were too
    large to be copied are listed in the record.
    """
    record = read_record(path)
    record["not_copied"] = [*record.get("not_copied", ()), *left_out]
    made = record.get("provenance", {})
    for text in made.get("texts", []):
        text.pop("fed", None)
    for name in ("traceback", "command"):
        record.pop(name, None)
        made.pop(name, None)
    if "asked" in made:
        made["asked"] |= {"model": base_name(made["asked"]["model"]), "texts": texts_name(made)}
    if "failed" in record:
        record["failed"] = FOLDERS.sub("", record["failed"])
    record.pop("files", None)
    write_record(path.parent, record)
