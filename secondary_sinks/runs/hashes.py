"""Hashes of what determines a number: source code and token ids."""

import hashlib
import json
import re
from collections.abc import Sequence
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


_PIECES = re.compile(
    r"""(?P<comment>\#[^\n]*)
    | (?P<prefix>[rRuUbBfF]*)
      (?P<text> \"{3} (?:[^\\]|\\.)*? \"{3} | '{3} (?:[^\\]|\\.)*? '{3}
      | " (?:[^"\\\n]|\\.)* " | ' (?:[^'\\\n]|\\.)* ' )
    | (?P<open>[(\[{]) | (?P<close>[)\]}])""",
    re.VERBOSE | re.DOTALL,
)
"""Comments, strings and brackets: what must be known to see where code is."""


@cache
def without_comments(source: str) -> str:
    """Python source without comments, bare strings (docstrings among them) and blank lines.

    >>> without_comments("x = 1  # one\\n\\n'What x is.'\\n")
    'x = 1'
    """
    kept, at, depth = list[str](), 0, 0
    for piece in _PIECES.finditer(source):
        depth += (piece["open"] is not None) - (piece["close"] is not None)
        if piece["comment"] or (depth == 0 and _is_bare(source, piece)):
            kept.append(source[at : piece.start()])
            at = piece.end()
    lines = "".join([*kept, source[at:]]).split("\n")
    return "\n".join(line for line in map(str.rstrip, lines) if line)


def _is_bare(source: str, piece: re.Match[str]) -> bool:
    """Whether a piece outside of brackets is a string that is a line of its own."""
    if piece["text"] is None or not set(piece["prefix"]) <= set("rRuU"):
        return False
    before = source[: piece.start()].rpartition("\n")
    after = source[piece.end() :].partition("\n")[0].partition("#")[0]
    return not before[2].strip() and not after.strip() and not before[0].endswith("\\")


def versions_of_code() -> dict[str, str]:
    """Versions of the code that determines numbers: measuring, editing and answering."""
    return {
        "measures": code_version(MEASURING),
        "engine": code_version(EDITING),
        "answers": code_version(ANSWERING),
    }


def hash_tokens(tokens: Sequence[int]) -> str:
    """SHA-256 of token ids."""
    return hashlib.sha256(json.dumps(list(tokens)).encode()).hexdigest()
