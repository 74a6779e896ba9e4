"""Content keys: the same inputs computed by the same code have the same key.

The key of a task covers the weights and settings of the model, its class and dtype, the token ids,
the thresholds (they choose the sinks) and the code that measures. The key of a unit also covers its
edit, the number of controls and the code that replays. Names of models and texts, devices and paths
are not covered: a cell computed elsewhere is the same cell.
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
"""Versions of the code that measures and edits, as returned by `versions_of_code`."""


def task_key(
    model: Mapping[str, Any],
    dtype: str,
    tokens_sha256: str,
    thresholds: Thresholds,
    versions: Versions | None = None,
) -> str:
    """Key of a model and a text; covers all that determines which tokens are sinks.

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
    """Key of a unit within a task, given the task's key; `engine` and `whole` as in `Task`.

    The last bit of a cell can depend on its batch, so cells of another batch have another key.
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
    """Key of one token's cell in a unit, given the unit's key: 16 hexadecimal digits."""
    return hashlib.sha256(f"{unit} {role} {pos}".encode()).hexdigest()[:16]


def _hash(parts: Mapping[str, Any]) -> str:
    return durable.sha256_of_json(parts)
