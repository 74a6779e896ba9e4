"""The end of a sweep: its tables and `run.json`, and what a finished one may be replaced by."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from secondary_sinks.errors import RunFolderError
from secondary_sinks.questions import writer_verdicts
from secondary_sinks.runs import about, durable
from secondary_sinks.runs.folder import OWN, RECORD, TABLES, WORK, RunFolder
from secondary_sinks.runs.hashes import versions_of_code
from secondary_sinks.runs.opened import by_model
from secondary_sinks.runs.record import commit
from secondary_sinks.sweeps import inputs
from secondary_sinks.sweeps.assemble import Assembly, answers, labels, write_table
from secondary_sinks.sweeps.config import MOST_LAYERS, SweepConfig, parse_layers
from secondary_sinks.sweeps.keys import Versions
from secondary_sinks.sweeps.manifest import Manifest
from secondary_sinks.sweeps.plan import Plan
from secondary_sinks.texts import Text, TokenizedText

PLACES = ("device", "n_devices", "skip")
"""Of a model's spec: where it is loaded, which changes no cell."""
GROWING = ("models", "texts", "edits", "sites", "layers")
"""What a finished sweep may get more of."""


def asked_for(config: SweepConfig, texts: Sequence[Text | TokenizedText]) -> dict[str, Any]:
    """The resolved config, with a hash of each text."""
    hashes = {
        text.text_id: text.sha256
        if isinstance(text, Text)
        else hashlib.sha256(str(text.tokens.tolist()).encode()).hexdigest()
        for text in texts
    }
    return {"config": config.to_dict(), "texts": hashes}


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """In which way a sweep is no extension of an earlier one; empty where it is one.

    An extension asks for all that was asked for, and perhaps for more.
    """
    before, now = dict(old["config"]), dict(new["config"])
    for asked in (before, now):
        asked["models"] = [
            {key: value for key, value in spec.items() if key not in PLACES}
            for spec in asked["models"]
        ]
    texts = [
        about.changed(f"texts: {name!r}", sha256, new["texts"].get(name))
        for name, sha256 in old["texts"].items()
        if new["texts"].get(name) != sha256
    ]
    if texts:
        return about.in_words(texts)
    if not _layers(before) <= _layers(now):
        return about.changed("layers", before["layers"] or "all", now["layers"] or "all")
    for name in ("models", "edits", "sites"):
        if any(one not in now[name] for one in before[name]):
            return about.changed(name, _named(before[name]), _named(now[name]))
    other = (name for name in sorted(before.keys() - {*GROWING}) if before[name] != now.get(name))
    return next((about.changed(name, before[name], now.get(name)) for name in other), "")


def _named(asked: Sequence[Any]) -> str:
    return ", ".join(str(one["name"] if isinstance(one, Mapping) else one) for one in asked)


def _layers(asked: Mapping[str, Any]) -> set[int]:
    """The layers asked for; all of them are all that a model may have."""
    words = asked["layers"]
    return set(range(MOST_LAYERS)) if words is None else set(parse_layers(words))


