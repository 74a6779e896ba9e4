"""Measure each layer and assemble the `Trace`.

Running a model and reading a cache both give `LayerRecord`s, so that both are measured by the same
code.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.errors import ModelError
from secondary_sinks.measures import (
    local_mass,
    mean_score,
    norms,
    seeing_queries,
    typical_token,
    uniform_mass,
)
from secondary_sinks.observation.candidates import Candidates
from secondary_sinks.observation.primary import Prominence, choose_primary, find_references
from secondary_sinks.types import Trace

Rows = dict[str, Tensor]
Records = Callable[[Sequence[int]], Iterable["LayerRecord"]]
"""Starts a pass over the layers that records the attention of each query to some keys; the list of
keys may grow during the pass."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerRecord:
    """Activations of one layer for one text; None for those that are not known."""

    layer: int
    resid_post: Float[Tensor, "pos d_model"]
    mlp_out: Float[Tensor, "pos d_model"]
    received: Float[Tensor, "pos"]
    """Attention that each key receives: sum over queries, mean over heads."""
    watched: tuple[int, ...]
    """Positions of the keys in `paid`."""
    paid: Float[Tensor, "pos watched"]
    """Attention from each query to the watched keys, mean over heads."""
    key_norm_raw: Float[Tensor, "pos"] | None
    """Length of the output of k_proj, mean over KV heads."""
    window: int | None
    """Length of the sliding window; None without one."""
    queries: Float[Tensor, "pos head d_head"] | None
    """Queries as the scores use them: after q/k norms and rotation."""
    keys: Float[Tensor, "pos kv_head d_head"] | None
    """Keys as the scores use them: after q/k norms and rotation."""
    values: Float[Tensor, "pos kv_head d_head"] | None
    scale: float | None
    """Factor of q.k in an attention score."""


def make_trace(
    records: Records,
    n_layers: int,
    tokens: Int[Tensor, "pos"],
    token_strings: tuple[str, ...],
    text_id: str,
    dtype: torch.dtype,
) -> Trace:
    """Measure every layer, choose the primary, and assemble the trace.

    `records` starts a pass over the layers. One pass is enough, unless a token that turns out to be
    a reference was not followed.
    """
    candidates = Candidates(n_layers, len(tokens))
    rows: Rows = {}
    # map drops each record before it requests the next, so one layer is in memory.
    measured_layers = map(partial(_measure, candidates=candidates), records(candidates.positions))
    for layer, measured in enumerate(measured_layers):
        _store(rows, measured, layer, n_layers)
    prominence = Prominence.of(rows)
    follow = partial(_follow_again, candidates, records)
    reference = find_references(candidates, prominence, follow)
    return Trace(
        text_id=text_id,
        dtype=dtype,
        tokens=tokens,
        token_strings=token_strings,
        primary=choose_primary(prominence),
        reference=reference,
        alignment_first=candidates.first(),
        paid_to_primary=candidates.attention_paid_to(reference),
        **(rows | candidates.rows_against(reference)),
    )


def _store(rows: Rows, measured: Rows, layer: int, n_layers: int) -> None:
    """Store the rows of a layer; memory for all layers is allocated with the first."""
    for name, value in measured.items():
        if name not in rows:
            rows[name] = torch.empty((n_layers, *value.shape), dtype=value.dtype)
        rows[name][layer] = value


def _follow_again(candidates: Candidates, records: Records, positions: list[int]) -> None:
    """One more pass, for the alignments with further positions."""
    for record in records(positions):
        typical = typical_token(record.resid_post)
        candidates.follow(record.layer, positions, record.resid_post, record.mlp_out, typical)
        candidates.store_paid(record.layer, record.watched, record.paid, record.window)
        del record  # free its memory before the next layer


def _measure(record: LayerRecord, candidates: Candidates) -> Rows:
    """The rows of one layer that do not depend on the primary; updates the candidates."""
    _refuse_not_finite(record)
    residual, n_pos = record.resid_post, len(record.resid_post)
    typical = typical_token(residual)
    norm, deviation = norms(residual), norms(residual.float() - typical)
    deviation_ratio = deviation / deviation.median()
    states = (residual, record.mlp_out, typical, deviation_ratio, record.received)
    candidates.measure(record.layer, *states)
    candidates.store_paid(record.layer, record.watched, record.paid, record.window)
    seen = seeing_queries(n_pos, record.window)
    return {
        "norm": norm,
        "norm_ratio": norm / norm.median(),
        "deviation_ratio": deviation_ratio,
        "mass": record.received / seen,
        "mass_null": uniform_mass(n_pos, record.window),
        "mass_local": local_mass(record.received / seen),
        "queries": seen,
        "virtual_mass": 1 - record.received.sum() / n_pos,
        "score": _score(record),
        "key_norm": _mean_norm(record.keys, n_pos),
        "key_norm_raw": _or_nan(record.key_norm_raw, n_pos),
        "value_norm": _mean_norm(record.values, n_pos),
        "mlp_norm": norms(record.mlp_out),
        "typical": typical,
        "median_norm": norm.median(),
        "median_deviation": deviation.median(),
    }


def _score(record: LayerRecord) -> Float[Tensor, "pos"]:
    if record.queries is None or record.keys is None or record.scale is None:
        return torch.full((len(record.resid_post),), torch.nan)
    return mean_score(record.queries, record.keys, record.scale, record.window)


def _mean_norm(
    vectors: Float[Tensor, "pos kv_head d_head"] | None, n_pos: int
) -> Float[Tensor, "pos"]:
    return _or_nan(None if vectors is None else norms(vectors).mean(-1), n_pos)


def _or_nan(values: Float[Tensor, "pos"] | None, n_pos: int) -> Float[Tensor, "pos"]:
    return torch.full((n_pos,), torch.nan) if values is None else values


def _refuse_not_finite(record: LayerRecord) -> None:
    bad = (~torch.isfinite(record.resid_post).all(-1)).nonzero()[:, 0]
    if len(bad):
        raise ModelError(
            f"layer {record.layer} gives NaN or infinite values at position {int(bad[0])}; "
            "expected finite ones. In float16 a massive token may overflow: use float32 or bfloat16"
        )
