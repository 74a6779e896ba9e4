"""Activations of a few tokens at a few layers, for what a `Trace` does not hold."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.errors import AttributionError, MeasureError
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.layerwise.submodules import mlp_ends
from secondary_sinks.observation.check_trace import check_same_states, check_trace
from secondary_sinks.observation.collector import ActivationCollector
from secondary_sinks.observation.layers import LayerView, iter_layers
from secondary_sinks.types import Trace

POINTS = ("resid_pre", "attn_out", "mlp_in", "mlp_out", "resid_post")


def activations(
    model: HookedModel,
    trace: Trace,
    positions: Sequence[int],
    layers: Sequence[int],
    points: Sequence[str] = POINTS,
) -> Iterator[tuple[int, dict[str, Float[Tensor, "row d_model"]]]]:
    """Yield (layer, activations by point) at some tokens of a trace's text, in one pass.

    Points are resid_pre, attn_out, mlp_in (input of the MLP, after any norm before it), mlp_out and
    resid_post. Rows are in the order of `positions`, on the CPU in float32. A layer is not kept
    after it was yielded. Raises `TraceError` for a trace of another model, `AttributionError` for
    layers or positions out of range, and `MeasureError` for an unknown point.
    """
    _check(model, trace, positions, layers, points)
    wanted, rows = sorted(set(layers)), sorted(set(positions))
    order = [rows.index(pos) for pos in positions]
    collectors = {layer: ActivationCollector(rows) for layer in wanted}
    within = wanted if "mlp_in" in points else []

    def hooks(at: int) -> Sequence[Any]:
        asked = at in collectors and "attn_out" in points
        return collectors[at].hooks(model, at, "attn_out") if asked else ()

    with mlp_ends(model, within, lambda at, end, tensor: collectors[at].take(end, tensor)):
        for view in iter_layers(model, trace.tokens, hooks=hooks):
            check_same_states(view, trace)
            gather = collectors.pop(view.layer, None)
            if gather is not None:
                found = {point: _rows(view, gather, point)[order] for point in points}
                yield view.layer, found
            if not collectors:
                return


def _check(
    model: HookedModel,
    trace: Trace,
    positions: Sequence[int],
    layers: Sequence[int],
    points: Sequence[str],
) -> None:
    check_trace(model, trace)
    for what, given, end in (
        ("layer", layers, len(trace.norm)),
        ("position", positions, len(trace.tokens)),
    ):
        bad = [one for one in given if not 0 <= one < end]
        if bad:
            raise AttributionError(f"{what} {bad[0]} is out of range", f"expected 0 to {end - 1}")
    unknown = [point for point in points if point not in POINTS]
    if unknown:
        raise MeasureError(f"unknown point {unknown[0]!r}", f"expected some of {', '.join(POINTS)}")


def _rows(view: LayerView, gather: ActivationCollector, point: str) -> Float[Tensor, "row d_model"]:
    named = {"attn_out": "attn_out", "mlp_in": "input"}
    if point in named:
        found = gather.rows(named[point])
        assert found is not None
    else:
        found = getattr(view, point)[gather.positions.to(view.resid_post.device)]
    return found.to("cpu", torch.float32)