class Finish:
    """What a folder holds already, and how a sweep ends in it."""

    def __init__(
        self,
        folder: RunFolder,
        config: SweepConfig,
        asked: dict[str, Any],
        versions: Versions | None = None,
    ) -> None:
        """Read `run.json` where there is one; one that cannot be read is a complaint.

        `versions` are those of the code that computed the cells, by default of the code here.
        """
        self.folder, self.config, self.asked = folder, config, asked
        self.versions = dict(versions or versions_of_code())
        self.complaints: list[str] = []
        self.record: dict[str, Any] = {}
        if folder.has_record():
            try:
                self.record = folder.record()
            except RunFolderError as error:
                if not (folder.path / WORK).is_dir():
                    raise
                self.complaints.append(str(error).partition(";")[0])

    def refuse(self, *, force: bool) -> None:
        """Raise `RunFolderError` where the folder holds what this sweep must not replace."""
        if not (self.folder.path / WORK).is_dir():
            self.folder.check(force=force)
            return
        foreign = sorted(
            path.name
            for path in self.folder.path.iterdir()
            if path.name not in OWN | {WORK, "export"} and not path.name.startswith(durable.PART)
        )
        if foreign:
            raise RunFolderError(
                f"{str(self.folder.path)!r} holds {foreign[0]!r}, which no run wrote; choose "
                "another --out"
            )
        if self.record and not force:
            other = difference(self.record["sweep"]["asked"], self.asked)
            code = about.in_words([*about.in_code(self.record["sweep"], about.of_code())])
            if other or code:
                raise self._other(other or code)

    def refuse_others(self, plan: Plan, *, force: bool) -> None:
        """Raise `RunFolderError` where the finished sweep was of other weights, or fed otherwise.

        Texts that are new are none of its business: a sweep may grow.
        """
        if force or not self.record:
            return
        asked, now = self.record["sweep"]["asked"]["config"]["models"], plan.prepared
        for spec, one in zip(asked, by_model(self.record), strict=True):
            if (spec["name"], spec["dtype"]) != (plan.spec.name, plan.spec.dtype):
                continue
            known = {text["text_id"] for text in one["texts"]}
            fed = [text for text in inputs.texts_of(now) if text["text_id"] in known]
            found = [*about.in_weights(one["model"], now.model), *about.in_texts(one["texts"], fed)]
            if found:
                what = f"weights or settings of model {plan.spec.name!r}: "
                what = what if found[0].startswith(about.WEIGHTS) else ""
                raise self._other(what + about.in_words(found))

    def _other(self, what: str) -> RunFolderError:
        return RunFolderError(
            f"{str(self.folder.path)!r} is not empty (it holds a finished run of other inputs: "
            f"other {what}); choose another --out, or use --force to replace its tables (cells "
            "that are the same are kept)"
        )

    def is_done(self, plans: Sequence[Plan], manifest: Manifest) -> bool:
        """Whether the tables are those of these plans, and undamaged."""
        if not self.record or self.record["key"] != self._key(plans, manifest):
            return False
        if self.record["sweep"]["asked"] != self.asked:
            return False
        for name, sha256 in self.record.get("tables", {}).items():
            path = self.folder.path / f"{name}.parquet"
            if not path.is_file() or durable.sha256_of(path) != sha256:
                self.complaints.append(f"{path.name} is damaged or missing")
        return not self.complaints

    def write(self, plans: Sequence[Plan], manifest: Manifest, command: str) -> dict[str, Any]:
        """Write the tables, then `run.json`; between them the folder is no finished run."""
        for name in OWN:
            if name == RECORD or not name.endswith(".parquet"):
                (self.folder.path / name).unlink(missing_ok=True)
        parts = [
            Assembly(plan, label, manifest)
            for plan, label in zip(plans, labels(plans), strict=True)
        ]
        sinks = [part.sinks() for part in parts]
        models = []
        for part, (frame, near) in zip(parts, sinks, strict=True):
            models.append(self._model(part, frame, near))
        tables = self._tables(parts, [frame for frame, _ in sinks])
        record = self._record(plans, parts, models, manifest, tables) | {"command": command}
        self.folder.write_record(record)
        return record

    def _tables(self, parts: Sequence[Assembly], sinks: Sequence[pd.DataFrame]) -> dict[str, str]:
        """Write the tables; the SHA-256 of each by name."""
        tables: dict[str, Iterator[pd.DataFrame]] = {
            "sinks": iter([pd.concat(sinks, ignore_index=True)]),
            "effects": (frame for part in parts for frame in part.effects()),
        }
        if self.config.roles:
            tables["roles"] = (
                frame for part, own in zip(parts, sinks, strict=True) for frame in part.roles(own)
            )
        if self.config.trace:
            tables["trace"] = (frame for part in parts for frame in part.trace())
        written = {}
        for name in TABLES:
            path = self.folder.path / f"{name}.parquet"
            if name in tables and write_table(path, name, tables[name]):
                written[name] = durable.sha256_of(path)
            else:
                path.unlink(missing_ok=True)
        return dict(sorted(written.items()))

    def _model(
        self, part: Assembly, sinks: pd.DataFrame, near: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """What `run.json` says of one model: the record of a run, but for what all share."""
        prepared = part.plan.prepared
        effects = pd.concat([*part.effects()], ignore_index=True)
        complete = {text.text_id for text, _ in part.complete()}
        return {
            "label": part.label,
            "model": prepared.model,
            "device": prepared.device,
            "dtype": prepared.dtype,
            "versions": prepared.versions,
            "texts": [
                {
                    "text_id": text.text_id,
                    "feed": text.feed,
                    "n_tokens": len(text.tokens),
                    "tokens_sha256": text.tokens_sha256,
                    "fed": text.fed,
                }
                for text in prepared.texts
                if text.text_id in complete
            ],
            "primaries": part.primaries(),
            "near_sinks": near,
            **answers(effects, sinks, self.config),
            **self._writers(part, sinks),
            "n_cells": len(effects),
            "n_sinks": int((sinks["kind"] != "primary").sum()),
            "timings_s": part.seconds(),
        }

    def _writers(self, part: Assembly, sinks: pd.DataFrame) -> dict[str, Any]:
        found = [*part.roles(sinks)] if self.config.roles else []
        if not found:
            return {}
        table = pd.concat(found, ignore_index=True)
        return {"writers": [asdict(verdict) for verdict in writer_verdicts(table)]}

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
            "versions_of_code": self.versions,
            "n_units": sum(len(keys) for _, keys in _present(plans, manifest)),
            "n_cells": sum(model["n_cells"] for model in models),
            "n_sinks": sum(model["n_sinks"] for model in models),
            "failed": [failure for part in parts for failure in part.failures()],
            "left_out": [part.left_out() for part in parts],
        }
        shared = {
            "key": self._key(plans, manifest),
            "commit": commit(),
            "seed": self.config.seed,
            "edit": ", ".join(self.config.edits),
            "thresholds": asdict(self.config.thresholds),
            "models": models,
            "tables": dict(tables),
            "sweep": of_sweep,
        }
        if len(models) > 1:
            return shared
        only = [{name: models[0][name] for name in ("label", "model")}]
        return shared | models[0] | {"models": only}

    def _key(self, plans: Sequence[Plan], manifest: Manifest) -> str:
        """A hash of all that the tables are made of."""
        content: list[Any] = [
            labels(plans),
            [p.prepared.device for p in plans],
            _present(plans, manifest),
        ]
        content += [self.config.trace, self.versions]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _present(plans: Sequence[Plan], manifest: Manifest) -> list[tuple[str, list[str]]]:
    """Texts and their units that are done, in the order of the tables."""
    return [one for plan in plans for one in plan.present(manifest)]
