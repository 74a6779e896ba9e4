"""What a sweep stores about itself: resolved config, models, and texts as fed.

With it, a folder can be inspected, merged and finished without loading a model.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from secondary_sinks import files
from secondary_sinks.errors import RunFolderError, SweepError
from secondary_sinks.runs import durable
from secondary_sinks.runs.folder import WORK
from secondary_sinks.runs.hashes import versions_of_code
from secondary_sinks.runs.record import SAID, describe_text
from secondary_sinks.sweeps.config import SweepConfig
from secondary_sinks.sweeps.config_file import from_dict
from secondary_sinks.sweeps.manifest import Manifest
from secondary_sinks.sweeps.plan import Plan, plan
from secondary_sinks.sweeps.tasks import BadText, ModelSpec, Prepared, Versions
from secondary_sinks.texts import TokenizedText

CONFIG = "config.json"
SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """The content of `sweep/config.json`."""

    command: str
    """A command line that asks for the same; empty for a sweep started from Python."""
    asked: dict[str, Any]
    """The resolved config, and a hash of each text."""
    models: tuple[tuple[ModelSpec, Prepared], ...]
    """Models loaded so far."""
    versions: dict[str, str]
    """Versions of the code that computed."""

    @property
    def config(self) -> SweepConfig:
        """The resolved config."""
        return from_dict(self.asked["config"], CONFIG)

    def plans(self, manifest: Manifest) -> list[Plan]:
        """The plan of each loaded model, with what is still missing."""
        config = self.config
        return [
            plan(config, spec, prepared, manifest, self.versions) for spec, prepared in self.models
        ]


def store(
    folder: Path,
    asked: Mapping[str, Any],
    plans: Sequence[Plan],
    command: str,
    versions: Versions | None = None,
) -> None:
    """Write `sweep/config.json`; `versions` of the code that computes are by default ours."""
    content = {
        "schema": SCHEMA,
        "command": command,
        "versions_of_code": dict(versions or versions_of_code()),
        "asked": asked,
        "models": [{"spec": asdict(p.spec), "prepared": _plain(p.prepared)} for p in plans],
    }
    path = folder / WORK / CONFIG
    written = (json.dumps(files.seal(content), indent=1) + "\n").encode()
    if path.is_file() and files.read_bytes(path) == written:
        return
    durable.make_folder(folder / WORK)
    durable.write(path, written)


def read_stored(folder: Path) -> Stored:
    """Read `sweep/config.json`. Raises `RunFolderError` if it is missing or damaged."""
    path = folder / WORK / CONFIG
    try:
        found = files.load_json(files.read_text(path))
    except OSError as error:
        raise RunFolderError(
            f"{str(folder)!r} is not a sweep folder: it has no readable {WORK}/{CONFIG} "
            f"({error.strerror})"
        ) from error
    except ValueError as error:
        raise _damaged(path, error) from error
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise RunFolderError(
            f"{str(path)!r} is not a config of schema {SCHEMA}", "run the sweep again"
        )
    try:
        found = files.unseal(found)
        stored = Stored(
            command=str(found["command"]),
            asked={
                "config": dict(found["asked"]["config"]),
                "texts": dict(found["asked"]["texts"]),
            },
            models=tuple(_model(one) for one in found["models"]),
            versions=dict(found["versions_of_code"]),
        )
        stored.config  # noqa: B018  an unreadable config counts as damage
    except (KeyError, TypeError, ValueError, AttributeError, SweepError) as error:
        raise _damaged(path, error) from error
    return stored


def _damaged(path: Path, error: Exception) -> RunFolderError:
    return RunFolderError(
        f"{str(path)!r} is damaged ({type(error).__name__}: {error})",
        "remove it and run the same command again: cells that are done are kept",
    )


def _plain(prepared: Prepared) -> dict[str, Any]:
    texts = [describe_text(text) | {"tokens": text.tokens.tolist()} for text in prepared.texts]
    return asdict(replace(prepared, texts=())) | {"texts": texts}


def _model(given: Mapping[str, Any]) -> tuple[ModelSpec, Prepared]:
    spec, prepared = dict(given["spec"]), dict(given["prepared"])
    texts = [
        TokenizedText(
            **{name: one[name] for name in ("text_id", "feed", "fed", *SAID)},
            tokens=torch.tensor(one["tokens"], dtype=torch.long),
        )
        for one in prepared.pop("texts")
    ]
    bad = [BadText(**one) for one in prepared.pop("bad")]
    return (
        ModelSpec(**(spec | {"skip": tuple(spec["skip"])})),
        Prepared(**prepared, texts=tuple(texts), bad=tuple(bad)),
    )
