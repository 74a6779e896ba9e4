"""Read texts from a data set: `hf:NAME:split:column`.

NAME is a data set on the hub, or a folder that `save_to_disk` wrote. Only tables are read: no
code of a data set runs, and nothing is unpickled.
"""

import re
from itertools import islice
from pathlib import Path
from typing import Any

from secondary_sinks.errors import TextError
from secondary_sinks.foreign import load_data_set, load_saved_data_set
from secondary_sinks.texts.limits import check_lengths
from secondary_sinks.texts.records import plain_text
from secondary_sinks.texts.text import Text

FORM = re.compile(r"hf:(.+):([^:\[\]]+(?:\[[^\]]*\])?):([^:]+)", re.DOTALL)
"""A slice of a split may hold a colon: train[:100]."""
MOST = 10_000
"""Maximum number of rows; for more, the error says how to ask for fewer."""


def read_data_set(name: str) -> list[Text]:
    """The texts of one column of one split, in order; ids are row numbers.

    Raises `TextError` for a name of another form, a data set that cannot be reached or read, a
    split or column that it lacks, and a cell without text.
    """
    parts = FORM.fullmatch(name)
    if parts is None:
        raise TextError(f"expected hf:NAME:split:column, got {name!r}")
    where, split, column = parts.groups()
    rows = _rows(where, split)
    if not len(rows):
        raise TextError(f"{name!r} holds no rows")
    if column not in rows.column_names:
        raise TextError(
            f"{name!r} has no column {column!r}", f"expected one of {join_names(rows.column_names)}"
        )
    if len(rows) > MOST:
        raise TextError(f"{name!r} has {len(rows):,} rows", f"ask for fewer, as in {split}[:100]")
    cells = islice(rows[column], len(rows))
    texts = [plain_text(cell, f"row-{row}", f"{name} row {row}") for row, cell in enumerate(cells)]
    return check_lengths(texts, name)


def join_names(names: Any) -> str:
    """Names separated by commas, at most ten."""
    return ", ".join(map(repr, list(names)[:10]))


def _rows(where: str, split: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise TextError("hf: needs the datasets library: pip install datasets") from error
    if Path(where).exists():
        return _load_saved(datasets, where, split)
    try:
        return load_data_set(where, split)
    except Exception as error:  # hub, network and library raise exceptions of their own
        first = next(iter(str(error).splitlines()), repr(error))
        raise TextError(
            f"the data set {where!r} cannot be loaded from the hub ({first}); where there is a "
            f"network, save it with datasets.load_dataset(...).save_to_disk('folder'), then use "
            f"--texts hf:folder:{split}:COLUMN"
        ) from error


def _load_saved(datasets: Any, folder: str, split: str) -> Any:
    name, _, part = split.partition("[")
    try:
        found = load_saved_data_set(folder)
    except Exception as error:  # missing, damaged or unrelated files
        raise TextError(
            f"{folder!r} cannot be read as a data set",
            f"expected a folder of save_to_disk ({error})",
        ) from error
    if isinstance(found, datasets.DatasetDict):
        if name not in found:
            raise TextError(
                f"{folder!r} has no split {name!r}", f"expected one of {join_names(found)}"
            )
        found = found[name]
    elif found.split is not None and str(found.split) != name:
        raise TextError(f"{folder!r} has the split {str(found.split)!r}, not {name!r}")
    return found.select(list(range(*_slice(part, len(found), split)))) if part else found


def _slice(part: str, length: int, split: str) -> tuple[int, int]:
    """First row and the one after the last, from `[first:end]`."""
    first, colon, end = part.rstrip("]").partition(":")
    numbers = [number for number in (first, end) if number]
    plain = part.isascii() and all(map(str.isdecimal, numbers))
    if not colon or not part.endswith("]") or not plain:
        raise TextError(f"split {split!r} is not understood", "expected as in train[:100]")
    stop = min(int(end), length) if end else length
    return min(int(first or 0), stop), stop
