"""Keys of content: what was computed from the same inputs by the same code has the same key.

The key of a task covers the weights and settings of the model, its class and dtype, the token ids,
the thresholds (they choose the sinks) and the code that measures; that of a unit covers its edit,
the number of controls and the code that replays, too. Names of models and texts, devices and
places on a disk are no part of them: the same cells computed elsewhere are the same cells.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import secondary_sinks
from secondary_sinks import files
from secondary_sinks.runs import durable
from secondary_sinks.runs.tasks import Unit
from secondary_sinks.types import Thresholds

MEASURING = ("measures", "observation", "detection", "types")
EDITING = (
    *("causal", "models", "texts", "runs/compute.py"),
    *("questions/outcomes.py", "questions/roles.py", "questions/role_tests.py"),
)
"""Rooms, and a file of a room, whose code decides numbers."""
ANSWERING = ("questions", "attribution", "runs/assemble.py", "runs/pipeline.py")
"""Whose code makes verdicts and tables of these numbers."""
DECIDING = ("weights_sha256", "config_sha256", "class")
"""What of a model's record decides its numbers."""


@cache
def code_version(rooms: tuple[str, ...], root: Path | None = None) -> str:
    """A version of rooms or files that nobody has to remember to raise: a hash of their source.

    They lie in the folder `root`, by default in this package.

    >>> len(code_version(("measures",)))
    16
    """
    package = root or Path(secondary_sinks.__file__).parent
    digest = hashlib.sha256()
    for room in rooms:
        place = package / room
        for file in [place] if place.is_file() else sorted(place.rglob("*.py")):
            digest.update(f"{file.relative_to(package).as_posix()}\n".encode())
            digest.update(files.read_bytes(file))
    return digest.hexdigest()[:16]


def versions_of_code() -> dict[str, str]:
    """Versions of the code that decides numbers: what measures, what edits, and what answers."""
    return {
        "measures": code_version(MEASURING),
        "engine": code_version(EDITING),
        "answers": code_version(ANSWERING),
    }


def hash_tokens(tokens: Sequence[int]) -> str:
    """SHA-256 over token ids."""
    return hashlib.sha256(json.dumps(list(tokens)).encode()).hexdigest()


def task_key(
    model: Mapping[str, Any], dtype: str, tokens_sha256: str, thresholds: Thresholds
) -> str:
    """Key of a model and a text: of all that decides which tokens are sinks."""
    parts = {
        "model": {name: model[name] for name in DECIDING},
        "dtype": dtype,
        "tokens": tokens_sha256,
        "thresholds": asdict(thresholds),
        "measures": versions_of_code()["measures"],
    }
    return _hash(parts)


def unit_key(task: str, unit: Unit, ordinary: int) -> str:
    """Key of a unit of the task with a key."""
    parts = {
        "task": task,
        "unit": asdict(unit),
        "ordinary": ordinary,
        "engine": versions_of_code()["engine"],
    }
    return _hash(parts)


def cell_key(unit: str, role: str, pos: int) -> str:
    """Key of a token's cell in the unit with a key: 16 hexadecimal digits."""
    return hashlib.sha256(f"{unit} {role} {pos}".encode()).hexdigest()[:16]


def _hash(parts: Mapping[str, Any]) -> str:
    return durable.sha256_of_json(parts)
