"""Run edits of single tokens; one row per edit, judged by the criterion that finds sinks."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from jaxtyping import Int
from torch import Tensor

from secondary_sinks.causal import replay
from secondary_sinks.causal.outcome import (
    attended_layers,
    attention_drawn,
    clean_sinks,
    edited_sinks,
    first,
    first_settled_layer,
    impossible,
    means_over,
    reached,
)
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.observation import CachedPass
from secondary_sinks.statistics import HALF, Interval, paired_share_over_texts, share_over_texts
from secondary_sinks.types import Cell, Sink, Thresholds, Trace, dump_cells

COLUMNS = (
    *("text_id", "sink_pos", "sink_kind", "pos", "edits", "lifetime_clean", "lifetime_edited"),
    *("l_start_edited", "is_sink", "alignment_clean", "alignment_edited"),
    *("alignment_centred_clean", "alignment_centred_edited", "norm_clean", "norm_edited"),
    *("mass_clean", "mass_edited", "impossible", "lifetime_attention_clean"),
    *("lifetime_attention_edited", "drawn_clean", "drawn_edited", "draws"),
)
"""`drawn_*`: attention beyond what is expected at the position, mean over the blocks that read the
sink; `draws`: whether the edited token draws at least half of what the clean sink draws, False for
tokens of another text than the sink's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One cell to run: edits of a sink or of a token that it is compared with."""

    sink: Sink
    """The tested sink; means are over its layers, whichever token is edited."""
    pos: int
    """The edited token."""
    cell: Cell
    words: dict[str, Any] = field(default_factory=dict)
    """Values of further columns of its row, such as test, role and factor."""


def run_trials(
    model: HookedModel,
    trace: Trace,
    thresholds: Thresholds,
    trials: Sequence[Trial],
    others: Sequence[Trace] = (),
    kept: CachedPass | None = None,
) -> list[dict[str, Any]]:
    """Replay all trials of one text at once; one row each, in order.

    `edits` is the cell as JSON, so that each row can be run again. `others` are traces of texts
    that donors come from, `kept` is a clean pass of the text that is still in memory.
    """
    if not trials:
        return []
    result = replay(model, trace, [trial.cell for trial in trials], others=others, kept=kept)
    clean = clean_sinks(trace, thresholds)
    attended = attended_layers(trace, result, thresholds)
    edited = edited_sinks(trace, result, thresholds)
    settled = first_settled_layer(trace, thresholds)
    means = means_over(trace, result, [trial.sink.layers for trial in trials])
    rows = []
    for number, trial in enumerate(trials):
        lifetime = int(edited[:, number].sum())
        drawn = attention_drawn(trace, result, number, trial.sink)
        rows.append(
            {
                "text_id": trace.text_id,
                "sink_pos": trial.sink.pos,
                "sink_kind": trial.sink.kind,
                "pos": trial.pos,
                "edits": dump_cells([trial.cell]).strip(),
                "lifetime_clean": int(clean[:, trial.pos].sum()),
                "lifetime_edited": lifetime,
                "l_start_edited": first(edited[:, number]),
                "is_sink": lifetime > 0,
                **means[number],
                "impossible": _impossible(trial, trace, settled),
                "lifetime_attention_clean": int(attended[0][number]),
                "lifetime_attention_edited": int(attended[1][number]),
                "drawn_clean": drawn.clean,
                "drawn_edited": drawn.edited,
                "draws": drawn.edited >= HALF * drawn.sink,
                **trial.words,
            }
        )
    return rows


def _impossible(trial: Trial, trace: Trace, settled: Int[Tensor, "pos"]) -> str:
    """What the first edit of a trial at its sink comes too late for; "none" for other tokens."""
    if (trace.text_id, trial.pos) != (trial.sink.text_id, trial.sink.pos):
        return "none"
    return impossible(trace, trial.sink, min(map(reached, trial.cell)), settled)


def frame_of(rows: Iterable[dict[str, Any]], *words: str) -> pd.DataFrame:
    """Rows as a frame; it has all columns even if there are no rows."""
    return pd.DataFrame(list(rows), columns=[*COLUMNS, *words])


