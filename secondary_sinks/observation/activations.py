"""Activations of a few tokens at a few layers, for what a `Trace` does not hold."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.errors import AttributionError, MeasureError
from secondary_sinks.layerwise.protocol import Hook, HookedModel
from secondary_sinks.layerwise.submodules import mlp_ends
from secondary_sinks.measures.hook_names import hook_name
from secondary_sinks.observation.layers import (
    LayerView,
    check_same_states,
    check_trace,
    iter_layers,
)
from secondary_sinks.types import Trace


class ActivationCollector:
    """Activations of one layer at some positions, and weighted means over positions.

    Each row of `weights` gives one mean.
    """

    def __init__(self, positions: list[int], weights: Float[Tensor, "set pos"] | None = None):
        """An empty collector; `positions` are in ascending order."""
        self.positions = torch.tensor(positions, dtype=torch.long)
        self._weights = weights
        self._rows: dict[str, list[Tensor]] = {}
        self._means: dict[str, Tensor | float] = {}
        self._seen: dict[str, int] = {}

    def hooks(self, model: HookedModel, layer: int, *points: str) -> list[Hook]:
        """Hooks for those of the `points` that the model has."""
        names = [(point, hook_name(layer, point)) for point in points]

        def taking(point: str) -> Any:
            return lambda tensor, hook: self.take(point, tensor)

        return [(name, taking(point)) for point, name in names if name in model.hook_dict]

    def take(self, point: str, chunk: Float[Tensor, "1 query *rest"]) -> None:
        """Store the rows of the next chunk of queries, and add it to the means."""
        first = self._seen.get(point, 0)
        self._seen[point] = first + chunk.shape[1]
        inside = (self.positions >= first) & (self.positions < first + chunk.shape[1])
        rows = chunk[0, (self.positions[inside] - first).to(chunk.device)]
        self._rows.setdefault(point, []).append(rows.float())
        if self._weights is not None:
            part = self._weights[:, first : first + chunk.shape[1]].to(chunk.device)
            summed = torch.tensordot(part, chunk[0].float(), dims=1)
            self._means[point] = self._means.get(point, 0.0) + summed

    def rows(self, point: str) -> Float[Tensor, "row *rest"] | None:
        """The activations at the positions, in float32; None if the model has no such point."""
        return torch.cat(self._rows[point]) if point in self._rows else None

    def means(self, point: str) -> Float[Tensor, "set *rest"]:
        """The weighted means. Raises `MeasureError` if the hook point has never fired."""
        if point not in self._means:
            raise MeasureError(f"the hook point of {point!r} never fires in this model")
        means = self._means[point]
        assert isinstance(means, Tensor)
        return means


POINTS = ("resid_pre", "attn_out", "mlp_normed", "mlp_out", "resid_post")


def activations(
    model: HookedModel,
    trace: Trace,
    positions: Sequence[int],
    layers: Sequence[int],
    points: Sequence[str] = POINTS,
) -> Iterator[tuple[int, dict[str, Float[Tensor, "row d_model"]]]]:
    """Yield (layer, activations by point) at some tokens of a trace's text, in one pass.

    Points are resid_pre, attn_out, mlp_normed (what the MLP gets, after any norm), mlp_out and
    resid_post. Rows are in the order of `positions`, on the CPU in float32. A layer is not kept
    after it was yielded. Raises `TraceError` for a trace of another model, `AttributionError` for
    layers or positions out of range, and `MeasureError` for an unknown point.
    """
    _check(model, trace, positions, layers, points)
    wanted, rows = sorted(set(layers)), sorted(set(positions))
    order = [rows.index(pos) for pos in positions]
    collectors = {layer: ActivationCollector(rows) for layer in wanted}
    within = wanted if "mlp_normed" in points else []

    def hooks(at: int) -> Sequence[Any]:
        asked = at in collectors and "attn_out" in points
        return collectors[at].hooks(model, at, "attn_out") if asked else ()

    with mlp_ends(model, within, lambda at, end, tensor: collectors[at].take(end, tensor)):
        for view in iter_layers(model, trace.tokens, received=False, hooks=hooks):
            check_same_states(view, trace)
            collector = collectors.pop(view.layer, None)
            if collector is not None:
                found = {point: _rows(view, collector, point)[order] for point in points}
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


def _rows(
    view: LayerView, collector: ActivationCollector, point: str
) -> Float[Tensor, "row d_model"]:
    named = {"attn_out": "attn_out", "mlp_normed": "input"}
    if point in named:
        found = collector.rows(named[point])
        assert found is not None
    else:
        found = getattr(view, point)[collector.positions.to(view.resid_post.device)]
    return found.to("cpu", torch.float32)
