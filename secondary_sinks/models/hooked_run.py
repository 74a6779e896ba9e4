"""How a layer of a `HookedTransformer` is run: the only place that knows its internals."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.models.attended import Attended
from secondary_sinks.models.fused import attend
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
        """Nothing has been run yet."""
        self.model, self.layer = model, layer
        self._attention = model.blocks[layer].attn
        self._queries: list[Tensor] = []
        self._keys: Tensor
        self._values: Tensor

    def forward(
        self,
        resid_pre: Float[Tensor, "1 pos d_model"],
        chunk: int,
        hooks: Sequence[Hook],
        *,
        denominators: bool = False,
    ) -> Float[Tensor, "1 pos d_model"]:
        """`resid_post` of all positions; by the fast path unless a hook needs the pattern."""
        attended = Attended(resid_pre.shape[1], denominators=denominators)
        whole = {hook_name(self.layer, point) for point in ("pattern", "attn_scores")}
        slow = any(callable(name) or name in whole for name, _ in hooks)
        own = attended.hooks(self.layer) if slow else []
        attend = _ChunkedAttention(self, resid_pre.shape[1], None if slow else attended)
        with torch.no_grad(), attend.installed(), self.model.hooks(fwd_hooks=[*hooks, *own]):
            parts = [self._call(part, attend) for part in resid_pre.split(chunk, dim=1)]
        self._queries, self._keys, self._values = attend.queries, attend.keys, attend.values
        self.received = attended.received
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

    def run_replicas(
        self,
        resid_pre: Float[Tensor, "cell d_model"],
        positions: Int[Tensor, "cell"],
        hooks: Sequence[Hook],
    ) -> Replicas:
        """Run replicas of `positions` through this layer."""
        refuse_unreplicable(self.model)
        seen: dict[str, Tensor] = {}
        attend = _ReplicaAttention(self, positions.to(self.keys.device))
        own = (hook_name(self.layer, "pattern"), keep(seen, "pattern"))
        with torch.no_grad(), attend.installed(), self.model.hooks(fwd_hooks=[*hooks, own]):
            resid_post = self._call(resid_pre[None], attend)
        own_columns = seen["pattern"][0, :, :, -len(positions) :]
        return Replicas(
            resid_post=resid_post[0],
            keys=attend.keys,
            self_attention=own_columns.diagonal(dim1=1, dim2=2).T.float(),
        )

    def _call(self, residual: Float[Tensor, "1 query d_model"], cache: Any) -> Tensor:
        output: Tensor = self.model(
            residual,
            start_at_layer=self.layer,
            stop_at_layer=self.layer + 1,
            past_kv_cache={self.layer: cache},
        )
        return output


class _Attention:
    """Stands in for the cache and for some methods of an attention module of TransformerLens.

    As a cache it says how many positions came before and gives back the new keys and values
    alone; they are joined with the earlier ones after rotation, so none is rotated twice.
    """

    REPLACED = (
        "apply_rotary",
        "calculate_attention_scores",
        "apply_causal_mask",
        "calculate_z_scores",
    )
    past_keys: Tensor

    def __init__(self, run: HookedRun) -> None:
        self.run, self.attention = run, run.model.blocks[run.layer].attn
        there = [name for name in self.REPLACED if hasattr(self.attention, name)]
        self.plain = {name: getattr(self.attention, name) for name in there}

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Within, the attention module computes through this object."""
        for name in self.plain:
            setattr(self.attention, name, getattr(self, name))
        try:
            yield
        finally:
            for name in self.plain:
                delattr(self.attention, name)

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """The new ones alone."""
        return keys, values


