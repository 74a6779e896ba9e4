"""Run the layers of a `HookedTransformer`; only `hooked_attention` knows its internals too."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import linear
from transformer_lens.utilities import apply_softcap

from secondary_sinks.layerwise.chunks import POSITIONS, fitting_chunk, vocabulary_chunks
from secondary_sinks.layerwise.fused_attention import AttentionTotals
from secondary_sinks.layerwise.hooked_attention import (
    ChunkedAttention,
    ReplayedAttention,
    has_own_scores,
    refuse_own_scores,
    rotated,
)
from secondary_sinks.layerwise.interface import (
    Continuations,
    LayerRun,
    LayerwiseForward,
    ReplayedTokens,
    VocabularyChunk,
)
from secondary_sinks.layerwise.protocol import (
    Hook,
    HookedModel,
    append_key_norms,
    keep_last,
    needs_pattern,
    with_mlp_in,
)
from secondary_sinks.layerwise.visibility import refuse_unreplayable
from secondary_sinks.measures.hook_names import EMBED, hook_name


class HookedForward(LayerwiseForward):
    """A forward pass of a text through a `HookedTransformer`."""

    def __init__(self, model: HookedModel, tokens: Int[Tensor, "pos"]) -> None:
        """Embed the text."""
        self.model, self._tokens = model, tokens[None].to(model.cfg.device)
        with torch.no_grad():
            self.embedded = model(self._tokens, stop_at_layer=0)

    def _embed(self) -> Float[Tensor, "pos d_model"]:
        return self._seen(EMBED)

    def after_embedding(
        self, embeddings: Float[Tensor, "row d_model"], positions: Int[Tensor, "row"]
    ) -> Float[Tensor, "row d_model"]:
        """The residual that enters layer 0: positions that are learned are added."""
        if self.model.cfg.positional_embedding_type != "standard":
            return embeddings
        return embeddings + self._seen("hook_pos_embed")[positions]

    def _seen(self, name: str) -> Float[Tensor, "pos d_model"]:
        """What a hook point before layer 0 sees of the text."""
        seen: dict[str, Tensor] = {}
        with torch.no_grad(), temporary_hooks(self.model, [(name, keep_last(seen, name))]):
            self.model(self._tokens, stop_at_layer=0)
        return seen[name][0]

    def layer(self, layer: int) -> "HookedRun":
        """A fresh run of one layer."""
        run = HookedRun(self.model, layer)
        run.embedded_by = None if layer else self
        return run

    def logits(self, resid_post: Float[Tensor, "pos d_model"]) -> Iterator[VocabularyChunk]:
        """Final norm and unembedding of the last layer's residuals, in chunks of the vocabulary.

        The model's own unembedding would compute all logits at once, with a copy of its weights.
        """
        model: Any = self.model
        normed = resid_post
        if model.cfg.normalization_type is not None:
            with torch.no_grad():
                normed = model.ln_final(resid_post[None])[0]
        weights, bias = model.unembed.W_U.detach(), model.unembed.b_U.detach()
        for chunk in vocabulary_chunks(weights.shape[1]):
            logits = linear(normed, weights[:, chunk].T, bias[chunk])
            yield chunk, apply_softcap(logits, model.cfg.output_logits_soft_cap)


class HookedRun(LayerRun):
    """A run of one layer of a `HookedTransformer`."""

    def __init__(self, model: HookedModel, layer: int) -> None:
        """Nothing has been run yet."""
        self.model, self.layer = model, layer
        self._attention = attention = model.blocks[layer].attn
        self.scale = 1.0 / float(attention.attn_scale)  # by which TransformerLens divides
        cap, sinks = float(attention.cfg.attn_scores_soft_cap), getattr(attention, "sinks", None)
        self.soft_cap = cap if cap > 0 else None  # -1 stands for no soft-cap
        self.learned_sinks = None if sinks is None else sinks.detach()
        local = attention.attn_type == "local"
        self.window = int(attention.cfg.window_size) if local else None

    def forward(
        self,
        resid_pre: Float[Tensor, "1 pos d_model"],
        hooks: Sequence[Hook],
        *,
        chunk: int | None = None,
        denominators: bool = False,
        watch: Sequence[int] = (),
        received: bool = True,
    ) -> Float[Tensor, "1 pos d_model"]:
        """`resid_post` of all positions.

        Attention is fused, unless a hook needs the pattern or the scores are more than scaled
        products of queries and keys.
        """
        n_pos = resid_pre.shape[1]
        totals = AttentionTotals(n_pos, denominators=denominators, watch=watch, received=received)
        slow = needs_pattern(hooks, self.layer) or has_own_scores(self._attention)
        key_norms: list[Tensor] = []
        own_hooks = [*totals.hooks(self.layer)] if slow else []
        own_hooks += [(hook_name(self.layer, "k"), append_key_norms(key_norms))]
        size = chunk or (fitting_chunk(self.model.cfg.n_heads, n_pos) if slow else POSITIONS)
        attention = ChunkedAttention(self, n_pos, None if slow else [totals])
        resid_pre, hooks = self.run_embed_hooks(resid_pre, torch.arange(n_pos), hooks)
        resid_post = self._in_chunks(resid_pre, size, attention, [*hooks, *own_hooks])
        self.queries = torch.cat(attention.queries)
        self.keys, self.values = attention.keys[0], attention.values[0]
        self.received, self.paid = totals.received, totals.paid
        self.key_norm_raw = torch.cat(key_norms) if key_norms else None
        self.log_sums = totals.log_sums(self.learned_sinks)
        return resid_post

    def run_replayed(
        self,
        resid_pre: Float[Tensor, "cell d_model"],
        positions: Int[Tensor, "cell"],
        hooks: Sequence[Hook],
    ) -> ReplayedTokens:
        """Run replayed tokens of `positions` through this layer."""
        refuse_unreplayable(self.model)
        refuse_own_scores(self._attention)
        fused = not needs_pattern(hooks, self.layer)
        attention = ReplayedAttention(self, positions.to(self.keys.device), fused=fused)
        entered, hooks = self.run_embed_hooks(resid_pre[None], positions, hooks)
        resid_post = self._in_chunks(entered, max(1, len(positions)), attention, hooks)
        return ReplayedTokens(
            resid_post=resid_post[0],
            keys=attention.keys,
            self_attention=attention.to_itself.float(),
        )

    def run_continuations(
        self,
        resid_pre: Float[Tensor, "cell suffix d_model"],
        hooks: Sequence[Hook],
        watch: Sequence[int] = (),
    ) -> Continuations:
        """Run other endings of the text, which share the clean prefix."""
        refuse_own_scores(self._attention)
        n_texts, n_pos = len(resid_pre), len(self.keys)
        start = n_pos - resid_pre.shape[1]
        resid_pre, hooks = self.run_embed_hooks(resid_pre, torch.arange(start, n_pos), hooks)
        totals = [AttentionTotals(n_pos, denominators=False, watch=watch) for _ in resid_pre]
        slow = needs_pattern(hooks, self.layer)
        fused = None if slow else totals
        attention = ChunkedAttention(self, n_pos, fused, start=start, keep_queries=False)
        size = fitting_chunk(self.model.cfg.n_heads * n_texts, n_pos)
        if slow:
            sums = [one.hooks(self.layer, text) for text, one in enumerate(totals)]
            hooks = [*hooks, *chain.from_iterable(sums)]
        else:
            size = max(size, POSITIONS // n_texts)
        resid_post = self._in_chunks(resid_pre, size, attention, hooks)
        return Continuations(
            resid_post=resid_post,
            keys=attention.keys[:, start:],
            received=torch.stack([one.received for one in totals]),
            paid=torch.stack([one.paid for one in totals]),
        )

    def rotate(
        self,
        vectors: Float[Tensor, "row head d_head"],
        positions: Int[Tensor, "row"],
        *,
        back: bool = False,
    ) -> Float[Tensor, "row head d_head"]:
        """Queries or keys rotated to their positions, or with `back` by the transposed rotation."""
        if self._attention.cfg.positional_embedding_type != "rotary":
            return vectors
        return rotated(self._attention, vectors, positions, back=back)

    def _in_chunks(
        self,
        residual: Float[Tensor, "text query d_model"],
        size: int,
        attention: ChunkedAttention | ReplayedAttention,
        hooks: Sequence[Hook],
    ) -> Float[Tensor, "text query d_model"]:
        """Run the layer on chunk after chunk of queries, with a replaced attention and hooks."""
        only_this_layer: dict[str, Any] = {
            "start_at_layer": self.layer,
            "stop_at_layer": self.layer + 1,
            "past_kv_cache": {self.layer: attention},
        }
        fires, once = with_mlp_in(self.model, hooks), normed_once(self.model.blocks[self.layer])
        with torch.no_grad(), attention.install(), fires, temporary_hooks(self.model, hooks), once:
            chunks = [self.model(part, **only_this_layer) for part in residual.split(size, dim=1)]
        return torch.cat(chunks, dim=1)


@contextmanager
def temporary_hooks(model: HookedModel, hooks: Sequence[Hook]) -> Iterator[None]:
    """A context in which hooks are active on a model that has none otherwise (`check_model`).

    `model.hooks` clears every hook point of the model at its end, which takes as long as a small
    layer; here only the hook points that were used are cleared.
    """
    points = model.hook_dict
    if any(callable(name) or name not in points for name, _ in hooks):
        with model.hooks(fwd_hooks=hooks):
            yield
        return
    try:
        for name, hook in hooks:
            points[name].add_hook(hook)
        yield
    finally:
        for name, _ in hooks:
            points[name].remove_hooks("fwd")


@contextmanager
def normed_once(block: Any) -> Iterator[None]:
    """A context in which the norm before attention is computed once per input.

    TransformerLens computes it for queries, keys and values, of the same residual. Where a hook
    sits inside the norm, all three are computed, since each may see or change it.
    """
    norm = block.ln1
    if any(point.fwd_hooks for point in norm.children()) or "forward" in vars(norm):
        yield
        return
    forward, last = norm.forward, list[Any]([None, None])

    def once(residual: Tensor) -> Any:
        if last[0] is not residual:
            last[:] = [residual, forward(residual)]
        return last[1]

    norm.forward = once
    try:
        yield
    finally:
        del norm.forward