def rate_difference(
    cells: pd.DataFrame,
    column: str,
    own: str,
    control: str,
    *,
    alive: bool = False,
    n_claims: int = 1,
    of: str = "survives",
    instead: "float | pd.Series[float] | None" = None,
) -> Interval:
    """Share of sinks that end under condition `own` and do not under condition `control`.

    Paired within each sink (`paired_rates`, `paired_share_over_texts`); with `alive`, the share of
    tokens that are sinks under `own` and do not live under `control`. `instead` replaces the
    control rate of sinks without a control cell; without `instead` such sinks are left out.
    """
    by_case = paired_rates(cells, column, own, control, alive=alive, of=of)
    if instead is not None:
        by_case[control] = by_case[control].fillna(instead)
    texts = by_case.index.get_level_values("text_id").tolist()
    return paired_share_over_texts(by_case[own], by_case[control], texts, n_claims=n_claims)


def paired_rates(
    cells: pd.DataFrame,
    column: str,
    own: str,
    control: str,
    *,
    alive: bool = False,
    of: str = "survives",
) -> pd.DataFrame:
    """Share of cells that end (or, `alive`, do not): row per sink, columns `own` and `control`.

    `of` is the outcome that ends: "survives" (`survives`), or "draws" for attention alone. With
    `alive`, `own` counts only sinks by the criterion. Column `column` has the conditions; several
    cells of the same sink and condition (seeds) are averaged. NaN without a cell.
    """
    by_case = rates(cells, column, alive=alive, of=of).reindex(columns=[own, control])
    if alive:
        by_case[own] = rates(cells, column, alive=True, of="is_sink").get(own)
    return by_case


def survives(cells: pd.DataFrame) -> "pd.Series[float]":
    """1 where a token is a sink by the criterion or still draws half of the attention, else 0.

    The criterion asks for a norm and a direction, which most edits take away by themselves. A sink
    ends only if its attention goes as well.
    """
    return (cells["is_sink"].astype(bool) | cells["draws"].astype(bool)).astype(float)


def has_ended(row: Mapping[str, Any]) -> bool:
    """Whether the edited token does not survive (`survives`), for a single row."""
    return not (row["is_sink"] or row["draws"])


def rates(cells: pd.DataFrame, column: str, *, alive: bool, of: str = "survives") -> pd.DataFrame:
    """Share of cells that end, or (`alive`) do not: row per sink, column per condition."""
    value = survives(cells) if of == "survives" else cells[of].astype(float)
    keys = [cells["text_id"], cells["sink_pos"], cells[column]]
    return (value if alive else 1 - value).groupby(keys).mean().unstack()


def summary(cells: pd.DataFrame, *words: str) -> pd.DataFrame:
    """Means by condition: one row per combination of the values of columns `words`.

    `sink` is the share of edited tokens that are sinks, with its 95 % interval over texts (not
    corrected for several rows; no verdict rests on it). Other columns are means; lifetimes are in
    layers. Sinks that could not have ended, since the edit came too late, are left out of `sink`
    and counted in `n_impossible`.
    """
    groups = cells.groupby(list(words), sort=False, dropna=False)
    rows = []
    for key, group in groups:
        able = group[group["impossible"] == "none"]
        alive = share_over_texts(able["is_sink"].astype(float), able["text_id"].tolist())
        rows.append(
            {
                **dict(zip(words, key, strict=True)),
                "sink": alive.value,
                "low": alive.low,
                "high": alive.high,
                "lifetime": group["lifetime_edited"].mean(),
                "lifetime_attention": group["lifetime_attention_edited"].mean(),
                "alignment_centred": group["alignment_centred_edited"].mean(),
                "norm": group["norm_edited"].mean(),
                "mass": group["mass_edited"].mean(),
                "mass_clean": group["mass_clean"].mean(),
                "n_sinks": len(group[["text_id", "sink_pos"]].drop_duplicates()),
                "n_texts": alive.n_texts,
                "n_impossible": len(group) - len(able),
            }
        )
    names = ["sink", "low", "high", "lifetime", "lifetime_attention", "alignment_centred"]
    names += ["norm", "mass", "mass_clean", "n_sinks", "n_texts", "n_impossible"]
    return pd.DataFrame(rows, columns=[*words, *names])
