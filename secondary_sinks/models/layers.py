"""One layer of a hooked model at a time: the only place that knows how TransformerLens runs one.

`LayerRun` feeds a whole text through one layer in chunks of queries with a key-value cache.
`run_replicas` feeds *replicas* through the same layer: extra copies of single positions, each
of which sees the clean keys before its own position, and itself. Attention is causal, so an
edited replica goes through exactly what the position would go through in a full forward pass
with the same edit.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformer_lens.cache.key_value_cache_entry import TransformerLensKeyValueCacheEntry

from secondary_sinks.errors import ModelError, TextError, UnsupportedModelError
from secondary_sinks.models.protocol import Hook, HookedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicas:
    """What one layer makes of a batch of replicas."""

    resid_post: Float[Tensor, "cell d_model"]
    keys: Float[Tensor, "cell kv_head d_head"]
    self_attention: Float[Tensor, "cell head"]


def check_model(model: HookedModel) -> None:
    """Raise before any pass what would make its numbers wrong without a word.

    `UnsupportedModelError` for a model that is not causal, has no MLPs, or adds positions inside
    attention (shortformer); `ModelError` for weights of another dtype than the config says, and
    for hooks left on the model: they would fire on chunks and replicas, at wrong positions.
    """
    cfg = model.cfg
    if cfg.attention_dir != "causal" or cfg.attn_only:
        raise UnsupportedModelError("expected a causal model with MLPs; got one without")
    if cfg.positional_embedding_type == "shortformer":
        raise UnsupportedModelError("shortformer positions are not supported")
    dtype = next(model.parameters()).dtype
    if dtype != cfg.dtype:
        raise ModelError(
            f"the weights are {dtype}, cfg.dtype says {cfg.dtype}; use model.to(dtype)"
        )
    left = [name for name, point in model.hook_dict.items() if point.fwd_hooks]
    if left:
        raise ModelError(f"the model has a hook at {left[0]!r}; remove it: model.reset_hooks()")


def embed(model: HookedModel, tokens: Int[Tensor, "pos"]) -> Float[Tensor, "1 pos d_model"]:
    """The residual that enters layer 0. Raises `TextError` for a text longer than the context."""
    if len(tokens) > model.cfg.n_ctx:
        raise TextError(
            f"the text has {len(tokens)} tokens, but the model sees at most {model.cfg.n_ctx}; "
            "shorten or split the text"
        )
    with torch.no_grad():
        return model(tokens[None].to(model.cfg.device), stop_at_layer=0)


def hook_name(layer: int, point: str) -> str:
    """Full name of a hook point, for example (3, "mlp_out") -> "blocks.3.hook_mlp_out"."""
    inside_attention = point in {"q", "k", "v", "z", "rot_q", "rot_k", "pattern", "attn_scores"}
    return (
        f"blocks.{layer}.attn.hook_{point}" if inside_attention else f"blocks.{layer}.hook_{point}"
    )


def query_point(model: HookedModel) -> str:
    """The hook point of the queries that enter the scores: after rotation where there is one."""
    return "rot_q" if _is_rotary(model) else "q"


def window(model: HookedModel, layer: int) -> int | None:
    """Length of the sliding window of a layer, None where it sees everything."""
    attention = model.blocks[layer].attn
    return int(attention.cfg.window_size) if attention.attn_type == "local" else None


class LayerRun:
    """A clean pass of a text through one layer; afterwards its keys and values are here."""

    def __init__(self, model: HookedModel, layer: int) -> None:
        """Prepare an empty key-value cache for `layer`."""
        self.model, self.layer = model, layer
        device = next(model.blocks[layer].parameters()).device
        self._entry = TransformerLensKeyValueCacheEntry.init_cache_entry(model.cfg, device, 1)
        self._rotated: Tensor | None = None

    def forward(
        self, resid_pre: Float[Tensor, "1 pos d_model"], chunk: int, hooks: Sequence[Hook]
    ) -> Float[Tensor, "1 pos d_model"]:
        """`resid_post` of all positions. Each hook fires once per chunk of queries, in order."""
        cache = {self.layer: self._entry}
        own = [(hook_name(self.layer, "rot_k"), self._keep_keys)] if _is_rotary(self.model) else []
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
    def keys(self) -> Float[Tensor, "pos kv_head d_head"]:
        """Keys as the scores use them: after q/k norms and rotation."""
        keys = self._entry.past_keys if self._rotated is None else self._rotated
        return keys[0]

    @property
    def values(self) -> Float[Tensor, "pos kv_head d_head"]:
        """Values of all positions."""
        return self._entry.past_values[0]

    def scores(
        self, queries: Float[Tensor, "pos head d_head"], keys: Float[Tensor, "cell kv_head d_head"]
    ) -> Float[Tensor, "head pos cell"]:
        """Attention scores (before the softmax, after scale and soft-cap) of queries on keys."""
        attention = self.model.blocks[self.layer].attn
        with torch.no_grad():
            return attention.calculate_attention_scores(queries[None], keys[None])[0]

    @property
    def learned_sinks(self) -> Float[Tensor, "head"] | None:
        """Score per head that takes part in the softmax and belongs to no token."""
        sinks = getattr(self.model.blocks[self.layer].attn, "sinks", None)
        return None if sinks is None else sinks.detach()

    def run_replicas(
        self,
        resid_pre: Float[Tensor, "cell d_model"],
        positions: Int[Tensor, "cell"],
        hooks: Sequence[Hook],
    ) -> Replicas:
        """Run replicas of `positions` through this layer; hooks see them as `[1, cell, ...]`.

        Raises `UnsupportedModelError` for position embeddings a replica can't have.
        """
        refuse_unreplicable(self.model)
        seen: dict[str, Tensor] = {}
        key_point = "rot_k" if _is_rotary(self.model) else "k"
        own = [
            (hook_name(self.layer, key_point), _keep(seen, "keys")),
            (hook_name(self.layer, "pattern"), _keep(seen, "pattern")),
        ]
        attention = self.model.blocks[self.layer].attn
        n_cells = len(positions)
        with (
            torch.no_grad(),
            _at_positions(attention, positions, len(self.keys)),
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

    def _keep_keys(self, keys: Tensor, hook: Any) -> None:
        self._rotated = keys


def refuse_unreplicable(model: HookedModel) -> None:
    """Raise `UnsupportedModelError` where a replica would not see its own position."""
    cfg = model.cfg
    rescaled = getattr(cfg, "use_logn_attn", False) or getattr(cfg, "use_dynamic_ntk_rope", False)
    if cfg.positional_embedding_type not in {"standard", "rotary"} or rescaled:
        raise UnsupportedModelError(
            f"single-token replay needs rotary or learned absolute positions without rescaling by "
            f"length; this model has {cfg.positional_embedding_type!r}"
        )


@contextmanager
def _at_positions(attention: Any, positions: Int[Tensor, "cell"], n_keys: int) -> Iterator[None]:
    """Within, the attention takes its last queries and keys for replicas of `positions`."""
    device = attention.W_Q.device
    positions = positions.to(device)
    everywhere = torch.cat([torch.arange(n_keys, device=device), positions])
    visible = _visible(positions, n_keys, attention)

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


def _visible(
    positions: Int[Tensor, "cell"], n_keys: int, attention: Any
) -> Bool[Tensor, "cell key"]:
    """Clean keys before the replica's position, within its window; among replicas only itself."""
    clean = torch.arange(n_keys, device=positions.device)
    before = clean < positions[:, None]
    if attention.attn_type == "local":
        before &= clean > positions[:, None] - attention.cfg.window_size
    itself = torch.eye(len(positions), dtype=torch.bool, device=positions.device)
    return torch.cat([before, itself], dim=1)


def _keep(seen: dict[str, Tensor], name: str) -> Callable[[Tensor, Any], None]:
    def hook(tensor: Tensor, hook: Any) -> None:
        seen[name] = tensor

    return hook


def _is_rotary(model: HookedModel) -> bool:
    return bool(model.cfg.positional_embedding_type == "rotary")
