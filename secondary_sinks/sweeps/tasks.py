"""What executors are given and give back: plain data that can go to another process or machine.

A *unit* is one edit at one site of one layer, at every sink of one text and its controls: it is
computed whole or not at all, so the numbers of a cell never depend on what was computed before it.
A *task* is a text and the units that are still missing of it, which share one clean pass.
"""

from dataclasses import dataclass, field
from typing import Any

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
"""The roles of all MLPs: a unit of its own, since no edit of a single layer tells them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FedText:
    """A text as it goes into a model; `tokens_sha256` is over the token ids."""

    text_id: str
    feed: str
    fed: str
    tokens: tuple[int, ...]
    tokens_sha256: str
    text_sha256: str = ""
    """Of what the ids were made from, as are the next two; empty where only ids were given."""
    tokenizer_sha256: str = ""
    template_sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadText:
    """A text that could not be fed, and why."""

    text_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A loaded model in plain data, and the texts as it reads them."""

    model: dict[str, Any]
    """As in `run.json`: name, architecture, class, sizes, hashes, checks left out, source."""
    device: str
    dtype: str
    versions: dict[str, str | None]
    texts: tuple[FedText, ...]
    bad: tuple[BadText, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Units of one text that are to be computed together."""

    key: str
    """Of model, text, thresholds and code: all that decides which tokens are sinks."""
    spec: ModelSpec
    weights_sha256: str
    """Of the model that must be there: another one of the same name is refused."""
    tokens: tuple[int, ...]
    units: tuple[Unit, ...]
    thresholds: Thresholds = field(default_factory=Thresholds)
    ordinary: int = 0
    """Ordinary tokens per sink that are tried beside its one control."""
    trace: bool = True
    """Whether the measures of every position are wanted too."""
    whole: bool = False
    """Whether its units share a batch, which is faster: then all are computed, or none."""
    engine: str = ""
    """Version of the code that edits; empty for the code that runs now."""

    @property
    def text_id(self) -> str:
        """What the text is called inside shards; its own name is given at the end."""
        return self.key[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Something that was skipped: `unit` None is the whole text."""

    unit: Unit | None
    kind: str
    """Name of the error."""
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a task."""

    task: Task
    tables: dict[str, bytes]
    """Parquet files of the tables `sinks`, `effects`, `trace` and `roles`; none for a text that
    failed."""
    units: tuple[Unit, ...] = ()
    """Those that are done."""
    n_cells: int = 0
    n_sinks: int = 0
    """Sinks that are no primaries."""
    primary: int | None = None
    left_out: dict[str, int] = field(default_factory=dict)
    """Cells that there cannot be, by reason."""
    failures: tuple[Failure, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    """By stage."""
    where: dict[str, str | None] = field(default_factory=dict)
    """Device, dtype and versions it was computed with."""
