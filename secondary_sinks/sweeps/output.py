"""The output of a sweep: its tables and `run.json`."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

from secondary_sinks import files
from secondary_sinks.questions import Answer, damage_at_tokens
from secondary_sinks.runs.folder import OWN, RECORD, TABLES, RunFolder
from secondary_sinks.runs.hashes import versions_of_code
from secondary_sinks.runs.record import commit, describe_text
from secondary_sinks.sweeps.assemble import Assembly, answers, labels, write_table
from secondary_sinks.sweeps.config import SweepConfig
from secondary_sinks.sweeps.manifest import Manifest
from secondary_sinks.sweeps.plan import Plan
from secondary_sinks.sweeps.tasks import Versions


@dataclass(frozen=True, slots=True, kw_only=True)
class Additions:
    """What a run adds to the tables of its sweep."""

    roles: Answer | None = None
    """Roles, found over all texts together."""
    n_claims: int | None = None
    """Number of claims in the report; all its intervals are corrected for it."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Seconds by stage."""


class SweepOutput:
    """The final tables and record of a sweep, in its folder."""

    def __init__(
        self,
        folder: RunFolder,
        config: SweepConfig,
        asked: dict[str, Any],
        versions: Versions | None = None,
    ) -> None:
        """`versions`: of the code that computed the cells; by default of the code that runs now."""
        self.folder, self.config, self.asked = folder, config, asked
        self.versions = dict(versions or versions_of_code())

    def write(
        self,
        plans: Sequence[Plan],
        manifest: Manifest,
        command: str,
        added: Additions | None = None,
    ) -> dict[str, Any]:
        """Write the tables, then `run.json`; in between, the folder is not a finished run.

        Other files of an earlier run, such as answers about other tables, are removed.
        """
        for name in (RECORD, *OWN - {f"{table}.parquet" for table in TABLES}):
            (self.folder.path / name).unlink(missing_ok=True)
        parts = [
            Assembly(plan, label, manifest)
            for plan, label in zip(plans, labels(plans), strict=True)
        ]
        sinks = [part.sinks(self.config.criterion) for part in parts]
        more = added or Additions()
        models = [
            self._model(part, frame, near, more)
            for part, (frame, near) in zip(parts, sinks, strict=True)
        ]
        tables = self._tables(parts, [frame for frame, _ in sinks], more)
        record = self._record(plans, parts, models, manifest, tables) | {"command": command}
        if added is not None:
            record |= {"asked": [], "answers": []}
        self.folder.write_record(record)
        return record

    def _tables(
        self, parts: Sequence[Assembly], sinks: Sequence[pd.DataFrame], added: Additions
    ) -> dict[str, str]:
        """Write the tables; returns the SHA-256 of each by name."""
        tables: dict[str, Iterator[pd.DataFrame]] = {
            "sinks": iter([pd.concat(sinks, ignore_index=True)])
        }
        if self.config.edits:
            tables["effects"] = (frame for part in parts for frame in part.effects())
        if self.config.roles:
            tables["roles"] = (
                frame for part, own in zip(parts, sinks, strict=True) for frame in part.roles(own)
            )
        if added.roles is not None:
            tables["roles"] = iter([parts[0].named(added.roles.cells)])
        if self.config.trace:
            tables["trace"] = (frame for part in parts for frame in part.trace())
        written = {}
        for name in TABLES:
            path = self.folder.path / f"{name}.parquet"
            if name in tables and write_table(path, name, tables[name]):
                written[name] = files.sha256_of(path)
            else:
                path.unlink(missing_ok=True)
        return dict(sorted(written.items()))

    def _model(
        self, part: Assembly, sinks: pd.DataFrame, near: list[dict[str, Any]], added: Additions
    ) -> dict[str, Any]:
        """The record of one model in `run.json`, without the fields that all models share."""
        prepared = part.plan.prepared
        told = part.phenomenon(sinks if self.config.criterion == "joint" else part.sinks()[0])
        effects = pd.concat([*part.effects()], ignore_index=True)
        complete = {text.text_id for text, _ in part.complete()}
        return {
            "label": part.label,
            "model": prepared.model,
            "device": prepared.device,
            "dtype": prepared.dtype,
            "versions": prepared.versions,
            "texts": [describe_text(text) for text in prepared.texts if text.text_id in complete],
            "primaries": part.primaries(),
            "near_sinks": near,
            **({} if told is None else {"phenomenon": asdict(told)}),
            **self._answers(part, sinks, effects, added),
            "n_cells": len(effects),
            "n_sinks": int((sinks["kind"] != "primary").sum()),
            "timings_s": part.seconds() | dict(added.seconds),
        }

    def _answers(
        self, part: Assembly, sinks: pd.DataFrame, effects: pd.DataFrame, added: Additions
    ) -> dict[str, Any]:
        """Verdicts, the numbers behind them, and the damage done by ablating writers."""
        table = self._roles_of(part, sinks, added)
        found = answers(effects, sinks, table, self.config, added.n_claims, part.begins())
        if table is None:
            return found
        return found | {"damage": damage_at_tokens(effects, table).to_dict("records")}

    def _roles_of(
        self, part: Assembly, sinks: pd.DataFrame, added: Additions
    ) -> pd.DataFrame | None:
        """The table of roles; None if roles were not asked for."""
        if added.roles is not None:
            return part.named(added.roles.cells)
        found = [*part.roles(sinks)] if self.config.roles else []
        return pd.concat(found, ignore_index=True) if found else None

    def _record(
        self,
        plans: Sequence[Plan],
        parts: Sequence[Assembly],
        models: list[dict[str, Any]],
        manifest: Manifest,
        tables: Mapping[str, str],
    ) -> dict[str, Any]:
        of_sweep = {
            "asked": self.asked,
            "n_units": sum(len(keys) for _, keys in _present(plans, manifest)),
            "n_cells": sum(model["n_cells"] for model in models),
            "n_sinks": sum(model["n_sinks"] for model in models),
            "failed": [failure for part in parts for failure in part.failures()],
            "left_out": [part.left_out() for part in parts],
        }
        shared = {
            "key": self.key(plans, manifest),
            "commit": commit(),
            "versions_of_code": self.versions,
            "seed": self.config.seed,
            "edit": ", ".join(self.config.edits) or None,
            "thresholds": asdict(self.config.thresholds),
            "models": models,
            "tables": dict(tables),
            "sweep": of_sweep,
        }
        if len(models) > 1:
            return shared
        only = [{name: models[0][name] for name in ("label", "model")}]
        return shared | models[0] | {"models": only}

    def key(self, plans: Sequence[Plan], manifest: Manifest) -> str:
        """Hash of everything that the tables depend on; not of the model's name, for a run."""
        content: list[Any] = [
            [] if self.config.pooled else labels(plans),
            [p.prepared.device for p in plans],
            _present(plans, manifest),
        ]
        content += [self.config.trace, self.versions]
        content += [] if self.config.criterion == "joint" else [self.config.criterion]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _present(plans: Sequence[Plan], manifest: Manifest) -> list[tuple[str, list[str]]]:
    """Texts and their finished units, in the order of the tables."""
    return [one for plan in plans for one in plan.present(manifest)]
