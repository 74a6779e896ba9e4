"""Why is this token (not) a sink at this layer? The result of every test, for both criteria."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from secondary_sinks.detection.criteria import joint_sinks, joint_tests
from secondary_sinks.detection.paper import against, paper_tests
from secondary_sinks.errors import DetectionError
from secondary_sinks.types import Thresholds, Trace, read_by_next
from secondary_sinks.types.thresholds import as_thresholds

if TYPE_CHECKING:
    import pandas as pd


def criteria_frame(
    trace: Trace, thresholds: Thresholds | None = None, positions: Sequence[int] | None = None
) -> "pd.DataFrame":
    """Every test of both criteria with the value that it judges, one row per layer and position.

    `aligned` judges `alignment_centred`, `outlying` judges `deviation_ratio`, `attended` judges
    `mass_ratio` (mass in the block that reads the state, divided by the expected mass) and
    `seen_by` (number of queries there), `paper` judges `alignment_paper` inside the clip. No block
    reads the last layer: there `mass_ratio` and `seen_by` are NaN and `attended` is that of the
    layer before. `joint` and `paper` are the results that `detect` counts. Raises
    `DetectionError` for positions outside the text.
    """
    import pandas as pd

    limits = _checked(trace, thresholds)
    chosen = list(range(len(trace.tokens)) if positions is None else positions)
    _check_positions(chosen, trace)
    columns = _columns(trace, limits)
    n_layers = len(trace.norm)
    return pd.DataFrame(
        {
            "text_id": trace.text_id,
            "layer": torch.arange(n_layers).repeat_interleave(len(chosen)).numpy(),
            "pos": chosen * n_layers,
            "token_id": trace.tokens[chosen].tolist() * n_layers,
            "token": [trace.token_strings[pos] for pos in chosen] * n_layers,
            **{name: value[:, chosen].reshape(-1).numpy() for name, value in columns.items()},
        }
    )


def explain(trace: Trace, pos: int, thresholds: Thresholds | None = None) -> "pd.DataFrame":
    """Why a token is a sink or not, one row per layer: `criteria_frame` with a column `why`.

    `why` is "sink" (for the primary, "primary sink, active") or names every test of the joint
    criterion that fails, with its value and threshold. Whether a sink is transient, primary-like or
    a copy is not decided at a single layer: see `detect`. Raises as `criteria_frame`.
    """
    limits = _checked(trace, thresholds)
    frame = criteria_frame(trace, limits, [pos])
    is_primary = pos == trace.primary
    return frame.assign(why=[_why(row, limits, is_primary) for row in frame.to_dict("records")])


def _columns(trace: Trace, limits: Thresholds) -> dict[str, Tensor]:
    joint, paper = joint_tests(trace, limits), paper_tests(trace, limits)
    n_layers, n_pos = trace.norm.shape
    in_clip = torch.zeros(n_layers, dtype=torch.bool)
    in_clip[paper.start : paper.end] = True
    return {
        "alignment_centred": trace.alignment_centred,
        "aligned": joint.aligned,
        "deviation_ratio": trace.deviation_ratio,
        "outlying": joint.outlying,
        "mass_ratio": read_by_next(trace.mass / trace.mass_expected),
        "seen_by": read_by_next(trace.queries.float()),
        "attended": joint.attended,
        "primary_active": joint.primary_active[:, None].expand(n_layers, n_pos),
        "joint": joint_sinks(trace, joint),
        "alignment_paper": against(trace, paper.primary).alignment,
        "in_clip": in_clip[:, None].expand(n_layers, n_pos),
        "paper": paper.is_sink,
    }


def _why(row: dict[Any, Any], limits: Thresholds, is_primary: bool) -> str:
    """Names of the failed tests of the joint criterion, as text."""
    if row["joint"]:
        return "primary sink, active" if is_primary else "sink"
    failed = []
    if not is_primary and not row["primary_active"]:
        failed.append("the primary is not active")
    if not is_primary and not row["aligned"]:
        failed.append(f"not aligned ({row['alignment_centred']:.2f} < {limits.aligned:g})")
    if not row["outlying"]:
        failed.append(f"not outlying ({row['deviation_ratio']:.1f} x < {limits.outlying:g} x)")
    if not row["attended"]:
        failed.append(_unattended(row, limits))
    return (
        "; ".join(failed)
        or "no block reads the last layer, and it was not a sink at the layer before"
    )


def _unattended(row: dict[Any, Any], limits: Thresholds) -> str:
    if row["seen_by"] != row["seen_by"]:
        return "not attended at the layer before the last"
    if row["seen_by"] < limits.min_queries:
        return f"seen by too few queries ({row['seen_by']:.0f} < {limits.min_queries})"
    return f"not attended ({row['mass_ratio']:.1f} x < {limits.attended:g} x)"


def _checked(trace: Any, thresholds: Any) -> Thresholds:
    """The limits, by default those of the criteria; `DetectionError` unless this is one trace."""
    if not isinstance(trace, Trace):
        raise DetectionError(f"got a {type(trace).__name__}", "expected the Trace of one text")
    return as_thresholds(thresholds)


def _check_positions(positions: Sequence[int], trace: Trace) -> None:
    known = range(len(trace.tokens))
    bad = [p for p in positions if type(p) is bool or not isinstance(p, int) or p not in known]
    if bad:
        raise DetectionError(
            f"text {trace.text_id!r} has positions 0 to {len(trace.tokens) - 1}, got {bad[0]!r}",
            "trace.token_strings has the token at each",
        )
