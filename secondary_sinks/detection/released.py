"""One line of the authors' released detections, checked field by field."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from secondary_sinks import files
from secondary_sinks.errors import DetectionError
from secondary_sinks.types.sinks import MOST_LAYERS

LABELS = {"secondary": "secondary", "cliff": "secondary", "bos_sink": "bos_sink", "noise": "noise"}
"""Word in the files -> label; "cliff" is an older word for secondary."""
MOST = 2**31 - 1
"""Largest position, layer, token id or length that is accepted."""
LENGTHS = ("prompt_len", "response_len", "full_text_len")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One entry of `candidate_sinks`."""

    pos: int
    token_id: int
    layers: tuple[int, ...]
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line: the detections of one text."""

    sample_index: int
    prompt_len: int
    response_len: int
    full_text_len: int
    candidates: tuple[Candidate, ...]


def parse_line(raw: str, where: str, n_layers: int | None) -> Line:
    """Parse one line; every fault is a `DetectionError` that begins with `where` (file:line)."""
    try:
        record = files.load_json(raw)
    except (ValueError, RecursionError) as error:
        raise DetectionError(f"{where}: broken JSON: {error}", _REMEDY) from error
    if not isinstance(record, dict):
        raise DetectionError(
            f"{where}: expected a JSON object, got {type(record).__name__}", _REMEDY
        )
    numbers = {name: _whole(record, name, where) for name in ("sample_index", *LENGTHS)}
    if numbers["prompt_len"] > numbers["full_text_len"]:
        raise DetectionError(f"{where}: prompt_len is more than full_text_len")
    candidates = record.get("candidate_sinks")
    if not isinstance(candidates, dict):
        raise DetectionError(f"{where}: candidate_sinks must be an object with positions as keys")
    length = numbers["full_text_len"]
    parsed = [_candidate(pos, entry, where, length, n_layers) for pos, entry in candidates.items()]
    positions = [candidate.pos for candidate in parsed]
    if len(set(positions)) < len(positions):
        raise DetectionError(f"{where}: one position is given twice")
    return Line(candidates=tuple(sorted(parsed, key=lambda c: c.pos)), **numbers)


def _candidate(pos: str, entry: Any, where: str, length: int, n_layers: int | None) -> Candidate:
    plain = pos.isascii() and pos.isdecimal() and len(pos) <= len(str(MOST))
    if not plain or int(pos) >= length:
        raise DetectionError(f"{where}: {pos!r:.60} is not a position in a text of {length} tokens")
    here = f"{where}: position {pos}"
    if not isinstance(entry, dict):
        raise DetectionError(f"{here}: expected an object with layer, token_id and sink_type")
    label = entry.get("sink_type")
    if not isinstance(label, str) or label not in LABELS:
        raise DetectionError(
            f"{here}: unknown sink_type {label!r:.60}", f"expected one of {', '.join(LABELS)}"
        )
    return Candidate(
        pos=int(pos),
        token_id=_whole(entry, "token_id", here),
        layers=_layers(entry.get("layer"), here, n_layers),
        label=LABELS[label],
    )


def _layers(value: Any, here: str, n_layers: int | None) -> tuple[int, ...]:
    whole = isinstance(value, list) and all(_is_whole(layer) for layer in value)
    if not whole or not value or any(a >= b for a, b in pairwise(value)):
        raise DetectionError(f"{here}: layer must be a list of ascending layers, got {value!r:.60}")
    if value[-1] >= MOST_LAYERS:
        raise DetectionError(f"{here}: layer {value[-1]}", f"expected layers below {MOST_LAYERS:,}")
    if n_layers is not None and value[-1] >= n_layers:
        raise DetectionError(f"{here}: layer {value[-1]} in a model of {n_layers} layers")
    return tuple(value)


def _whole(record: Mapping[str, Any], name: str, where: str) -> int:
    if name not in record:
        raise DetectionError(f"{where}: {name} is missing", _REMEDY)
    value = record[name]
    if not _is_whole(value):
        raise DetectionError(
            f"{where}: {name} must be a whole number, got {value!r:.60} (at most {MOST})"
        )
    return int(value)


_REMEDY = "give a file of detections as the authors released them, one JSON object per line"


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST
