"""How a layer of a `HookedTransformer` is run: the only place that knows its internals."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.cache.key_value_cache_entry import TransformerLensKeyValueCacheEntry

from secondary_sinks.models.layers import (
    LayerRun,
    Passage,
    Replicas,
    hook_name,
    keep,
    refuse_unreplicable,
    visible_to_replicas,
)
from secondary_sinks.models.protocol import Hook, HookedModel


class HookedPassage(Passage):
    """A text on its way through a `HookedTransformer`."""

    def __init__(self, model: HookedModel, tokens: Int[Tensor, "pos"]) -> None:
        """Embed the text."""
        self.model = model
        with torch.no_grad():
            self.embedded = model(tokens[None].to(model.cfg.device), stop_at_layer=0)

    def layer(self, layer: int) -> "HookedRun":
        """A fresh run of one layer."""
        return HookedRun(self.model, layer)


class HookedRun(LayerRun):
    """A run of one layer of a `HookedTransformer`."""

    def __init__(self, model: HookedModel, layer: int) -> None:
        """Prepare an empty key-value cache for `layer`."""
        self.model, self.layer = model, layer
        self._attention = model.blocks[layer].attn
        self._rotary = model.cfg.positional_embedding_type == "rotary"
        device = next(model.blocks[layer].parameters()).device
        self._entry = TransformerLensKeyValueCacheEntry.init_cache_entry(model.cfg, device, 1)
        self._queries: list[Tensor] = []
        self._rotated: Tensor | None = None

    def forward(
        self, resid_pre: Float[Tensor, "1 pos d_model"], chunk: int, hooks: Sequence[Hook]
    ) -> Float[Tensor, "1 pos d_model"]:
        """`resid_post` of all positions."""
        cache, own = {self.layer: self._entry}, self._own_hooks()
        with torch.no_grad(), self.model.hooks(fwd_hooks=[*hooks, *own]):
            parts = [
                self.model(
                    part,
                    start_at_layer=self.layer,
                    stop_at_layer=self.layer + 1,
                    past_kv_cache=cache,
                )
                for part in resid_pre.split(chunk, dim=1)
            ]
        self._entry.frozen = True
        return torch.cat(parts, dim=1)

    @property
    def queries(self) -> Float[Tensor, "pos head d_head"]:
        """Queries as the scores use them."""
        return torch.cat(self._queries)

    @property
    def keys(self) -> Float[Tensor, "pos kv_head d_head"]:
        """Keys as the scores use them: the cache holds them before rotation."""
        keys = self._entry.past_keys if self._rotated is None else self._rotated
        return keys[0]

    @property
    def values(self) -> Float[Tensor, "pos kv_head d_head"]:
        """Values of all positions."""
        return self._entry.past_values[0]

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

    def run_replicas(
        self,
        resid_pre: Float[Tensor, "cell d_model"],
        positions: Int[Tensor, "cell"],
        hooks: Sequence[Hook],
    ) -> Replicas:
        """Run replicas of `positions` through this layer."""
        refuse_unreplicable(self.model)
        seen: dict[str, Tensor] = {}
        own = [
            (hook_name(self.layer, "rot_k" if self._rotary else "k"), keep(seen, "keys")),
            (hook_name(self.layer, "pattern"), keep(seen, "pattern")),
        ]
        n_cells = len(positions)
        with (
            torch.no_grad(),
            _at_positions(self._attention, positions, len(self.keys), self.window),
            self.model.hooks(fwd_hooks=[*hooks, *own]),
        ):
            resid_post = self.model(
                resid_pre[None],
                start_at_layer=self.layer,
                stop_at_layer=self.layer + 1,
                past_kv_cache={self.layer: self._entry},
            )
        own_columns = seen["pattern"][0, :, :, -n_cells:]
        return Replicas(
            resid_post=resid_post[0],
            keys=seen["keys"][0, -n_cells:],
            self_attention=own_columns.diagonal(dim1=1, dim2=2).T.float(),
        )

    def _own_hooks(self) -> list[Hook]:
        """Keep the queries chunk by chunk, and the rotated keys, which the cache has not."""

        def on_queries(queries: Tensor, hook: Any) -> None:
            self._queries.append(queries[0])

        def on_keys(keys: Tensor, hook: Any) -> None:
            self._rotated = keys

        if not self._rotary:
            return [(hook_name(self.layer, "q"), on_queries)]
        return [
            (hook_name(self.layer, "rot_q"), on_queries),
            (hook_name(self.layer, "rot_k"), on_keys),
        ]


@contextmanager
def _at_positions(
    attention: Any, positions: Int[Tensor, "cell"], n_keys: int, window: int | None
) -> Iterator[None]:
    """Within, the attention takes its last queries and keys for replicas of `positions`."""
    device = attention.W_Q.device
    positions = positions.to(device)
    everywhere = torch.cat([torch.arange(n_keys, device=device), positions])
    visible = visible_to_replicas(positions, n_keys, window)

    def apply_rotary(x: Tensor, past_kv_pos_offset: int = 0, attention_mask: Any = None) -> Tensor:
        at = positions if x.shape[1] == len(positions) else everywhere
        dim = attention.cfg.rotary_dim
        turned, passed = x[..., :dim], x[..., dim:]
        cos, sin = (
            table[at][None, :, None] for table in (attention.rotary_cos, attention.rotary_sin)
        )
        return torch.cat([turned * cos + attention.rotate_every_two(turned) * sin, passed], dim=-1)

    def apply_causal_mask(
        attn_scores: Tensor, past_kv_pos_offset: int = 0, attention_mask: Any = None
    ) -> Tensor:
        return attn_scores.masked_fill(~visible, -torch.inf)

    attention.apply_rotary, attention.apply_causal_mask = apply_rotary, apply_causal_mask
    try:
        yield
    finally:
        del attention.apply_rotary, attention.apply_causal_mask
