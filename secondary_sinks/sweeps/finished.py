"""What a finished folder holds, and whether a sweep may extend or replace it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from secondary_sinks import files
from secondary_sinks.errors import RunFolderError
from secondary_sinks.runs import about, durable
from secondary_sinks.runs.about import fed_first, in_texts, in_weights
from secondary_sinks.runs.folder import OWN, WORK, RunFolder
from secondary_sinks.runs.hashes import DECIDING, hash_tokens
from secondary_sinks.runs.opened import by_model
from secondary_sinks.runs.record import describe_text
from secondary_sinks.runs.schema import TEXT, whole_record
from secondary_sinks.sweeps.config import MOST_LAYERS, SweepConfig, parse_layers
from secondary_sinks.sweeps.plan import Plan
from secondary_sinks.sweeps.tasks import Prepared
from secondary_sinks.texts import Text, TokenizedText, as_fed_first


def as_first(now: Prepared, before: Prepared) -> tuple[Prepared, list[str]]:
    """Model and texts with the token ids that were fed first, and messages about changed texts."""
    if any(now.model[name] != before.model[name] for name in DECIDING):
        return now, []
    stored = {text.text_id: text for text in before.texts}
    texts = tuple(as_fed_first(text, stored.get(text.text_id)) for text in now.texts)
    changes = [a.text_id for a, b in zip(now.texts, texts, strict=True) if a.ids != b.ids]
    return replace(now, texts=texts), [fed_first(name) for name in changes]


def differences(before: Prepared, now: Prepared) -> list[str]:
    """Differences in models and texts between an unfinished sweep and its start."""
    old, new = texts_of(before), texts_of(now)
    there = {text["text_id"] for text in new}
    both = [text for text in old if text["text_id"] in there]
    known = {text["text_id"] for text in old}
    changes = in_texts(both, [text for text in new if text["text_id"] in known])
    found = [*in_weights(before.model, now.model), *changes]
    return [f"{what}; cells of the earlier inputs are not used" for what in found]


def texts_of(prepared: Prepared) -> list[dict[str, Any]]:
    """The texts of a model in a sweep, in the form that `in_texts` compares."""
    return [describe_text(text) for text in prepared.texts]


PLACES = ("device", "n_devices", "skip")
"""Fields of a model's spec that change no cell: devices and skipped checks."""
COMPARED: dict[str, Any] = {"model?": dict, "texts?": [TEXT], "key": str}
"""Required fields of a record, with types as in `schema`."""
NAMES = ("name", "revision", "trust_remote_code")
"""Fields of a model's spec that say what it is called and how its files are found."""
GROWING = ("models", "texts", "limit", "edits", "sites", "layers")
"""Settings by which a finished sweep may grow; texts are compared one by one."""


def asked_for(config: SweepConfig, texts: Sequence[Text | TokenizedText]) -> dict[str, Any]:
    """The resolved config, with a hash of each text."""
    hashes = {
        text.text_id: text.sha256 if isinstance(text, Text) else hash_tokens(text.tokens.tolist())
        for text in texts
    }
    return {"config": config.to_dict(), "texts": hashes}


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Why a sweep does not extend an earlier one; empty if it does.

    An extension asks for everything that the earlier sweep asked for, and may ask for more. A run
    cannot be extended.
    """
    before, now = _comparable(old["config"]), _comparable(new["config"])
    pooled = bool(now.get("pooled"))
    if bool(before.get("pooled")) != pooled:
        return f"{_kind(before)}, not {_kind(now)}"
    cut = before.get("max_tokens"), now.get("max_tokens")
    if cut[0] != cut[1]:
        return about.describe_change("max_tokens", cut[0] or "all", cut[1] or "all")
    return _texts_differ(old["texts"], new["texts"], pooled) or _asked_differ(before, now)


def _comparable(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config without the fields of its models that change no cell.

    The one model of a run is identified by its weights (`refuse_others`), whatever its name.
    """
    unrelated = {*PLACES, *(NAMES if config.get("pooled") else ())}
    models = [
        {key: value for key, value in spec.items() if key not in unrelated}
        for spec in config["models"]
    ]
    return {**config, "models": models}


def _kind(config: Mapping[str, Any]) -> str:
    return "a run" if config.get("pooled") else "a sweep"


def _texts_differ(old: Mapping[str, str], new: Mapping[str, str], pooled: bool) -> str:
    """Texts that changed or are missing; for a run also new ones, since its roles use all texts."""
    names = dict.fromkeys([*old, *(new if pooled else ())])
    found = [
        about.describe_change(f"texts: {name!r}", old.get(name), new.get(name))
        for name in names
        if old.get(name) != new.get(name)
    ]
    return about.in_words(found)


