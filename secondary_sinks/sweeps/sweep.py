"""`sweep`: plan, compute what is missing, write complete tables. The same call resumes."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from secondary_sinks.errors import RunFolderError, SweepError, TextError
from secondary_sinks.numbers import true_or_false
from secondary_sinks.runs import about
from secondary_sinks.runs.folder import RunFolder
from secondary_sinks.sweeps.config import SweepConfig
from secondary_sinks.sweeps.entries import Entry
from secondary_sinks.sweeps.executors import Executor, InProcess, loader_of
from secondary_sinks.sweeps.finished import FinishedRun, as_first, asked_for, differences
from secondary_sinks.sweeps.manifest import Manifest
from secondary_sinks.sweeps.output import SweepOutput
from secondary_sinks.sweeps.plan import Plan, plan
from secondary_sinks.sweeps.stored_config import Stored, read_stored, store
from secondary_sinks.sweeps.tasks import ModelSpec, Prepared
from secondary_sinks.texts import Text, TokenizedText
from secondary_sinks.texts.many_files import refuse_same_ids

Tell = Callable[..., None]
"""Called with the name of an event and its details as keyword arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Summary of one call of `sweep`."""

    folder: str
    complete: bool
    """Whether nothing was skipped."""
    nothing_to_do: bool
    n_units: int
    """Units in the tables."""
    n_computed: int
    """Units computed by this call."""
    n_cells: int
    n_sinks: int
    """Number of sinks that are not primaries."""
    failed: tuple[dict[str, Any], ...]
    damaged: tuple[str, ...]
    """Files that were found damaged and computed again."""
    seconds: float


def sweep(
    config: SweepConfig,
    out: str | Path,
    *,
    executor: Executor | None = None,
    models: Mapping[str, Any] | None = None,
    texts: Sequence[Text | TokenizedText] | None = None,
    force: bool = False,
    command: str = "",
    tell: Tell | None = None,
) -> Summary:
    """Compute what is missing of the sweep in `out`, then write its tables and `run.json`.

    `texts` replace the files that the config names, and `models` the models (hooked models by their
    names in the config). A finished sweep may be extended; with `force`, its tables may also be
    replaced by those of other inputs. Finished cells are never computed again, whatever is asked
    for. What cannot be computed is recorded and skipped. Raises `RunFolderError` for a folder that
    cannot be used, and the error of an invalid config or model, or of a text if no text is valid.
    """
    if config.pooled:
        raise SweepError("a sweep finds roles text by text", "leave 'pooled' out, or use `run`")
    config.check(models or (), elsewhere=executor is not None and executor.elsewhere)
    true_or_false("force", force, SweepError)
    given_texts = config.read() if texts is None else list(texts)
    refuse_same_ids(given_texts)
    folder = RunFolder(out)
    with folder.claim():
        work = Sweep(config, folder, given_texts, force, command, tell)
        used = executor or (InProcess() if models is None else InProcess(loader_of(models)))
        try:
            return work.run(used)
        finally:
            if executor is None:
                used.close()


def in_words(todo: Plan) -> dict[str, Any]:
    """A plan in numbers."""
    return {
        "model": todo.spec.name,
        "texts": len(todo.tasks),
        "layers": todo.prepared.model["n_layers"],
        "units": todo.n_units,
        "missing": todo.n_missing,
        "passes": todo.n_passes,
        "tokens": todo.n_tokens,
    }


class Sweep:
    """One call of `sweep`, with its folder claimed."""

    def __init__(
        self,
        config: SweepConfig,
        folder: RunFolder,
        texts: Sequence[Text | TokenizedText],
        force: bool,
        command: str,
        tell: Tell | None,
    ) -> None:
        self.config, self.folder, self.texts = config, folder, texts
        self.force, self.command = force, command
        self.tell = tell or (lambda event, **facts: None)
        self.manifest = Manifest(folder.path)
        asked = asked_for(config, texts)
        self.finished = FinishedRun(folder, config, asked)
        self.output = SweepOutput(folder, config, asked)
        self.stored: Stored | None = None
        self.plans: list[Plan] = []
        self.sinks: dict[str, int] = {}
        self.begin = time.monotonic()
        self.failed: list[str] = []
        """Failures of this call."""
        self.n_computed = self.n_cells = self.n_tokens = 0

    def run(self, executor: Executor) -> Summary:
        """Compute model by model, then write the tables."""
        self.finished.refuse(force=self.force)
        self.stored = self._read_stored()
        damaged = self.manifest.repair()
        for what in damaged:
            self.tell("damaged", what=f"{what}; it was set aside and is computed again")
        for number, spec in enumerate(self.config.models):
            self._model(executor, spec, number)
        done = self._is_done()
        for what in self.finished.complaints:
            self.tell("damaged", what=f"{what}; it is written again")
        damaged += self.finished.complaints
        record = self.finished.record if done else self._write(executor)
        return self._summary(record, damaged, nothing=done and not damaged)

    def _is_done(self) -> bool:
        """Whether the folder holds these tables already."""
        return self.finished.is_done(self.output.key(self.plans, self.manifest))

    def _model(self, executor: Executor, spec: ModelSpec, number: int) -> None:
        self.tell("load", model=spec.name, number=number + 1, models=len(self.config.models))
        prepared = executor.prepare(spec, self.texts, self.config.feed, self.config.thresholds)
        self._refuse_texts(prepared)
        prepared = self._as_first(spec, prepared)
        todo = plan(self.config, spec, prepared, self.manifest)
        self.finished.refuse_others(todo, force=self.force)
        self.plans.append(todo)
        mine = {task.key for task in todo.tasks}
        self.sinks |= {e.task: e.n_sinks for e in self.manifest.entries if e.task in mine}
        store(self.folder.path, self.output.asked, self.plans, self.command)
        for bad in prepared.bad:
            self.tell("failed", model=spec.name, text_id=bad.text_id, reason=bad.reason)
        self.tell("plan", **in_words(todo))
        for entry in self._compute(executor, todo):
            self.tell("task", **self._progress(todo, entry))

    def _refuse_texts(self, prepared: Prepared) -> None:
        """Raise `TextError` if no text is valid."""
        if not prepared.texts and prepared.bad:
            raise TextError(prepared.bad[0].reason)

    def _as_first(self, spec: ModelSpec, prepared: Prepared) -> Prepared:
        """The texts as this folder fed them first; reports differences from the first start."""
        before = self._prepared_before(spec)
        if before is None or self.force:
            return prepared
        prepared, notes = as_first(prepared, before)
        if not self.finished.record:  # otherwise a difference is refused
            notes += differences(before, prepared)
        for what in notes:
            self.tell("note", what=f"{spec.name}: {what}")
        return prepared

    def _prepared_before(self, spec: ModelSpec) -> Prepared | None:
        return dict(self.stored.models if self.stored else ()).get(spec)

    def _read_stored(self) -> Stored | None:
        """Check what the folder was begun with; reports if the code has changed since."""
        try:
            begun = read_stored(self.folder.path)
        except RunFolderError:  # not stored yet, or about to be written anew
            return None
        if not self.finished.record and not self.force:
            for what in about.in_code({"versions_of_code": begun.versions}, about.of_code()):
                self.tell("note", what=f"{what}; cells of other code are recomputed")
        return begun

    def _compute(self, executor: Executor, todo: Plan) -> Iterator[Entry]:
        names = {task.key: text.text_id for text, task in todo.texts()}
        for outcome in executor.run(iter(todo.missing)):
            for failure in outcome.failures:
                unit = "" if failure.unit is None else f" ({asdict(failure.unit)})"
                reason = f"{failure.kind}: {failure.message}{unit}"
                self.failed.append(f"text {names[outcome.task.key]!r}: {reason}")
                self.tell("failed", text_id=names[outcome.task.key], reason=reason)
            yield self.manifest.add(outcome)

    def _progress(self, todo: Plan, entry: Entry) -> dict[str, Any]:
        """Progress of the sweep, as the details of an event."""
        took = time.monotonic() - self.begin
        self.n_computed += len(entry.units)
        self.n_cells += entry.n_cells
        self.n_tokens += entry.n_tokens
        total = sum(len(task.tokens) for one in self.plans for task in one.missing)
        self.sinks[entry.task] = entry.n_sinks
        return {
            "model": todo.spec.name,
            "units": self.n_computed,
            "units_missing": sum(one.n_missing for one in self.plans) - self.n_computed,
            "cells": self.n_cells,
            "cells_per_s": round(self.n_cells / took, 3),
            "tokens": self.n_tokens,
            "tokens_total": total,
            "seconds": round(took, 3),
            "seconds_left": round(took / self.n_tokens * (total - self.n_tokens), 1),
            "sinks": sum(self.sinks.values()),
        }

    def _write(self, executor: Executor) -> dict[str, Any]:
        self.tell("tables", folder=str(self.folder.path))
        return self.output.write(self.plans, self.manifest, self.command)

    def _summary(
        self, record: Mapping[str, Any], damaged: Sequence[str], *, nothing: bool
    ) -> Summary:
        counts = record["sweep"]
        return Summary(
            folder=str(self.folder.path),
            complete=not counts["failed"],
            nothing_to_do=nothing and self.n_computed == 0,
            n_units=counts["n_units"],
            n_computed=self.n_computed,
            n_cells=counts["n_cells"],
            n_sinks=counts["n_sinks"],
            failed=tuple(counts["failed"]),
            damaged=tuple(damaged),
            seconds=round(time.monotonic() - self.begin, 3),
        )
