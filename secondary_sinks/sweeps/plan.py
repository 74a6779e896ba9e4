"""The tasks of a sweep: which exist, which are done, and what the rest will cost."""

from dataclasses import dataclass, replace

from secondary_sinks.runs.hashes import hash_tokens
from secondary_sinks.sweeps.config import SweepConfig
from secondary_sinks.sweeps.manifest import Manifest
from secondary_sinks.sweeps.tasks import (
    ModelSpec,
    Prepared,
    Task,
    Versions,
    key_of,
    task_key,
)
from secondary_sinks.texts import TokenizedText


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All work for one model."""

    spec: ModelSpec
    prepared: Prepared
    tasks: tuple[Task, ...]
    """All tasks, one per distinct text, each with all its units."""
    missing: tuple[Task, ...]
    """Unfinished tasks, each with its missing units."""

    def texts(self) -> list[tuple[TokenizedText, Task]]:
        """Every fed text with its task; texts with the same tokens share a task."""
        by_tokens = {task.tokens: task for task in self.tasks}
        return [(text, by_tokens[text.ids]) for text in self.prepared.texts]

    @property
    def n_units(self) -> int:
        """Total number of units."""
        return sum(len(task.units) for task in self.tasks)

    @property
    def n_missing(self) -> int:
        """Number of missing units."""
        return sum(len(task.units) for task in self.missing)

    @property
    def n_passes(self) -> int:
        """Passes still to make: one to observe a text, one to edit it."""
        return sum(1 + bool(task.units) for task in self.missing)

    @property
    def n_tokens(self) -> int:
        """Tokens in these passes."""
        return sum(len(task.tokens) * (1 + bool(task.units)) for task in self.missing)

    def present(self, manifest: Manifest) -> list[tuple[str, list[str]]]:
        """Observed texts and the keys of their finished units, in order."""
        done, tables, found = manifest.done(), manifest.tables(), []
        for text, task in self.texts():
            if "sinks" in tables.get(task.key, ()):
                keys = [key_of(task, unit) for unit in task.units]
                have = done.get(task.key, set())
                found.append((text.text_id, [key for key in keys if key in have]))
        return found


def plan(
    config: SweepConfig,
    spec: ModelSpec,
    prepared: Prepared,
    manifest: Manifest,
    versions: Versions | None = None,
) -> Plan:
    """Plan the tasks of a model for code of these versions; by default, the code that runs now.

    Raises `SweepError` for layers that the model does not have.
    """
    units = config.units(prepared.model["n_layers"])
    tasks: dict[str, Task] = {}
    for text in prepared.texts:
        key = task_key(
            *(prepared.model, prepared.dtype, hash_tokens(text.ids), config.thresholds, versions)
        )
        tasks[key] = Task(
            key=key,
            spec=spec,
            weights_sha256=prepared.model["weights_sha256"],
            tokens=text.ids,
            units=units,
            thresholds=config.thresholds,
            ordinary=config.ordinary,
            trace=config.trace,
            whole=config.pooled,
            engine=versions["engine"] if versions else "",
        )
    done, tables = manifest.done(), manifest.tables()
    rest = (
        _missing(task, done.get(task.key, set()), tables.get(task.key, set()))
        for task in tasks.values()
    )
    return Plan(
        spec=spec,
        prepared=prepared,
        tasks=tuple(tasks.values()),
        missing=tuple(task for task in rest if task is not None),
    )


def _missing(task: Task, done: set[str], tables: set[str]) -> Task | None:
    """The task with its missing units only; None if nothing is missing."""
    units = tuple(u for u in task.units if key_of(task, u) not in done)
    whole = "sinks" in tables and ("trace" in tables or not task.trace)
    if not units and whole:
        return None
    return task if task.whole and units else replace(task, units=units)
