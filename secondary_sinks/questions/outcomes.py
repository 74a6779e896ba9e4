"""Edited tokens -> rows: what each edit did, by the criterion that sinks are found with."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from secondary_sinks.causal import replay
from secondary_sinks.causal.measured import edited_sinks, first, means_over
from secondary_sinks.detection import joint_tests
from secondary_sinks.models.protocol import HookedModel
from secondary_sinks.types import Cell, Sink, Thresholds, Trace

COLUMNS = (
    "text_id",
    "sink_pos",
    "pos",
    "lifetime_clean",
    "lifetime_edited",
    "l_start_edited",
    "is_sink",
    "alignment_clean",
    "alignment_edited",
    "alignment_centred_clean",
    "alignment_centred_edited",
    "norm_clean",
    "norm_edited",
    "mass_clean",
    "mass_edited",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One cell to run: an edit of a sink or of a token that it is compared with."""

    sink: Sink
    """The sink in question; means are over its layers, whichever token is edited."""
    pos: int
    """The edited token."""
    cell: Cell
    words: dict[str, Any] = field(default_factory=dict)
    """Columns that tell this trial from the others."""


def run_trials(
    model: HookedModel, trace: Trace, thresholds: Thresholds, trials: Sequence[Trial]
) -> list[dict[str, Any]]:
    """Replay all trials of one text at once; one row each, in order."""
    if not trials:
        return []
    result = replay(model, trace, [trial.cell for trial in trials])
    clean = joint_tests(trace, thresholds).joint
    edited = edited_sinks(trace, result, thresholds)
    rows = []
    for number, trial in enumerate(trials):
        lifetime = int(edited[:, number].sum())
        rows.append(
            {
                "text_id": trace.text_id,
                "sink_pos": trial.sink.pos,
                "pos": trial.pos,
                "lifetime_clean": int(clean[:, trial.pos].sum()),
                "lifetime_edited": lifetime,
                "l_start_edited": first(edited[:, number]),
                "is_sink": lifetime > 0,
                **means_over(trace, result, number, trial.sink.layers),
                **trial.words,
            }
        )
    return rows


def frame_of(rows: Iterable[dict[str, Any]], *words: str) -> pd.DataFrame:
    """Rows as a frame that has its columns even without a row."""
    return pd.DataFrame(list(rows), columns=[*COLUMNS, *words])
