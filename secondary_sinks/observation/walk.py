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

from secondary_sinks.measures import Denominator, received_attention
from secondary_sinks.measures.from_qk import SCORES_AT_ONCE
from secondary_sinks.models.layers import LayerRun, begin, hook_name
from secondary_sinks.models.protocol import Hook, HookedModel
from secondary_sinks.observation.record import LayerRecord

CHUNK = 256
"""Queries in a chunk, at most."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerView(LayerRecord):
    """All that one layer computed for one text, there until the next layer is asked for."""

    queries: Float[Tensor, "pos head d_head"]
    run: LayerRun
    resid_pre: Float[Tensor, "pos d_model"]
    denominator: Denominator | None


def walk(
    model: HookedModel,
    tokens: Int[Tensor, "pos"],
    *,
    chunk: int | None = None,
    keep_queries: bool = False,
    hooks: Callable[[int], Sequence[Hook]] = lambda layer: (),
) -> Iterator[LayerView]:
    """Yield every layer of a clean pass in order; hold on to none, so that one is in memory.

    `chunk` is the number of queries at a time; by default as many as `fitting_chunk` says.
    `keep_queries` also keeps the softmax denominators of the queries, which the direct effect of
    an edit on attention needs. `hooks` gives further hooks of a layer, which fire once per chunk:
    for activations that a `LayerView` has not.
    """
    if chunk is None:
        chunk = fitting_chunk(model.cfg.n_heads, len(tokens))
    passage = begin(model, tokens)
    residual = passage.embedded
    for layer in range(model.cfg.n_layers):
        view = _view(passage.layer(layer), residual, chunk, keep_queries, hooks(layer))
        residual = view.resid_post[None]
        yield view
        del view  # the next layer needs the room


def fitting_chunk(n_heads: int, n_pos: int) -> int:
    """Queries of which all heads' scores on a whole text stay within `SCORES_AT_ONCE`.

    At most `CHUNK`, at least one.

    >>> fitting_chunk(n_heads=9, n_pos=2048), fitting_chunk(n_heads=9, n_pos=16384)
    (256, 113)
    """
    return max(1, min(CHUNK, SCORES_AT_ONCE // (n_heads * n_pos)))


def _view(
    run: LayerRun,
    residual: Float[Tensor, "1 pos d_model"],
    chunk: int,
    keep_scores: bool,
    hooks: Sequence[Hook],
) -> LayerView:
    notes = _Notes(residual.shape[1])
    own = notes.hooks(run.layer, keep_scores=keep_scores)
    after = run.forward(residual, chunk, [*own, *hooks])
    return LayerView(
        layer=run.layer,
        run=run,
        keys=run.keys,
        values=run.values,
        scale=run.scale,
        window=run.window,
        resid_pre=residual[0],
        resid_post=after[0],
        mlp_out=torch.cat(notes.mlp_out),
        received=notes.received,
        queries=run.queries,
        denominator=notes.denominator(run) if keep_scores else None,
    )


class _Notes:
    """What the hooks of one layer write down, chunk by chunk."""

    def __init__(self, n_pos: int) -> None:
        self.received = torch.zeros(n_pos)
        self.mlp_out: list[Tensor] = []
        self.denominators: list[Denominator] = []

    def hooks(self, layer: int, *, keep_scores: bool) -> list[Hook]:
        def on_pattern(pattern: Tensor, hook: Any) -> None:
            received = received_attention(pattern).cpu()
            self.received[: len(received)] += received

        def on_mlp_out(mlp_out: Tensor, hook: Any) -> None:
            self.mlp_out.append(mlp_out[0])

        def on_scores(scores: Tensor, hook: Any) -> None:
            invisible = scores[0] <= torch.finfo(scores.dtype).min / 2  # as Hugging Face masks
            self.denominators.append(Denominator.of(scores[0].masked_fill(invisible, -torch.inf)))

        notes: dict[str, Callable[[Tensor, Any], None]] = {
            "pattern": on_pattern,
            "mlp_out": on_mlp_out,
        }
        if keep_scores:
            notes |= {"attn_scores": on_scores}
        return [(hook_name(layer, point), note) for point, note in notes.items()]

    def denominator(self, run: LayerRun) -> Denominator:
        whole = Denominator.join(self.denominators)
        return whole if run.learned_sinks is None else whole.with_extra(run.learned_sinks)
