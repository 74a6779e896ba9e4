"""Keys of content: what was computed from the same inputs by the same code has the same key.

The key of a task covers the weights and settings of the model, its class and dtype, the token ids,
the thresholds (they choose the sinks) and the code that measures; that of a unit covers its edit,
the number of controls and the code that replays, too. Names of models and texts, devices and
places on a disk are no part of them: the same cells computed elsewhere are the same cells.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from secondary_sinks.runs import durable
from secondary_sinks.runs.hashes import DECIDING, versions_of_code
from secondary_sinks.sweeps.tasks import Task, Unit
from secondary_sinks.types import Thresholds

Versions = Mapping[str, str]
"""Versions of the code that measures and edits, as `versions_of_code` gives them."""


def task_key(
    model: Mapping[str, Any],
    dtype: str,
    tokens_sha256: str,
    thresholds: Thresholds,
    versions: Versions | None = None,
) -> str:
    """Key of a model and a text: of all that decides which tokens are sinks.

    `versions` are those of the code that computed, by default of the code that runs now.
    """
    parts = {
        "model": {name: model[name] for name in DECIDING},
        "dtype": dtype,
        "tokens": tokens_sha256,
        "thresholds": asdict(thresholds),
        "measures": (versions or versions_of_code())["measures"],
    }
    return _hash(parts)


def unit_key(task: str, unit: Unit, ordinary: int, engine: str = "", *, whole: bool = False) -> str:
    """Key of a unit of the task with a key; `engine` and `whole` as in `Task`.

    Cells of another batch may differ in their last bit, so they have another key.
    """
    parts = {
        "task": task,
        "unit": asdict(unit),
        "ordinary": ordinary,
        "engine": engine or versions_of_code()["engine"],
    }
    return _hash(parts | ({"whole": True} if whole else {}))


def key_of(task: Task, unit: Unit) -> str:
    """Key of a unit of a task."""
    return unit_key(task.key, unit, task.ordinary, task.engine, whole=task.whole)


def cell_key(unit: str, role: str, pos: int) -> str:
    """Key of a token's cell in the unit with a key: 16 hexadecimal digits."""
    return hashlib.sha256(f"{unit} {role} {pos}".encode()).hexdigest()[:16]


def _hash(parts: Mapping[str, Any]) -> str:
    return durable.sha256_of_json(parts)