class _ChunkedAttention(_Attention):
    """Attention of chunk after chunk of a text; fused unless `attended` is None."""

    def __init__(self, run: HookedRun, n_pos: int, attended: Attended | None) -> None:
        super().__init__(run)
        self.n_pos, self.attended, self.done = n_pos, attended, 0
        self.queries: list[Tensor] = []
        self.keys: Tensor
        self.values: Tensor

    @property
    def past_keys(self) -> Tensor:  # type: ignore[override]
        """As long as what came before; only its length is looked at."""
        return torch.empty(1, self.done)

    def apply_rotary(self, x: Tensor, offset: int = 0, mask: Any = None) -> Tensor:
        """Queries and keys alike begin where the chunk begins."""
        turned: Tensor = self.plain["apply_rotary"](x, self.done)
        return turned

    def calculate_attention_scores(self, q: Tensor, k: Tensor) -> Tensor:
        """Keep queries and keys; scores of all keys so far, or a stand-in on the fast path."""
        self.queries.append(q[0])
        self.keys = self._stored("keys", k)
        if self.attended is not None:
            return q.new_zeros(1, q.shape[2], 1, 1)
        seen = self.keys[None, : self.done + k.shape[1]]
        scores: Tensor = self.plain["calculate_attention_scores"](q, seen)
        return scores

    def apply_causal_mask(self, scores: Tensor, offset: int = 0, mask: Any = None) -> Tensor:
        """On the fast path the mask comes later."""
        if self.attended is not None:
            return scores
        masked: Tensor = self.plain["apply_causal_mask"](scores, offset)
        return masked

    def calculate_z_scores(self, v: Tensor, pattern: Tensor) -> Tensor:
        """Weighted values of the chunk."""
        self.values = self._stored("values", v)
        self.done += v.shape[1]
        if self.attended is None:
            z: Tensor = self.plain["calculate_z_scores"](self.values[None, : self.done], pattern)
            return z
        run = self.run
        z = attend(
            self.queries[-1],
            self.keys[: self.done],
            self.values[: self.done],
            scale=run.scale,
            soft_cap=run.soft_cap,
            learned_sinks=run.learned_sinks,
            window=run.window,
            attended=self.attended,
        )
        hooked: Tensor = self.attention.hook_z(z[None])
        return hooked

    def _stored(self, name: str, new: Tensor) -> Tensor:
        """The room for a whole text, with the new ones in their place."""
        if self.done == 0:
            setattr(self, name, new.new_empty(self.n_pos, *new.shape[2:]))
        store: Tensor = getattr(self, name)
        store[self.done : self.done + new.shape[1]] = new[0]
        return store


class _ReplicaAttention(_Attention):
    """Attention of replicas: each sees the clean keys before its position, and itself."""

    def __init__(self, run: HookedRun, positions: Int[Tensor, "cell"]) -> None:
        super().__init__(run)
        self.positions, self.past_keys = positions, run.keys[None]
        self.visible = visible_to_replicas(positions, len(run.keys), run.window)
        self.keys: Tensor

    def apply_rotary(self, x: Tensor, offset: int = 0, mask: Any = None) -> Tensor:
        """Each replica at its own position."""
        dim = self.attention.cfg.rotary_dim
        turned, passed = x[..., :dim], x[..., dim:]
        tables = (self.attention.rotary_cos, self.attention.rotary_sin)
        cos, sin = (table[self.positions][None, :, None] for table in tables)
        turned = turned * cos + self.attention.rotate_every_two(turned) * sin
        return torch.cat([turned, passed], dim=-1)

    def calculate_attention_scores(self, q: Tensor, k: Tensor) -> Tensor:
        """Scores of the clean keys and of all replicas' own."""
        self.keys = k[0]
        everything = torch.cat([self.run.keys, self.keys])
        scores: Tensor = self.plain["calculate_attention_scores"](q, everything[None])
        return scores

    def apply_causal_mask(self, scores: Tensor, offset: int = 0, mask: Any = None) -> Tensor:
        """What a replica does not see gets no attention."""
        return scores.masked_fill(~self.visible, -torch.inf)

    def calculate_z_scores(self, v: Tensor, pattern: Tensor) -> Tensor:
        """Weighted values, clean and own."""
        everything = torch.cat([self.run.values, v[0]])
        z: Tensor = self.plain["calculate_z_scores"](everything[None], pattern)
        return z
