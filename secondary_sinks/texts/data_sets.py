"""`hf:NAME:split:column` -> texts, through the datasets library, from the hub or from a folder.

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
"""Texts of a data set that are read at most; more are refused, with how to say fewer."""


def read_data_set(name: str) -> list[Text]:
    """The texts of one column of one split, in its order; ids are the numbers of the rows.

    Raises `TextError` for a name of another form, a data set that cannot be reached or read, a
    split or column that it lacks, and a cell that holds no text.
    """
    parts = FORM.fullmatch(name)
    if parts is None:
        raise TextError(f"expected hf:NAME:split:column, got {name!r}")
    where, split, column = parts.groups()
    rows = _rows(where, split)
    if not len(rows):
        raise TextError(f"{name!r} holds no rows")
    if column not in rows.column_names:
        raise TextError(f"{name!r} has no column {column!r}; there are {listed(rows.column_names)}")
    if len(rows) > MOST:
        raise TextError(f"{name!r} has {len(rows):,} rows; ask for fewer, as in {split}[:100]")
    cells = islice(rows[column], len(rows))
    texts = [plain_text(cell, f"row-{row}", f"{name} row {row}") for row, cell in enumerate(cells)]
    return check_lengths(texts, name)


def listed(names: Any) -> str:
    """Names in a sentence, at most ten."""
    return ", ".join(map(repr, list(names)[:10]))


def _rows(where: str, split: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise TextError("hf: needs the datasets library: pip install datasets") from error
    if Path(where).exists():
        return _saved(datasets, where, split)
    try:
        return load_data_set(where, split)
    except Exception as error:  # of the hub, the network, the library: each has its own
        first = next(iter(str(error).splitlines()), repr(error))
        raise TextError(
            f"the data set {where!r} cannot be had from the hub ({first}); where there is a "
            f"network, save it with datasets.load_dataset(...).save_to_disk('folder'), then say "
            f"--texts hf:folder:{split}:COLUMN"
        ) from error


def _saved(datasets: Any, folder: str, split: str) -> Any:
    name, _, part = split.partition("[")
    try:
        found = load_saved_data_set(folder)
    except Exception as error:  # of files that are missing, damaged or of something else
        raise TextError(
            f"{folder!r} cannot be read as a data set; expected a folder of save_to_disk ({error})"
        ) from error
    if isinstance(found, datasets.DatasetDict):
        if name not in found:
            raise TextError(f"{folder!r} has no split {name!r}; there are {listed(found)}")
        found = found[name]
    elif found.split is not None and str(found.split) != name:
        raise TextError(f"{folder!r} has the split {str(found.split)!r}, not {name!r}")
    return found.select(list(range(*_slice(part, len(found), split)))) if part else found


def _slice(part: str, length: int, split: str) -> tuple[int, int]:
    """First row and the one after the last, of `[first:end]`."""
    first, colon, end = part.rstrip("]").partition(":")
    numbers = [number for number in (first, end) if number]
    if not colon or not part.endswith("]") or not all(map(str.isdecimal, numbers)):
        raise TextError(f"split {split!r} is not understood; expected as in train[:100]")
    stop = min(int(end), length) if end else length
    return min(int(first or 0), stop), stop
