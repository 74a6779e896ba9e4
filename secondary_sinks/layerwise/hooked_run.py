"""How a layer of a `HookedTransformer` is run: the only place that knows its internals."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import linear
from transformer_lens.utilities import apply_softcap

from secondary_sinks.errors import UnsupportedModelError
from secondary_sinks.layerwise.attention_received import Attended
from secondary_sinks.layerwise.chunks import ROWS, fitting_chunk, vocabulary_chunks
from secondary_sinks.layerwise.hooked_attention import (
    ChunkedAttention,
    ReplayedAttention,
    has_own_scores,
)
from secondary_sinks.layerwise.interface import (
    Continuations,
    LayerRun,
    LayerwiseForward,
    ReplayedTokens,
    VocabularyChunk,
    keep_last,
    needs_pattern,
    note_key_norms,
    refuse_unreplayable,
)
from secondary_sinks.layerwise.protocol import Hook, HookedModel
from secondary_sinks.measures.hook_names import hook_name


class HookedForward(LayerwiseForward):
    """A text on its way through a `HookedTransformer`."""

    def __init__(self, model: HookedModel, tokens: Int[Tensor, "pos"]) -> None:
        """Embed the text."""
        self.model = model
        with torch.no_grad():
            self.embedded = model(tokens[None].to(model.cfg.device), stop_at_layer=0)

    def layer(self, layer: int) -> "HookedRun":
        """A fresh run of one layer."""
        return HookedRun(self.model, layer)

    def logits(self, resid_post: Float[Tensor, "pos d_model"]) -> Iterator[VocabularyChunk]:
        """What the final norm and the unembedding make of the last residuals, in strips.

        The model's own unembedding makes all words at once, of a fresh copy of its weights.
        """
        model: Any = self.model
        normed = resid_post
        if model.cfg.normalization_type is not None:
            with torch.no_grad():
                normed = model.ln_final(resid_post[None])[0]
        weights, bias = model.unembed.W_U.detach(), model.unembed.b_U.detach()
        for words in vocabulary_chunks(weights.shape[1]):
            logits = linear(normed, weights[:, words].T, bias[words])
            yield words, apply_softcap(logits, model.cfg.output_logits_soft_cap)


class HookedRun(LayerRun):
    """A run of one layer of a `HookedTransformer`."""

    def __init__(self, model: HookedModel, layer: int) -> None:
        """Nothing has been run yet."""
        self.model, self.layer = model, layer
        self._attention = model.blocks[layer].attn
        self._queries: list[Tensor] = []
        self._keys: Tensor
        self._values: Tensor

    def forward(
        self,
        resid_pre: Float[Tensor, "1 pos d_model"],
        hooks: Sequence[Hook],
        *,
        chunk: int | None = None,
        denominators: bool = False,
        watch: Sequence[int] = (),
    ) -> Float[Tensor, "1 pos d_model"]:
        """`resid_post` of all positions; by the fast path unless a hook needs the pattern.

        Nor where scores are more than scaled products of queries and keys.
        """
        attended = Attended(resid_pre.shape[1], denominators=denominators, watch=watch)
        slow = needs_pattern(hooks, self.layer) or has_own_scores(self._attention)
        own, n_pos = attended.hooks(self.layer) if slow else [], resid_pre.shape[1]
        raw: list[Tensor] = []
        own = [*own, (hook_name(self.layer, "k"), note_key_norms(raw))]
        if chunk is None:
            chunk = fitting_chunk(self.model.cfg.n_heads, n_pos) if slow else ROWS
        attend = ChunkedAttention(self, n_pos, None if slow else [attended])
        with torch.no_grad(), attend.installed(), hooked(self.model, [*hooks, *own]):
            parts = [self._call(part, attend) for part in resid_pre.split(chunk, dim=1)]
        self._queries, self._keys, self._values = attend.queries, attend.keys[0], attend.values[0]
        self.received, self.paid = attended.received, attended.paid
        self.key_norm_raw = torch.cat(raw) if raw else None
        self.denominator = attended.denominator(self.learned_sinks)
        return torch.cat(parts, dim=1)

    @property
    def queries(self) -> Float[Tensor, "pos head d_head"]:
        """Queries as the scores use them."""
        return torch.cat(self._queries)

    @property
    def keys(self) -> Float[Tensor, "pos kv_head d_head"]:
        """Keys as the scores use them."""
        return self._keys

    @property
    def values(self) -> Float[Tensor, "pos kv_head d_head"]:
        """Values of all positions."""
        return self._values

    @property
    def scale(self) -> float:
        """One over what TransformerLens divides the scores by."""
        return 1.0 / float(self._attention.attn_scale)

    @property
    def soft_cap(self) -> float | None:
        """The soft-cap of the config, which says -1 for none."""
        cap = float(self._attention.cfg.attn_scores_soft_cap)
        return cap if cap > 0 else None

    @property
    def learned_sinks(self) -> Float[Tensor, "head"] | None:
        """Score per head that belongs to no token."""
        sinks = getattr(self._attention, "sinks", None)
        return None if sinks is None else sinks.detach()

    @property
    def window(self) -> int | None:
        """Length of the sliding window."""
        local = self._attention.attn_type == "local"
        return int(self._attention.cfg.window_size) if local else None

    def run_replayed(
        self,
        resid_pre: Float[Tensor, "cell d_model"],
        positions: Int[Tensor, "cell"],
        hooks: Sequence[Hook],
    ) -> ReplayedTokens:
        """Run replicas of `positions` through this layer."""
        refuse_unreplayable(self.model)
        seen: dict[str, Tensor] = {}
        attend = ReplayedAttention(self, positions.to(self.keys.device))
        own = (hook_name(self.layer, "pattern"), keep_last(seen, "pattern"))
        with torch.no_grad(), attend.installed(), hooked(self.model, [*hooks, own]):
            resid_post = self._call(resid_pre[None], attend)
        own_columns = seen["pattern"][0, :, :, -len(positions) :]
        return ReplayedTokens(
            resid_post=resid_post[0],
            keys=attend.keys,
            self_attention=own_columns.diagonal(dim1=1, dim2=2).T.float(),
        )

    def run_continuations(
        self,
        resid_pre: Float[Tensor, "cell suffix d_model"],
        hooks: Sequence[Hook],
        watch: Sequence[int] = (),
    ) -> Continuations:
        """Run the last positions of several texts that begin as the clean one."""
        if has_own_scores(self._attention):
            raise UnsupportedModelError(
                "suffixes need scores that are products of queries and keys"
            )
        start = len(self.keys) - resid_pre.shape[1]
        n_pos = len(self.keys)
        attended = [Attended(n_pos, denominators=False, watch=watch) for _ in resid_pre]
        attend = ChunkedAttention(self, len(self.keys), attended, start=start, keep_queries=False)
        with torch.no_grad(), attend.installed(), hooked(self.model, hooks):
            fitting = fitting_chunk(self.model.cfg.n_heads * len(resid_pre), len(self.keys))
            rows = max(fitting, ROWS // len(resid_pre))
            parts = [self._call(part, attend) for part in resid_pre.split(rows, dim=1)]
        return Continuations(
            resid_post=torch.cat(parts, dim=1),
            keys=attend.keys[:, start:],
            received=torch.stack([one.received for one in attended]),
            paid=torch.stack([one.paid for one in attended]),
        )

    def _call(self, residual: Float[Tensor, "text query d_model"], cache: Any) -> Tensor:
        output: Tensor = self.model(
            residual,
            start_at_layer=self.layer,
            stop_at_layer=self.layer + 1,
            past_kv_cache={self.layer: cache},
        )
        return output


@contextmanager
def hooked(model: HookedModel, hooks: Sequence[Hook]) -> Iterator[None]:
    """Hooks that are there while the context lasts, on a model that has none (`check_model`).

    `model.hooks` clears every hook point of the model when it ends, which takes as long as a
    small layer; here only those are cleared that were used.
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
