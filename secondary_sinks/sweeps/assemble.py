"""Shards -> the complete tables of a sweep, in the same order however they were computed."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from secondary_sinks import files
from secondary_sinks.detection import (
    Phenomenon,
    across_texts,
    compare_with_paper,
    shared_lengths,
)
from secondary_sinks.questions import run_claims
from secondary_sinks.runs import durable, parquet
from secondary_sinks.sweeps.compute import NO_EFFECTS
from secondary_sinks.sweeps.config import SweepConfig
from secondary_sinks.sweeps.entries import Entry, unit_of
from secondary_sinks.sweeps.manifest import Manifest
from secondary_sinks.sweeps.plan import Plan
from secondary_sinks.sweeps.tasks import ROLES, Task, Unit, key_of
from secondary_sinks.texts import TokenizedText
from secondary_sinks.types import SinkTable

ABLATING = ("zero", "mean", "twins", "resample", "patch:twin")
"""Edits that remove what a layer writes at a token, and so can show whether it is needed."""


class Assembly:
    """Builds the tables of one model from the shards of its tasks."""

    def __init__(self, plan: Plan, label: str, manifest: Manifest) -> None:
        """Find the shard of each table and task; reads no table yet."""
        self.plan, self.label, self.manifest = plan, label, manifest
        self.texts = plan.texts()
        self.entries: dict[str, list[Entry]] = defaultdict(list)
        for entry in manifest.entries:
            self.entries[entry.task].append(entry)

    def complete(self) -> list[tuple[TokenizedText, Task]]:
        """Observed texts, with their tasks."""
        return [(text, task) for text, task in self.texts if self._entry(task, "sinks")]

    def sinks(self, criterion: str = "joint") -> tuple[pd.DataFrame, list[dict[str, Any]]]:
        """Sinks of all texts, with copies and levels; and tokens that rounding may decide."""
        if criterion == "paper":
            found = self._by_paper()
            table = self._across(found) if found else SinkTable(sinks=())
            return self.named(table.to_frame()), []
        frames = []
        near: list[Any] = []
        for text, task in self.complete():
            frame = self._read(task, "sinks").assign(text_id=text.text_id)
            frames.append(frame[~frame["near"]])
            near += frame.loc[frame["near"], ["text_id", "pos", "token", "kind"]].to_dict("records")
        if not frames:
            return self.named(SinkTable(sinks=()).to_frame()), []
        return self.named(self._across(frames).to_frame()), near

    def phenomenon(self, sinks: pd.DataFrame) -> Phenomenon | None:
        """Whether the sinks are the paper's phenomenon; None without texts.

        None, too, if a text was computed by a version that did not apply the paper's rule.
        """
        texts = self.complete()
        if not texts or not all(self._entry(task, "paper") for _, task in texts):
            return None
        return compare_with_paper(
            SinkTable.from_frame(sinks, texts[0][1].thresholds),
            self._across(self._by_paper()),
            self._tokens(),
            n_layers=self.plan.prepared.model["n_layers"],
        )

    def _by_paper(self) -> list[pd.DataFrame]:
        """The tokens that the paper's rule finds, by text."""
        texts = self.complete()
        return [self._read(task, "paper").assign(text_id=text.text_id) for text, task in texts]

    def _across(self, frames: Sequence[pd.DataFrame]) -> SinkTable:
        """Sinks of all texts, with copies and levels."""
        found = SinkTable.from_frame(pd.concat(frames), self.complete()[0][1].thresholds)
        return replace(found, sinks=across_texts(found.sinks, self._tokens()))

    def _tokens(self) -> dict[str, Tensor]:
        return {text.text_id: text.tokens for text, _ in self.complete()}

    def begins(self) -> dict[str, int]:
        """For each text, the number of tokens from the first on that an earlier text has too."""
        tokens = self._tokens()
        return dict(zip(tokens, shared_lengths([*tokens.values()]), strict=True))

    def effects(self) -> Iterator[pd.DataFrame]:
        """The effects of each text, ordered by edit, site and layer, sinks before controls."""
        yield self.named(NO_EFFECTS)  # so that columns and types exist even without texts
        for text, task in self.complete():
            yield self.named(self._effects(task).assign(text_id=text.text_id))

    def roles(self, sinks: pd.DataFrame) -> Iterator[pd.DataFrame]:
        """Roles at the sinks of each text, copies left out, with their levels."""
        levels = sinks.loc[sinks["copy_of"] == "", ["text_id", "pos", "level"]]
        for text, task in self.complete():
            key = key_of(task, ROLES)
            able = (one for one in self.entries[task.key] if key in one.units)
            entry = next(able, None)
            path = None if entry is None else self.manifest.path_of(entry, "roles")
            if path is not None and ROLES in task.units:
                frame = parquet.read(path).to_pandas().assign(text_id=text.text_id)
                columns, own = list(frame), frame.drop(columns="level")
                yield self.named(own.merge(levels, on=["text_id", "pos"])[columns])

    def trace(self) -> Iterator[pd.DataFrame]:
        """The trace table of each text."""
        for text, task in self.complete():
            yield self.named(self._read(task, "trace").assign(text_id=text.text_id))

    def primaries(self) -> dict[str, int]:
        """Position of the primary sink, by text."""
        found = {text.text_id: self._entry(task, "sinks") for text, task in self.complete()}
        return {
            name: entry.primary
            for name, entry in found.items()
            if entry is not None and entry.primary is not None
        }

    def seconds(self) -> dict[str, float]:
        """Seconds spent per stage, summed over all entries."""
        total: dict[str, float] = {}
        for entry in self._every():
            for stage, took in entry.seconds.items():
                total[stage] = round(total.get(stage, 0.0) + took, 3)
        return total

    def _every(self) -> Iterator[Entry]:
        return (entry for task in self.plan.tasks for entry in self.entries[task.key])

    def failures(self) -> list[dict[str, Any]]:
        """Skipped texts and units: those that could not be fed, observed or edited."""
        found = [
            {"model": self.label, "text_id": bad.text_id, "unit": None, "kind": "TextError",
             "message": bad.reason}
            for bad in self.plan.prepared.bad
        ]  # fmt: skip
        for text, task in self.texts:
            for failure in self._failures(task):
                found.append({"model": self.label, "text_id": text.text_id} | failure)
        return found

    def _failures(self, task: Task) -> list[dict[str, Any]]:
        """The most recent failure of each part that a task lacks."""
        observed = self._entry(task, "sinks") is not None
        done = {key for entry in self.entries[task.key] for key in entry.units}
        last: dict[str, dict[str, Any]] = {}
        for failure in (one for entry in self.entries[task.key] for one in entry.failures):
            key, lacks = "", not observed
            if failure["unit"] is not None:
                unit = unit_of(failure["unit"])
                key = key_of(task, unit)
                lacks = unit in task.units and key not in done
            if lacks:
                last[key] = failure
        return list(last.values())

    def left_out(self) -> dict[str, int]:
        """Number of impossible cells by reason, over all entries."""
        total: Counter[str] = Counter()
        for entry in self._every():
            total.update(entry.left_out)
        return dict(total)

    def _effects(self, task: Task) -> pd.DataFrame:
        order = {unit: place for place, unit in enumerate(task.units)}
        keys = {key_of(task, unit): unit for unit in order}
        parts, seen = [], set[Unit]()
        for entry in self.entries[task.key]:
            mine = {keys[key] for key in entry.units if key in keys} - seen
            seen |= mine
            path = self.manifest.path_of(entry, "effects")
            if mine and path is not None:
                frame = parquet.read(path).to_pandas()
                units = map(unit_of, frame[["edit", "site", "layer"]].to_dict("records"))
                places = [order[unit] if unit in mine else -1 for unit in units]
                frame = frame.assign(place=places)
                parts.append(frame[frame["place"] >= 0])
        if not parts:  # every unit was skipped
            return NO_EFFECTS
        found = pd.concat(parts).sort_values("place", kind="stable")
        return found.drop(columns="place").reset_index(drop=True)

    def _entry(self, task: Task, table: str) -> Entry | None:
        able = (entry for entry in self.entries[task.key] if table in entry.shards)
        return next(able, None)

    def _read(self, task: Task, table: str) -> pd.DataFrame:
        entry = self._entry(task, table)
        assert entry is not None
        path = self.manifest.path_of(entry, table)
        assert path is not None
        return parquet.read(path).to_pandas()

    def named(self, frame: pd.DataFrame) -> pd.DataFrame:
        """A table with the model's name as its first column."""
        frame = frame.assign(model=self.label)
        return frame[["model", *(name for name in frame if name != "model")]]


