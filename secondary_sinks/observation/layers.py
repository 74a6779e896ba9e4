"""A text walks through the model layer by layer, in chunks of queries.

Layer by layer, because then everything that belongs to one layer (all residuals of the text,
its keys, values and queries) is in memory together: the typical token, medians and replays are
exact, and memory does not grow with the number of layers. In chunks, because a pattern of a
whole text does not fit: hooks reduce each chunk at once, and the longer the text, the fewer
queries make a chunk.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.layerwise.begin import layerwise_forward
from secondary_sinks.layerwise.interface import LayerRun
from secondary_sinks.layerwise.protocol import Hook, HookedModel
from secondary_sinks.measures import Denominator
from secondary_sinks.measures.hook_names import hook_name
from secondary_sinks.observation.record import LayerRecord


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerView(LayerRecord):
    """All that one layer computed for one text, there until the next layer is asked for."""

    queries: Float[Tensor, "pos head d_head"]
    run: LayerRun
    resid_pre: Float[Tensor, "pos d_model"]
    denominator: Denominator | None


def iter_layers(
    model: HookedModel,
    tokens: Int[Tensor, "pos"],
    *,
    chunk: int | None = None,
    denominators: bool = False,
    watch: Sequence[int] = (),
    hooks: Callable[[int], Sequence[Hook]] = lambda layer: (),
) -> Iterator[LayerView]:
    """Yield every layer of a clean pass in order; hold on to none, so that one is in memory.

    `chunk` is the number of queries at a time; by default as many as fit (`models.chunks`).
    `denominators` also keeps the softmax denominators of the queries, which the direct effect of
    an edit on attention needs. `watch` are keys to which it is noted what each query pays
    (`LayerRecord.paid`); it is read anew at each layer, so it may grow. `hooks` gives further
    hooks of a layer, which fire once per chunk: for activations that a `LayerView` has not.
    """
    passage = layerwise_forward(model, tokens)
    residual = passage.embedded
    for layer in range(model.cfg.n_layers):
        options = {"chunk": chunk, "denominators": denominators, "watch": tuple(watch)}
        view = _view(passage.layer(layer), residual, hooks(layer), options)
        residual = view.resid_post[None]
        yield view
        del view  # the next layer needs the room


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
    after = run.forward(residual, [own, *hooks], **options)
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
        denominator=run.denominator,
    )


def paid_to(view: LayerView, watch: Sequence[int]) -> Float[Tensor, "query watch"]:
    """Attention that each query pays to the watched keys, mean over heads; 0 where it can't see.

    From the denominators, which the walk must have been asked for.
    """
    assert view.denominator is not None
    positions: Int[Tensor, "watch"] = torch.tensor(watch, device=view.queries.device)
    scores = view.run.scores(view.queries, view.run.keys[positions]).float()
    paid = (scores - view.denominator.log_sum[..., None]).exp().mean(0)
    behind = torch.arange(len(view.queries), device=paid.device)[:, None] - positions
    window = view.run.window
    return paid.where((behind >= 0) & (behind < (window or len(view.queries))), 0.0)
