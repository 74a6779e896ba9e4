"""Run a text through a model one layer at a time, in chunks of queries.

One layer at a time, so that all residuals, keys, values and queries of a layer are in memory
together: the typical token, medians and replays are exact, and memory does not grow with the number
of layers. In chunks of queries, because the attention pattern of a whole text may not fit: hooks
reduce each chunk at once. The longer the text, the fewer queries are in a chunk.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.errors import TraceError
from secondary_sinks.layerwise.begin import layerwise_forward
from secondary_sinks.layerwise.interface import LayerRun
from secondary_sinks.layerwise.protocol import Hook, HookedModel, check_is_model
from secondary_sinks.layerwise.visibility import sees, visible_to_queries
from secondary_sinks.measures import norms
from secondary_sinks.measures.hook_names import hook_name
from secondary_sinks.observation.record import LayerRecord
from secondary_sinks.types import Trace
from secondary_sinks.types.trace import check_is_trace


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerView(LayerRecord):
    """All activations of one layer for one text; valid until the next layer is requested."""

    queries: Float[Tensor, "pos head d_head"]
    run: LayerRun
    resid_pre: Float[Tensor, "pos d_model"]
    log_sums: Float[Tensor, "head query"] | None
    """Log softmax denominators of all queries; None if they were not asked for."""


def iter_layers(
    model: HookedModel,
    tokens: Int[Tensor, "pos"],
    *,
    chunk: int | None = None,
    denominators: bool = False,
    watch: Sequence[int] = (),
    received: bool = True,
    hooks: Callable[[int], Sequence[Hook]] = lambda layer: (),
) -> Iterator[LayerView]:
    """Yield each layer of a clean forward pass, in order; keep none, so that one is in memory.

    `chunk` is the number of queries at a time; by default as many as fit (`layerwise.chunks`). With
    `denominators`, the softmax denominators of all queries are kept, which the direct effect of an
    edit on attention needs. `watch` are keys for which `LayerRecord.paid` records the attention of
    each query; it is read at every layer, so it may grow. Without `received`, the attention that
    keys receive is NaN, which is faster. `hooks` gives further hooks for a layer,
    which run once per chunk, for activations that a `LayerView` does not have, or to change some.
    """
    forward = layerwise_forward(model, tokens)
    residual = forward.embedded
    for layer in range(model.cfg.n_layers):
        options = {"chunk": chunk, "denominators": denominators, "watch": tuple(watch)}
        options["received"] = received
        view = _view(forward.layer(layer), residual, hooks(layer), options)
        residual = view.resid_post[None]
        yield view
        del view  # free its memory before the next layer


def _view(
    run: LayerRun,
    residual: Float[Tensor, "1 pos d_model"],
    hooks: Sequence[Hook],
    options: dict[str, Any],
) -> LayerView:
    written: list[Tensor] = []

    def on_mlp_out(mlp_out: Tensor, hook: Any) -> None:
        written.append(mlp_out[0])

    own = (hook_name(run.layer, "mlp_out"), on_mlp_out)
    after = run.forward(residual, [*hooks, own], **options)
    return LayerView(
        layer=run.layer,
        run=run,
        keys=run.keys,
        values=run.values,
        scale=run.scale,
        window=run.window,
        resid_pre=residual[0],
        resid_post=after[0],
        mlp_out=torch.cat(written),
        received=run.received,
        watched=options["watch"],
        paid=run.paid,
        key_norm_raw=run.key_norm_raw,
        queries=run.queries,
        log_sums=run.log_sums,
    )


def attention_paid_to(view: LayerView, watch: Sequence[int]) -> Float[Tensor, "query watch"]:
    """Attention from each query to the watched keys, mean over heads; 0 if it cannot see the key.

    Needs the softmax denominators (`iter_layers(denominators=True)`).
    """
    assert view.log_sums is not None
    positions: Int[Tensor, "watch"] = torch.tensor(watch, device=view.queries.device)
    scores = view.run.scores(view.queries, view.run.keys[positions]).float()
    paid = (scores - view.log_sums[..., None]).exp().mean(0)
    queries = torch.arange(len(view.queries), device=paid.device)
    return paid.where(sees(queries, positions, view.run.window), 0.0)


def attention_paid_by(view: LayerView, positions: Sequence[int]) -> Float[Tensor, "head query key"]:
    """Attention of some queries to every key, by head; 0 where a query cannot see the key.

    Needs the softmax denominators (`iter_layers(denominators=True)`).
    """
    assert view.log_sums is not None
    rows: Int[Tensor, "query"] = torch.tensor(positions, device=view.queries.device)
    scores = view.run.scores(view.queries[rows], view.run.keys).float()
    paid = (scores - view.log_sums[:, rows, None]).exp()
    return paid.where(visible_to_queries(rows, len(view.queries), view.run.window), 0.0)


def check_trace(model: HookedModel, trace: Trace) -> None:
    """Raise `TraceError` for no trace, or one of another number of layers or d_model.

    Raises `ModelError` for anything but a hooked model.
    """
    check_is_trace(trace)
    check_is_model(model)
    shape = (model.cfg.n_layers, model.cfg.d_model)
    if tuple(trace.typical.shape) != shape:
        raise TraceError(
            f"the trace was measured on a model with (layers, d_model) = "
            f"{tuple(trace.typical.shape)}, this one has {shape}; observe the text with this model"
        )


def check_same_states(view: LayerView, trace: Trace) -> None:
    """Raise `TraceError` if the norms of a layer differ from those in the trace."""
    measured, computed = trace.norm[view.layer], norms(view.resid_post).cpu()
    tolerance = 1e-3 if view.resid_post.dtype == torch.float32 else 5e-2
    if not torch.allclose(computed, measured, rtol=tolerance, atol=tolerance):
        raise TraceError(
            f"the trace is of another model: norms differ from layer {view.layer} on; observe the "
            "text with this model"
        )
