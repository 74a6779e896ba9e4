r"""Text in CSV: one line per row, no cell is a formula, and every character can be recovered.

Line breaks and invisible characters are written as `\n`, `\r`, `\t` or `\uXXXX`, and a backslash as
`\\`. A text that begins like a formula (with `=`, `+`, `-` or `@`, perhaps after spaces) or with an
apostrophe gets one more apostrophe in front. To read a text back, remove one apostrophe at its
start, then resolve the escapes, as `unescape` does.
"""

import csv
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from secondary_sinks import files

_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\"}
_CHARS = {escape: char for char, escape in _NAMED.items()}
_UNSAFE = re.compile("[\\\\\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")
_ESCAPE = re.compile(r"\\u([0-9a-f]{4})|\\[nrt\\]")
TYPES = {"int": "int64", "float": "float64", "bool": "bool", "str": "str"}
_FORMULA = re.compile(r"'|\s*[=+\-@\uff1d\uff0b\uff0d\uff20]")


def escape(word: str) -> str:
    """A text as a CSV cell.

    >>> print(escape("=1+1"), escape("one\\rtwo"), escape("'tis"), escape("a=b"))
    '=1+1 one\\rtwo ''tis a=b
    """
    cell = _UNSAFE.sub(lambda found: _NAMED.get(found[0], f"\\u{ord(found[0]):04x}"), word)
    return f"'{cell}" if _FORMULA.match(cell) else cell


def unescape(cell: str) -> str:
    """Recover the text that `escape` turned into a cell."""
    return _ESCAPE.sub(
        lambda found: chr(int(found[1], 16)) if found[1] else _CHARS[found[0]],
        cell.removeprefix("'"),
    )


def escape_text(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with every text escaped, column names included."""
    words = frame.select_dtypes(exclude=["number", "bool"]).columns
    cells = {name: [escape(c) if isinstance(c, str) else c for c in frame[name]] for name in words}
    return frame.assign(**cells).rename(columns=escape)


def write(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame as CSV; texts are quoted, and NaN is an empty field."""
    how: dict[str, Any] = {"quoting": csv.QUOTE_NONNUMERIC, "lineterminator": "\n"}
    with files.open_file(path, "wb") as file:  # pandas reads ~ in a path as the home folder
        escape_text(frame).to_csv(file, index=False, mode="wb", encoding="utf-8", **how)


def read(path: Path, kinds: Mapping[str, str]) -> pd.DataFrame:
    """Read a CSV table with columns of the given kinds. Raises `ValueError` for any other table."""
    floats = [escape(name) for name, kind in kinds.items() if kind == "float"]
    with files.open_file(path) as file:
        frame = pd.read_csv(
            file,
            dtype={escape(name): TYPES[kind] for name, kind in kinds.items()},
            keep_default_na=False,
            na_values={name: [""] for name in floats},
            float_precision="round_trip",
            encoding="utf-8",
        ).rename(columns=unescape)
    words = [name for name in frame if kinds.get(str(name)) == "str"]
    return frame.assign(**{str(name): frame[name].map(unescape) for name in words})
