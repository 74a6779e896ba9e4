"""Hashes of what determines a number: source code and token ids."""

import ast
import hashlib
import io
import tokenize
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from secondary_sinks import files

PACKAGE = Path(__file__).parents[1]
MEASURING = ("measures", "layerwise", "observation", "detection", "types")


EDITING = (
    *("causal", "models", "texts", "statistics", "sweeps/compute.py"),
    *("questions/trials.py", "questions/roles.py", "questions/role_tests.py"),
)
"""Rooms, and single files of rooms, whose code determines numbers."""


ANSWERING = ("questions", "attribution", "sweeps/assemble.py", "sweeps/run.py")
"""Rooms whose code turns numbers into verdicts and tables."""


DECIDING = ("weights_sha256", "config_sha256", "class")
"""Fields of a model's record that determine its numbers."""


@cache
def code_version(rooms: tuple[str, ...], root: Path | None = None) -> str:
    """Version of rooms or files: a hash of their code, so no version has to be raised by hand.

    Paths are relative to the folder `root`, by default this package. Comments, docstrings and blank
    lines are left out, so rewording them does not change the version.

    >>> len(code_version(("measures",)))
    16
    """
    package = root or PACKAGE
    digest = hashlib.sha256()
    for room in rooms:
        place = package / room
        for file in [place] if place.is_file() else sorted(place.rglob("*.py")):
            digest.update(f"{file.relative_to(package).as_posix()}\n".encode())
            digest.update(without_comments(files.read_bytes(file).decode()).encode())
    return digest.hexdigest()[:16]


@cache
def without_comments(source: str) -> str:
    """Python source without comments, bare strings (docstrings among them) and blank lines.

    >>> without_comments("x = 1  # one\\n\\n'What x is.'\\n")
    'x = 1'
    """
    lines = [line.encode() for line in source.split("\n")]
    for row, begin, last_row, end in sorted(_said(source), reverse=True):
        tail = lines[last_row - 1][end:]
        lines[row - 1 : last_row] = [lines[row - 1][:begin] + tail]
    kept = (line.decode().rstrip() for line in lines)
    return "\n".join(line for line in kept if line)


def _said(source: str) -> Iterator[tuple[int, int, int, int]]:
    """Positions of comments and of strings that are statements: rows from 1, columns in bytes."""
    for node in ast.walk(ast.parse(source)):
        text = node.value if isinstance(node, ast.Expr) else None
        if isinstance(text, ast.Constant) and isinstance(text.value, str):
            yield text.lineno, text.col_offset, text.end_lineno or 0, text.end_col_offset or 0
    if "#" not in source:
        return
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            begin = len(token.line[:column].encode())
            yield row, begin, row, begin + len(token.string.encode())


def versions_of_code() -> dict[str, str]:
    """Versions of the code that determines numbers: measuring, editing and answering."""
    return {
        "measures": code_version(MEASURING),
        "engine": code_version(EDITING),
        "answers": code_version(ANSWERING),
    }


def hash_tokens(tokens: Sequence[int]) -> str:
    """SHA-256 of token ids."""
    return files.sha256_of_json(list(tokens))
