"""The inputs of a folder of `experiments.all`: fed texts, weights and code. Stored in about.json.

Compared before anything is reused, so that finished results belong to these weights, ids and code.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from experiments.recorded import RECORD
from experiments.shared import Loaded
from secondary_sinks import files
from secondary_sinks.errors import RunFolderError
from secondary_sinks.runs import (
    RunFolder,
    code_version,
    describe,
    describe_change,
    differences_in_words,
    input_differences,
    mismatch,
    sha256_of_json,
)
from secondary_sinks.types import Thresholds

ABOUT = "about.json"
INPUTS: dict[str, Any] = {
    "model": dict,
    "texts": [{"text_id": str, "fed?": str, "token_ids?": [int]}],
    **dict.fromkeys(("versions_of_code?", "versions?"), dict),
}
"""What a record of inputs holds."""
FURTHER = ("asked", "device", "dtype", "seed", "options")
"""What else a finding depends on, where its record has it."""
PACKAGE = Path(__file__).parent
READERS = (
    *("about", "all", "checkpoints", "claims", "claims_table", "copied", "made"),
    *("pages", "prices", "recorded", "table"),
)
"""Modules that change no number: what starts experiments, and what reads their results."""


def about_of(loaded: Loaded, seed: int) -> dict[str, Any]:
    """Record of the inputs: token ids of the texts, weights, and code, experiments included."""
    found = describe(loaded.model, loaded.texts, Thresholds(), None, seed)
    ids = [{"token_ids": text.tokens.tolist()} for text in loaded.texts]
    texts = [text | own for text, own in zip(found["texts"], ids, strict=True)]
    return found | {"texts": texts, "versions_of_code": found["versions_of_code"] | _of_code()}


def key_of(inputs: Mapping[str, Any], name: str, options: Mapping[str, Any]) -> str:
    """A digest of weights, ids, code, seed, and the experiment with its options."""
    parts = [inputs["key"], inputs["versions_of_code"], name, dict(options)]
    return sha256_of_json(parts)


def read_about(out: Path, names: Sequence[str]) -> dict[str, Any]:
    """The inputs of a folder; if about.json is missing, as recorded by one of its experiments.

    Empty for a folder without either. Raises `RunFolderError` for a damaged record.
    """
    for path in (out / ABOUT, *(out / name / RECORD for name in names)):
        found = _read(path)
        found = found if path.name == ABOUT else found.get("provenance", {})
        if not mismatch(found, INPUTS):
            return dict(found)
    return {}


def refuse_other(
    out: Path, old: Mapping[str, Any], new: Mapping[str, Any], *, finished: bool
) -> list[str]:
    """Raise `RunFolderError` if finished experiments had other inputs.

    If no experiment is finished, return the differences in words.
    """
    if not old:
        return []
    found = input_differences(old, new)
    if found and finished:
        what = differences_in_words(found)
        raise RunFolderError(
            f"{str(out)!r} holds finished experiments of other inputs: {what}",
            "choose another --out, or use --force to replace them",
        )
    return found


def refuse_other_finding(out: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raise `RunFolderError` if a finding in a folder had other inputs, or other options.

    `old` is the finding's provenance; an empty one is compared with nothing. An option with its
    default value counts as not given.
    """
    if not old:
        return
    plain = json.loads(json.dumps(new, default=str))
    whole = not mismatch(old, INPUTS) and not mismatch(plain, INPUTS)
    found = input_differences(old, plain) if whole else []
    for name in (one for one in FURTHER if one in plain):
        before, now = old.get(name) or None, plain[name] or None
        if before != now:
            found.append(describe_change(name, before, now))
    if found:
        raise RunFolderError(
            f"{str(out)!r} holds a finding of other inputs: {differences_in_words(found)}",
            "choose another --out, or use --force to replace it",
        )


def write_about(out: Path, inputs: Mapping[str, Any]) -> None:
    """Store the inputs of a folder."""
    if _read(out / ABOUT) != inputs:
        out.mkdir(parents=True, exist_ok=True)
        RunFolder(out).write_text(ABOUT, json.dumps(inputs, ensure_ascii=False) + "\n")


def _read(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if the file does not exist."""
    files.refuse_special(path)
    if not path.is_file():
        return {}
    try:
        found = files.load_json(files.read_text(path))
    except ValueError as error:
        raise RunFolderError(
            f"{str(path)!r} is damaged ({error})",
            "remove it: the experiments it describes are then run again",
        ) from error
    return found if isinstance(found, dict) else {}


@cache
def _of_code() -> dict[str, str]:
    names = sorted(file.name for file in PACKAGE.glob("*.py") if file.stem not in READERS)
    return {
        "experiments": code_version(tuple(names), PACKAGE),
        "plots": code_version(("plots",)),
    }
