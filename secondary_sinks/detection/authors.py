"""The JSON lines in which the authors of the paper released their detections: read and written.

One text a line: `candidate_sinks` maps a position to `layer` (a list), `token_id` and `sink_type`
(bos_sink, secondary, noise; "cliff" is an older word for secondary). Further keys of the line:
`sample_index`, `prompt_len`, `response_len` and `full_text_len`.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from secondary_sinks.detection.levels import assign_levels
from secondary_sinks.detection.paper import KINDS, paper_label
from secondary_sinks.detection.released import LENGTHS, Candidate, Line, parse_line
from secondary_sinks.errors import DetectionError
from secondary_sinks.types import Sink, SinkTable, censoring

MAXIMA = ("alignment_max", "alignment_centred_max", "norm_max", "norm_ratio_max", "mass_max")
UNKNOWN: Mapping[str, Any] = dict.fromkeys((*MAXIMA, "mass_excess_max"), math.nan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """A file of released detections."""

    lines: Mapping[str, Line]
    """By text_id: `sample_index`, and the line number too where an earlier line has the same."""
    sinks: SinkTable
    n_repeated: int
    """Number of lines that repeat an earlier line; they are left out."""


def read_released(content: str, name: str, n_layers: int | None = None) -> Released:
    """Parse released detections; `name` is the name of the file, for messages.

    Each candidate becomes a sink with criterion "paper". Its label is that of the file or, if
    `n_layers` (layers of the model) is given, that of the authors' rule. The kind follows from the
    label; the first bos_sink of a text is its primary. A line that repeats an earlier one is left
    out. Two sorts of sinks are marked as copies: sinks inside a prompt that an earlier text seems
    to share (same `prompt_len`, position, token and layers), and all sinks of a line that differs
    from an earlier one only in its `sample_index`. Raises `DetectionError` that names the file,
    the line and the fault.
    """
    lines: dict[str, Line] = {}
    known: set[Line] = set()
    n_lines = 0
    for number, raw in enumerate(content.split("\n"), start=1):
        if not raw.strip():
            continue
        n_lines += 1
        line = parse_line(raw, f"{name}:{number}", n_layers)
        if line in known:
            continue
        known.add(line)
        index = str(line.sample_index)
        lines[f"{index} (line {number})" if index in lines else index] = line
    if not lines:
        raise DetectionError(f"{name!r} holds no detections", "expected at least one JSON line")
    return Released(lines=lines, sinks=_table(lines, n_layers), n_repeated=n_lines - len(lines))


def write_released(sinks: SinkTable, lengths: Mapping[str, tuple[int, int]], n_layers: int) -> str:
    """The sinks as JSON lines in the authors' format, one line per text of `lengths`.

    `lengths` maps a text_id to two numbers of tokens: in its prompt and in the whole text.
    `sample_index` is the number of the line, from 0. Labels are those of the table; sinks without
    a label (joint criterion) get one by the authors' rule.
    """
    lines = []
    for index, (text_id, (prompt, whole)) in enumerate(lengths.items()):
        values = (index, prompt, whole - prompt, whole)
        found = {str(s.pos): _entry(s, n_layers) for s in sinks.of_text(text_id).sinks}
        numbers = dict(zip(("sample_index", *LENGTHS), values, strict=True))
        lines.append(json.dumps({"candidate_sinks": found, **numbers}) + "\n")
    return "".join(lines)


def relabel(sinks: SinkTable, n_layers: int) -> SinkTable:
    """The table with new labels, by the authors' rule for a model of `n_layers`, and new levels.

    Kinds follow from the labels, except that a primary stays a primary.
    """
    labelled = []
    for sink in sinks.sinks:
        label = paper_label(sink.lifetime, n_layers, sinks.thresholds)
        kind = "primary" if sink.kind == "primary" else KINDS[label]
        labelled.append(replace(sink, label=label, kind=kind))
    return SinkTable(sinks=assign_levels(labelled), thresholds=sinks.thresholds)


def _entry(sink: Sink, n_layers: int) -> dict[str, object]:
    label = paper_label(sink.lifetime, n_layers) if sink.label == "none" else sink.label
    return {"layer": list(sink.layers), "token_id": sink.token_id, "sink_type": label}


def _table(lines: Mapping[str, Line], n_layers: int | None) -> SinkTable:
    first: dict[tuple[object, ...], str] = {}
    alike: dict[Line, str] = {}
    sinks = []
    for text_id, line in lines.items():
        like = alike.setdefault(replace(line, sample_index=0), text_id)
        primary = min((c.pos for c in line.candidates if c.label == "bos_sink"), default=-1)
        for candidate in line.candidates:
            # The same sink, as it seems: the file has no tokens that could say so.
            text = line.prompt_len if candidate.pos < line.prompt_len else like
            source = first.setdefault((text, candidate), text_id)
            sink = _sink(candidate, text_id, candidate.pos == primary, n_layers)
            sinks.append(replace(sink, copy_of="" if source == text_id else source))
    table = SinkTable(sinks=assign_levels(sinks))
    return relabel(table, n_layers) if n_layers is not None else table


def _sink(candidate: Candidate, text_id: str, is_primary: bool, n_layers: int | None) -> Sink:
    layers = candidate.layers
    return Sink(
        text_id=text_id,
        pos=candidate.pos,
        token_id=candidate.token_id,
        token=f"[{candidate.token_id}]",
        kind="primary" if is_primary else KINDS[candidate.label],
        criterion="paper",
        label=candidate.label,
        l_start=layers[0],
        l_end=layers[-1],
        lifetime=len(layers),
        layers=layers,
        level=math.nan,
        censored="unknown"
        if n_layers is None
        else censoring(layers[0] == 0, layers[-1] == n_layers - 1),
        **UNKNOWN,
    )
