"""Shards -> the complete tables of a sweep, in one order whatever happened on the way."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from secondary_sinks.detection import across_texts
from secondary_sinks.questions import run_claims
from secondary_sinks.runs import durable, parquet
from secondary_sinks.sweeps.compute import NO_EFFECTS
from secondary_sinks.sweeps.config import SweepConfig
from secondary_sinks.sweeps.entries import Entry, unit_of
from secondary_sinks.sweeps.keys import key_of
from secondary_sinks.sweeps.manifest import Manifest
from secondary_sinks.sweeps.plan import Plan
from secondary_sinks.sweeps.tasks import ROLES, FedText, Task, Unit
from secondary_sinks.types import SinkTable

ABLATING = ("zero", "mean", "twins", "resample", "patch:twin")
"""Edits that take away what a layer writes there, and so can say whether it is needed."""


class Assembly:
    """The tables of one model, from the shards of its tasks."""

    def __init__(self, plan: Plan, label: str, manifest: Manifest) -> None:
        """Look up which shard holds what; nothing is read yet."""
        self.plan, self.label, self.manifest = plan, label, manifest
        self.texts = plan.texts()
        self.entries: dict[str, list[Entry]] = {}
        for entry in manifest.entries:
            self.entries.setdefault(entry.task, []).append(entry)

    def complete(self) -> list[tuple[FedText, Task]]:
        """The texts that were observed, with their tasks."""
        return [(text, task) for text, task in self.texts if self._entry(task, "sinks")]

    def sinks(self) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
        """The sinks of all texts, with copies and levels; and what half precision may hide."""
        frames, tokens = [], {}
        near: list[dict[str, Any]] = []
        for text, task in self.complete():
            frame = self._read(task, "sinks").assign(text_id=text.text_id)
            frames.append(frame[~frame["near"]])
            columns = ["text_id", "pos", "token", "kind"]
            near += [
                {str(key): value for key, value in row.items()}
                for row in frame.loc[frame["near"], columns].to_dict("records")
            ]
            tokens[text.text_id] = torch.tensor(text.tokens)
        if not frames:
            return self.named(SinkTable(sinks=()).to_frame()), []
        found = SinkTable.from_frame(pd.concat(frames)).sinks
        joined = SinkTable(sinks=across_texts(found, tokens))
        return self.named(joined.to_frame()), near

    def effects(self) -> Iterator[pd.DataFrame]:
        """The effects of each text: by edit, site and layer, then sinks before controls."""
        yield self.named(NO_EFFECTS)  # columns and types, where there is no text
        for text, task in self.complete():
            yield self.named(self._effects(task).assign(text_id=text.text_id))

    def roles(self, sinks: pd.DataFrame) -> Iterator[pd.DataFrame]:
        """The roles at the sinks of each text that stood in no earlier one, with their levels."""
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
        """The measures of each text."""
        for text, task in self.complete():
            yield self.named(self._read(task, "trace").assign(text_id=text.text_id))

    def primaries(self) -> dict[str, int]:
        """Position of the primary, by text."""
        found = {text.text_id: self._entry(task, "sinks") for text, task in self.complete()}
        return {
            name: entry.primary
            for name, entry in found.items()
            if entry is not None and entry.primary is not None
        }

    def seconds(self) -> dict[str, float]:
        """Seconds of each stage, over all entries."""
        total: dict[str, float] = {}
        for task in self.plan.tasks:
            for entry in self.entries.get(task.key, []):
                for stage, took in entry.seconds.items():
                    total[stage] = round(total.get(stage, 0.0) + took, 3)
        return total

    def failures(self) -> list[dict[str, Any]]:
        """What was skipped: texts that could not be fed or observed, and units."""
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
        """The last words about what a task lacks."""
        observed = self._entry(task, "sinks") is not None
        done = {key for entry in self.entries.get(task.key, []) for key in entry.units}
        last: dict[str, dict[str, Any]] = {}
        for entry in self.entries.get(task.key, []):
            for failure in entry.failures:
                unit = failure["unit"]
                if unit is None and not observed:
                    last[""] = failure
                elif unit is not None and unit_of(unit) in task.units:
                    key = key_of(task, unit_of(unit))
                    if key not in done:
                        last[key] = failure
        return list(last.values())

    def left_out(self) -> dict[str, int]:
        """Cells that there cannot be, by reason, over all entries."""
        total: dict[str, int] = {}
        for task in self.plan.tasks:
            for entry in self.entries.get(task.key, []):
                for reason, number in entry.left_out.items():
                    total[reason] = total.get(reason, 0) + number
        return total

    def _effects(self, task: Task) -> pd.DataFrame:
        order = {unit: place for place, unit in enumerate(task.units)}
        parts, seen = [], set[Unit]()
        for entry in self.entries.get(task.key, []):
            keys = {key_of(task, unit): unit for unit in order}
            mine = {keys[key] for key in entry.units if key in keys} - seen
            seen |= mine
            path = self.manifest.path_of(entry, "effects")
            if mine and path is not None:
                frame = parquet.read(path).to_pandas()
                places = [
                    order[unit] if unit in mine else -1
                    for unit in map(_unit, frame["edit"], frame["site"], frame["layer"])
                ]
                frame = frame.assign(place=places)
                parts.append(frame[frame["place"] >= 0])
        if not parts:  # every unit was skipped
            return NO_EFFECTS
        found = pd.concat(parts).sort_values("place", kind="stable")
        return found.drop(columns="place").reset_index(drop=True)

    def _entry(self, task: Task, table: str) -> Entry | None:
        able = (entry for entry in self.entries.get(task.key, []) if table in entry.shards)
        return next(able, None)

    def _read(self, task: Task, table: str) -> pd.DataFrame:
        entry = self._entry(task, table)
        assert entry is not None
        path = self.manifest.path_of(entry, table)
        assert path is not None
        return parquet.read(path).to_pandas()

    def named(self, frame: pd.DataFrame) -> pd.DataFrame:
        """A table with the model's name in front."""
        frame = frame.assign(model=self.label)
        return frame[["model", *(name for name in frame if name != "model")]]


def _unit(edit: str, site: str, layer: int) -> Unit:
    return Unit(edit=edit, site=site, layer=int(layer))


def write_table(path: Path, name: str, frames: Iterator[pd.DataFrame]) -> bool:
    """Write frames one after the other as one table, a row group each; whether there was any.

    No more than one frame is in memory.
    """
    first = next(frames, None)
    if first is None:
        return False

    def make(part: Path) -> None:
        table = parquet.to_arrow(name, first)
        with pq.ParquetWriter(part, table.schema, write_page_checksum=True) as writer:
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
    n_claims: int | None = None,
) -> dict[str, Any]:
    """What the effects and roles of one model say of each layer, where they can say anything.

    Both need edits that ablate, at one site; effects by layer are those of the first of them.
    Intervals are corrected for `n_claims`, by default those made here.
    """
    able = [edit for edit in config.edits if _kind(edit) in ABLATING or edit in ABLATING]
    if not able or len(config.sites) > 1:
        return {**run_claims(None, roles, n_claims)}
    copies = pd.MultiIndex.from_frame(sinks.loc[sinks["copy_of"] != "", ["text_id", "pos"]])
    own = pd.MultiIndex.from_frame(effects[["text_id", "sink_pos"]])
    asked = effects[effects["edit"].isin(able) & ~own.isin(copies)]
    return {**run_claims(asked, roles, n_claims)}


def _kind(edit: str) -> str:
    return edit.partition(":")[0]


def labels(plans: Sequence[Plan]) -> list[str]:
    """A name for each model in the tables: its own, with its dtype where that alone is not one."""
    names = [str(plan.prepared.model["name"]) for plan in plans]
    if len(set(names)) < len(names):
        names = [plan.spec.name for plan in plans]
    if len(set(names)) < len(names):
        names = [f"{plan.spec.name} ({plan.prepared.dtype})" for plan in plans]
    if len(set(names)) < len(names):
        names = [f"{name} #{number}" for number, name in enumerate(names, start=1)]
    return names