def _asked_differ(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    layers, pooled = (_layers(before), _layers(now)), now.get("pooled")
    if not (layers[0] == layers[1] if pooled else layers[0] <= layers[1]):
        return about.describe_change("layers", before["layers"] or "all", now["layers"] or "all")
    for name in ("models", "edits", "sites"):
        lost = any(one not in now[name] for one in before[name])
        if lost or (pooled and len(before[name]) != len(now[name])):
            return _changed(name, before[name], now[name])
    known = sorted(before.keys() & now.keys() - {*GROWING})
    other = (name for name in known if before[name] != now[name])
    return next((about.describe_change(name, before[name], now[name]) for name in other), "")


def _changed(name: str, before: Sequence[Any], now: Sequence[Any]) -> str:
    """Which edits, sites or models changed; for a model of the same name, which setting."""
    if name == "models" and _named(before) == _named(now):
        for old, new in zip(before, now, strict=True):
            for key in old.keys() & new.keys():
                if old[key] != new[key]:
                    return about.describe_change(key, old[key], new[key])
    return about.describe_change(name, _named(before), _named(now))


def _named(asked: Sequence[Any]) -> str:
    return ", ".join(str(one.get("name") if isinstance(one, Mapping) else one) for one in asked)


def _layers(asked: Mapping[str, Any]) -> set[int]:
    """The layers asked for; without a choice, every layer that a model may have."""
    words = asked["layers"]
    return set(range(MOST_LAYERS)) if words is None else set(parse_layers(words))


class FinishedRun:
    """The finished run or sweep that a folder holds before this call, if there is one."""

    def __init__(self, folder: RunFolder, config: SweepConfig, asked: dict[str, Any]) -> None:
        """Read `run.json` if it exists; an unreadable one is kept as a complaint."""
        self.folder, self.config, self.asked = folder, config, asked
        self.complaints: list[str] = []
        self.record: dict[str, Any] = {}
        if folder.has_record():
            try:
                self.record = whole_record(folder, COMPARED)
            except RunFolderError as error:
                if not (folder.path / WORK).is_dir():
                    raise
                self.complaints.append(error.problem)

    def refuse(self, *, force: bool) -> None:
        """Raise `RunFolderError` if the folder holds something that this sweep must not replace."""
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
                f"{str(self.folder.path)!r} holds {foreign[0]!r}, which no run wrote",
                "choose another --out",
            )
        if self.record and not force:
            other = difference(self.record["sweep"]["asked"], self.asked)
            code = about.in_words([*about.in_code(self.record, about.of_code())])
            if other or code:
                raise self.other(other or code)

    def refuse_others(self, plan: Plan, *, force: bool) -> None:
        """Raise `RunFolderError` if the finished sweep used other weights or other tokens.

        New texts are allowed, since a sweep may grow.
        """
        if force or not self.record:
            return
        asked, now = self.record["sweep"]["asked"]["config"]["models"], plan.prepared
        for spec, one in zip(asked, by_model(self.record), strict=True):
            same = (spec["name"], spec["dtype"]) == (plan.spec.name, plan.spec.dtype)
            if not (same or self.config.pooled):
                continue
            known = {text["text_id"] for text in one["texts"]}
            fed = [text for text in texts_of(now) if text["text_id"] in known]
            weights = [*about.in_weights(one["model"], now.model)]
            found = [*weights, *about.in_texts(one["texts"], fed)]
            if found:
                what = f"weights or settings of model {plan.spec.name!r}: " if weights else ""
                raise self.other(what + about.in_words(found))

    def other(self, what: str) -> RunFolderError:
        """The error for a folder that holds something else."""
        return RunFolderError(
            f"{str(self.folder.path)!r} is not empty (it holds a finished run of other inputs: "
            f"other {what})",
            "choose another --out, or use --force to replace its tables (cells "
            "that are the same are kept)",
        )

    def is_done(self, key: str) -> bool:
        """Whether the folder holds undamaged tables with this key (`SweepOutput.key`)."""
        if not self.record or self.record["key"] != key:
            return False
        if difference(self.asked, self.record["sweep"]["asked"]):
            return False
        for name, sha256 in self.record.get("tables", {}).items():
            path = self.folder.path / f"{name}.parquet"
            if not path.is_file() or files.sha256_of(path) != sha256:
                self.complaints.append(f"{path.name} is damaged or missing")
        return not self.complaints
