"""verdict.json of an experiment, checked field by field before use."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from secondary_sinks import files
from secondary_sinks.errors import SinkError
from secondary_sinks.runs import NUMBER, OUTCOMES, RunFolder, mismatch

RECORD = "verdict.json"
UNTESTABLE = "not testable"
EARLIER = "earlier method"
"""Shown in the place of the outcome of a record that is superseded."""

MAYBE = (*NUMBER, type(None))
VERDICT: dict[str, Any] = {
    **dict.fromkeys(("claim", "outcome", "why", "statistic", "counted?", "grouped?"), str),
    **dict.fromkeys(("value", "low", "high"), MAYBE),
    **{"confidence": NUMBER, "n_sinks": int, "n_texts": int, "layer?": (int, type(None))},
}
SAMPLE: dict[str, Any] = {
    **dict.fromkeys(("n_texts", "n_tokens", "n_sinks", "n_distinct"), int),
    "created_at": dict,
}
SOURCE: dict[str, Any] = dict.fromkeys(("file?", "sha256?", "repository?"), str)
MADE: dict[str, Any] = {
    "asked": {"model": str, "texts?": (str, type(None)), **SOURCE},
    "options?": (dict, type(None)),
    "texts?": [{"text_id?": str, "n_tokens?": int}],
    "commit?": (str, type(None)),
    "versions_of_code?": dict,
    "sample?": SAMPLE,
}
RECORDED: dict[str, Any] = {
    "provenance?": MADE | {"model?": {"n_layers": int, "weights_sha256?": str}},
    "captions?": dict,
    "name?": str,
    "question?": str,
    "files?": [str],
}


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write plain data as the record of a folder, with its SHA-256."""
    content = json.dumps(files.seal(record), indent=2, ensure_ascii=False, allow_nan=False)
    RunFolder(folder).write_text(RECORD, content + "\n")


def read_record(path: Path, *, sealed: bool = False) -> dict[str, Any]:
    """The finding of an experiment, or its failure, without its SHA-256.

    Raises `SinkError` that names a wrong field, and for a content of another SHA-256. A record
    without one was written by an earlier version, and is refused only if it has to be `sealed`.
    """
    try:
        record = files.load_json(files.read_text(path))
        if isinstance(record, dict):
            if sealed and record.get("sha256") is None:
                raise ValueError("it has no sha256")
            record = files.unseal(record, required=False)
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error
    failed = isinstance(record, dict) and "failed" in record
    shape = {"failed": str} if failed else {"verdict": VERDICT, "further": [VERDICT]}
    wrong = mismatch(record, RECORDED | shape) or _wrong_words(record)
    if wrong:
        raise damaged(path, wrong)
    return dict(record)


def _wrong_words(record: dict[str, Any]) -> str:
    """Unknown outcomes, and captions that are not text."""
    verdicts = [record["verdict"], *record["further"]] if "verdict" in record else []
    for verdict in verdicts:
        if verdict["outcome"] not in OUTCOMES:
            return f"outcome is {verdict['outcome']!r:.60}; expected {', '.join(OUTCOMES)}"
        if verdict["low"] is not None and (verdict["value"] is None or verdict["high"] is None):
            return "a verdict has a lower bound, but no value or upper bound"
    return mismatch(record.get("captions", {}), dict.fromkeys(record.get("captions", {}), str))


def shown_outcome(verdict: Mapping[str, Any]) -> str:
    """The outcome of a verdict as pages show it.

    `UNTESTABLE` where it is inconclusive since no statistic could be computed.

    >>> shown_outcome({"outcome": "inconclusive", "value": None})
    'not testable'
    """
    untestable = verdict["outcome"] == "inconclusive" and verdict["value"] is None
    return UNTESTABLE if untestable else str(verdict["outcome"])


def is_superseded(record: Mapping[str, Any]) -> bool:
    """Whether a record is older than a change of the method, so that it decides nothing today."""
    return bool(record.get("computed_before"))


def damaged(path: Path, reason: object) -> SinkError:
    """The error for a file of results that cannot be read."""
    remedy = "move it away, and run its experiment again"
    return SinkError(f"{str(path)!r} is damaged, or was changed ({reason})", remedy)
