"""Edited tokens -> rows: what each edit did, by the criterion that sinks are found with."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from secondary_sinks.causal import replay
from secondary_sinks.causal.outcome import edited_sinks, first, means_over
from secondary_sinks.detection import joint_tests
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.statistics import Interval, paired_share_over_texts, share_over_texts
from secondary_sinks.types import Cell, Sink, Thresholds, Trace, dump_cells

COLUMNS = (
    "text_id",
    "sink_pos",
    "pos",
    "edits",
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
    model: HookedModel,
    trace: Trace,
    thresholds: Thresholds,
    trials: Sequence[Trial],
    others: Sequence[Trace] = (),
) -> list[dict[str, Any]]:
    """Replay all trials of one text at once; one row each, in order.

    `edits` is the cell as JSON, so that each row can be run again. `others` are traces of texts
    that donors come from.
    """
    if not trials:
        return []
    result = replay(model, trace, [trial.cell for trial in trials], others=others)
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
                "edits": dump_cells([trial.cell]).strip(),
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


def rate_difference(
    cells: pd.DataFrame,
    column: str,
    own: str,
    control: str,
    *,
    alive: bool = False,
    n_claims: int = 1,
) -> Interval:
    """Share of cases that end (or, `alive`, are a sink) under one condition, not under another.

    `column` names the conditions; several cells of a case and a condition (seeds) are averaged.
    Within a case the two are paired (`paired_share_over_texts`).
    """
    value = cells["is_sink"].astype(float)
    keys = [cells["text_id"], cells["sink_pos"], cells[column]]
    by_case = (value if alive else 1 - value).groupby(keys).mean().unstack()
    by_case = by_case.reindex(columns=[own, control])
    texts = by_case.index.get_level_values("text_id").tolist()
    return paired_share_over_texts(by_case[own], by_case[control], texts, n_claims=n_claims)


def summary(cells: pd.DataFrame, *words: str) -> pd.DataFrame:
    """Means by condition: one row per combination of what `words` name.

    `sink` is the share of edited tokens that are sinks, with its 95 % interval over texts (of each
    row by itself: no verdict rests on it); `lifetime` a mean, in layers; the others are means too.
    """
    groups = cells.groupby(list(words), sort=False, dropna=False)
    rows = []
    for key, group in groups:
        alive = share_over_texts(group["is_sink"].astype(float), group["text_id"].tolist())
        rows.append(
            {
                **dict(zip(words, key, strict=True)),
                "sink": alive.value,
                "low": alive.low,
                "high": alive.high,
                "lifetime": group["lifetime_edited"].mean(),
                "alignment_centred": group["alignment_centred_edited"].mean(),
                "norm": group["norm_edited"].mean(),
                "mass": group["mass_edited"].mean(),
                "mass_clean": group["mass_clean"].mean(),
                "n_sinks": len(group[["text_id", "sink_pos"]].drop_duplicates()),
                "n_texts": alive.n_texts,
            }
        )
    names = ["sink", "low", "high", "lifetime", "alignment_centred", "norm", "mass"]
    names += ["mass_clean", "n_sinks", "n_texts"]
    return pd.DataFrame(rows, columns=[*words, *names])
