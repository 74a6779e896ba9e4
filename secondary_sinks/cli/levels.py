"""The command `levels`: read detections, find the levels, print them."""

import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from secondary_sinks.cli.output import printable
from secondary_sinks.cli.show import print_plain, span
from secondary_sinks.detection import find_levels, read_released
from secondary_sinks.detection.levels import LEAST_TEXTS
from secondary_sinks.detection.phenomenon import rate_of
from secondary_sinks.display import count
from secondary_sinks.errors import DetectionError
from secondary_sinks.report.words import plain
from secondary_sinks.runs import COUNTED, RunFolder, whole_record
from secondary_sinks.texts.limits import split_json_lines
from secondary_sinks.texts.read_files import read_utf8
from secondary_sinks.types import Level, Levels, SinkTable, Thresholds
from secondary_sinks.types.levels import FREQUENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Detections:
    """The content of a file of detections."""

    source: str
    sinks: SinkTable
    n_texts: int
    n_tokens: int
    n_repeated: int = 0


def show_levels(path: Path, n_layers: int | None, *, as_json: bool, seed: int) -> None:
    """Print the levels of a file's secondary sinks, as tables or as JSON."""
    found = _read(path, n_layers)
    generator = torch.Generator().manual_seed(seed)
    levels = find_levels(found.sinks, n_texts=found.n_texts, generator=generator)
    if as_json:
        print_plain(summary(found, levels))
    else:
        console = Console(width=None if sys.stdout.isatty() else 100)
        console.print(_label_table(_labels(found.sinks)))
        if levels.levels:
            console.print(_level_table(levels))
        for sentence in _sentences(found, levels):
            console.print(sentence, highlight=False, markup=False, soft_wrap=True)


def summary(found: Detections, levels: Levels) -> dict[str, Any]:
    """Everything that is printed, as plain data."""
    fields = asdict(levels)
    return {
        "source": found.source,
        "n_tokens": found.n_tokens,
        "n_repeated_lines": found.n_repeated,
        "labels": _labels(found.sinks),
        "per_10k_tokens": rate_of(levels.n_sinks, found.n_tokens),
        **{name: value for name, value in fields.items() if name not in {"levels", "cells"}},
        "n_frequent_cells": levels.n_frequent,
        "levels": fields["levels"],
        "cells": fields["cells"],
    }


def _read(path: Path, n_layers: int | None) -> Detections:
    if path.is_dir() or path.suffix == ".parquet":
        if n_layers is not None:
            raise DetectionError(
                "--layers is for the authors' JSON lines", "leave it out for a run"
            )
        return _of_run(path)
    content = read_utf8(path, "the authors' JSON lines, or the sinks.parquet of a run")
    split_json_lines(content, str(path))  # limits number and length of lines
    released = read_released(content, str(path), n_layers)
    return Detections(
        source=str(path),
        sinks=released.sinks,
        n_texts=len(released.lines),
        n_tokens=sum(line.full_text_len for line in released.lines.values()),
        n_repeated=released.n_repeated,
    )


def _of_run(path: Path) -> Detections:
    """Detections of a run; texts with the same tokens count once, as their sinks do."""
    if not path.is_dir() and path.name != "sinks.parquet":
        raise DetectionError(f"{str(path)!r} is not the sinks.parquet of a run folder")
    folder = RunFolder(path if path.is_dir() else path.parent)
    texts = {
        text["tokens_sha256"]: text["n_tokens"] for text in whole_record(folder, COUNTED)["texts"]
    }
    return Detections(
        source=str(path),
        sinks=SinkTable.from_frame(folder.table("sinks"), Thresholds()),  # they set no level
        n_texts=len(texts),
        n_tokens=sum(texts.values()),
    )


def _labels(sinks: SinkTable) -> list[dict[str, Any]]:
    """Counts by criterion, kind and label: sinks, copies among them, texts, range of lifetimes."""
    frame = sinks.to_frame()
    grouped = frame.assign(copied=frame["copy_of"] != "").groupby(
        ["criterion", "kind", "label"], sort=False
    )
    counts = grouped.agg(
        sinks=("pos", "size"),
        copies=("copied", "sum"),
        texts=("text_id", "nunique"),
        lifetime_low=("lifetime", "min"),
        lifetime_high=("lifetime", "max"),
    )
    return [{str(k): v for k, v in row.items()} for row in counts.reset_index().to_dict("records")]


def _label_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="Sinks by kind", title_justify="left")
    for name in ("kind", "label", "sinks", "copies among them", "texts", "lifetime"):
        table.add_column(name, justify="left" if name in {"kind", "label"} else "right")
    for row in rows:
        lived = span(row["lifetime_low"], row["lifetime_high"])
        numbers = (str(row[name]) for name in ("sinks", "copies", "texts"))
        table.add_row(*(escape(printable(row[key])) for key in ("kind", "label")), *numbers, lived)
    return table


def _level_table(levels: Levels) -> Table:
    """Most frequent pair of each level, with ranges in brackets."""
    table = Table(
        title=f"Levels of {count(levels.n_sinks, 'secondary sink')}", title_justify="left"
    )
    for name in ("level", "created at", "lifetime", "sinks", "95% interval", "texts", "stability"):
        table.add_column(name, justify="right", no_wrap=True)
    for level in levels.levels:
        table.add_row(*_level_row(level))
    return table


def _level_row(level: Level) -> tuple[str, ...]:
    return (
        str(level.level),
        f"{level.l_start} ({span(level.l_start_low, level.l_start_high)})",
        f"{level.lifetime} ({span(level.lifetime_low, level.lifetime_high)})",
        str(level.n_sinks),
        f"{level.low:.0f}-{level.high:.0f}",
        str(level.n_texts),
        f"{level.jaccard:.2f}",
    )


def _sentences(found: Detections, levels: Levels) -> list[str]:
    rate = rate_of(levels.n_sinks, found.n_tokens)
    of_tokens = f"{plain(rate)} per 10,000 tokens"
    said = "too little text for a rate" if math.isnan(rate) else of_tokens
    interval = "" if math.isnan(levels.low) else f" [{levels.low:.0f}, {levels.high:.0f}]"
    sentences = [
        f"{count(levels.n_texts, 'text')} with {count(found.n_tokens, 'token')}: "
        f"{count(levels.n_sinks, 'secondary sink')}{interval}; {said}"
    ]
    if levels.n_texts < LEAST_TEXTS:
        sentences.append(f"fewer than {LEAST_TEXTS} texts: too few to tell levels from chance")
    elif levels.n_sinks:
        sentences.append(
            f"{count(len(levels.levels), 'level')}, the same number in {levels.same_number:.0%} of "
            f"{levels.resamples} resamples of the texts; {count(levels.n_unassigned, 'sink')} "
            "in no level"
        )
    sentences.append(
        f"{count(levels.n_frequent, 'cell')} of the heat map with at least {FREQUENT} sinks"
    )
    if levels.n_copies:
        sentences.append(
            f"not counted again: {count(levels.n_copies, 'copy', 'copies')} of secondary sinks in "
            "earlier texts"
        )
    if found.n_repeated:
        sentences.append(f"{count(found.n_repeated, 'repeated line')} left out")
    return sentences