def write_table(path: Path, name: str, frames: Iterator[pd.DataFrame]) -> bool:
    """Write frames as one table, one row group each; returns whether there was any frame.

    Only one frame is in memory at a time.
    """
    first = next(frames, None)
    if first is None:
        return False

    def make(part: Path) -> None:
        table = parquet.to_arrow(name, first)
        with (
            files.open_file(part, "wb") as file,  # pyarrow reads a path as a URI
            pq.ParquetWriter(file, table.schema, write_page_checksum=True) as writer,
        ):
            writer.write_table(table)
            for frame in frames:
                rest: pa.Table = parquet.to_arrow(name, frame)
                writer.write_table(rest.cast(table.schema))

    durable.fill(path, make)
    return True


def answers(
    effects: pd.DataFrame,
    sinks: pd.DataFrame,
    roles: pd.DataFrame | None,
    config: SweepConfig,
    n_claims: int | None,
    begins: Mapping[str, int],
) -> dict[str, Any]:
    """Verdicts and effects per layer of one model, as far as its edits allow them.

    Both need ablations at a single site; effects per layer use the first of these edits. What texts
    share counts once: copies of sinks are left out, and so are controls in the beginning of a text
    that an earlier text has too (`begins`: its number of tokens). Intervals are corrected for
    `n_claims`; None is the number of claims made here.
    """
    able = [edit for edit in config.edits if edit.partition(":")[0] in ABLATING or edit in ABLATING]
    if not able or len(config.sites) > 1:
        return {**run_claims(None, roles, n_claims)}
    copies = pd.MultiIndex.from_frame(sinks.loc[sinks["copy_of"] != "", ["text_id", "pos"]])
    own = pd.MultiIndex.from_frame(effects[["text_id", "sink_pos"]])
    begin = effects["text_id"].map(begins).astype(float)
    shared = (effects["role"] == "control") & (effects["pos"] < begin)
    asked = effects[effects["edit"].isin(able) & ~own.isin(copies) & ~shared]
    return {**run_claims(asked, roles, n_claims)}


def labels(plans: Sequence[Plan]) -> list[str]:
    """A name for each model in the tables: its own, plus its dtype where names would be equal."""
    names = [str(plan.prepared.model["name"]) for plan in plans]
    if len(set(names)) < len(names):
        names = [plan.spec.name for plan in plans]
    if len(set(names)) < len(names):
        names = [f"{plan.spec.name} ({plan.prepared.dtype})" for plan in plans]
    if len(set(names)) < len(names):
        names = [f"{name} #{number}" for number, name in enumerate(names, start=1)]
    return names
