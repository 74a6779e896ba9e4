"""Inputs and outputs of executors: plain data that can be sent to another process or machine.

A *unit* is one edit at one site of one layer, at every sink of one text and its controls. It is
computed completely or not at all, so the numbers of a cell never depend on earlier work. A *task*
is a text and its missing units, which share one clean pass.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from secondary_sinks import files
from secondary_sinks.runs.hashes import DECIDING, versions_of_code
from secondary_sinks.texts import TokenizedText
from secondary_sinks.types import Thresholds


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """How to load a model; the arguments of `load_model`."""

    name: str
    revision: str | None = None
    device: str | None = None
    dtype: str | None = None
    bridge: bool = False
    trust_remote_code: bool = False
    n_devices: int = 1
    skip: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Unit:
    """One edit (a recipe of `causal.recipes`) at one site of one layer."""

    edit: str
    site: str
    layer: int


ROLES = Unit(edit="roles", site="mlp_out", layer=0)
"""The unit of MLP roles; separate, since no edit of a single layer determines them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadText:
    """A text that could not be fed, and why."""

    text_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The record of a loaded model, and the texts as it tokenizes them."""

    model: dict[str, Any]
    """As in `run.json`: name, architecture, class, sizes, hashes, skipped checks, source."""
    device: str
    dtype: str
    versions: dict[str, str | None]
    texts: tuple[TokenizedText, ...]
    bad: tuple[BadText, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Units of one text that are to be computed together."""

    key: str
    """Covers model, text, thresholds and code: all that determines which tokens are sinks."""
    spec: ModelSpec
    weights_sha256: str
    """Hash of the expected weights; another model of the same name is refused."""
    tokens: tuple[int, ...]
    units: tuple[Unit, ...]
    thresholds: Thresholds = field(default_factory=Thresholds)
    ordinary: int = 0
    """Ordinary tokens tried per sink, in addition to its one control."""
    trace: bool = True
    """Whether to return the measures of every position too."""
    whole: bool = False
    """Whether its units share a batch: faster, but if one fails, all do."""
    engine: str = ""
    """Version of the code that edits; empty for the code that runs now."""

    @property
    def text_id(self) -> str:
        """Id of the text inside shards; its own name is filled in at the end."""
        return self.key[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Something that was skipped; `unit` is None for a whole text."""

    unit: Unit | None
    kind: str
    """Name of the error class."""
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of a task."""

    task: Task
    tables: dict[str, bytes]
    """Parquet files of `sinks`, `paper`, `effects`, `trace` and `roles`; empty for a failed
    text."""
    units: tuple[Unit, ...] = ()
    """Finished units."""
    n_cells: int = 0
    n_sinks: int = 0
    """Number of sinks that are not primaries."""
    primary: int | None = None
    left_out: dict[str, int] = field(default_factory=dict)
    """Number of impossible cells, by reason."""
    failures: tuple[Failure, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds by stage."""
    where: dict[str, str | None] = field(default_factory=dict)
    """Device, dtype and versions that it was computed with."""


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
    return files.sha256_of_json(parts)


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
    return files.sha256_of_json(parts | ({"whole": True} if whole else {}))


def key_of(task: Task, unit: Unit) -> str:
    """Key of a unit of a task."""
    return unit_key(task.key, unit, task.ordinary, task.engine, whole=task.whole)


def cell_key(unit: str, role: str, pos: int) -> str:
    """Key of one token's cell in a unit, given the unit's key: 16 hexadecimal digits."""
    return hashlib.sha256(f"{unit} {role} {pos}".encode()).hexdigest()[:16]
