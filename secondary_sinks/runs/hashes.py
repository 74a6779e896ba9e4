"""Hashes of what determines a number: source code and token ids."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from secondary_sinks import files

PACKAGE = Path(__file__).parents[1]
MEASURING = ("measures", "layerwise", "observation", "detection", "types")


EDITING = (
    *("causal", "models", "texts", "statistics", "sweeps/compute.py"),
    *("questions/trials.py", "questions/roles.py", "questions/role_tests.py"),
    "questions/written_together.py",
)
"""Rooms, and single files of rooms, whose code determines numbers."""


ANSWERING = ("questions", "attribution", "sweeps/assemble.py", "sweeps/run.py")
"""Rooms whose code turns numbers into verdicts and tables."""


DECIDING = ("weights_sha256", "config_sha256", "class")
"""Fields of a model's record that determine its numbers."""

PART = re.compile(
    r"""(?P<string>[rRuU]?(?P<quote>"{3}|'{3}|"|')(?:\\.|(?!(?P=quote)).)*(?P=quote))"""
    r"""|(?P<comment>\#[^\n]*)|(?P<open>[(\[{])|(?P<close>[)\]}])""",
    re.DOTALL,
)
"""Strings, comments and brackets of Python source, as it was written up to Python 3.11."""
ALONE = re.compile(r"[ \t]*(?:\#[^\n]*)?(?:\n|$)")
"""What may follow a string that is a statement."""


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
    kept, end = [], 0
    for begin, stop in _said(source):
        kept.append(source[end:begin])
        end = stop
    lines = "".join([*kept, source[end:]]).split("\n")
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _said(source: str) -> Iterator[tuple[int, int]]:
    """Where comments, and strings that are statements, begin and end."""
    depth = 0
    for part in PART.finditer(source):
        kind, (begin, end) = part.lastgroup, part.span()
        depth += (kind == "open") - (kind == "close")
        if kind == "comment" or (kind == "string" and not depth and _is_alone(source, begin, end)):
            yield begin, end


def _is_alone(source: str, begin: int, end: int) -> bool:
    """Whether a string outside of brackets is a statement."""
    before = source[:begin].rstrip(" \t")
    starts = not before or (before[-1] == "\n" and before[-2:] != "\\\n")
    return starts and ALONE.match(source, end) is not None


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
