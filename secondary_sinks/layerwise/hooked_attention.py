"""Attention of a `HookedTransformer` in chunks and of replicas, in the place of its own methods."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from secondary_sinks.layerwise.attention_received import Attended
from secondary_sinks.layerwise.chunks import fitting_chunk
from secondary_sinks.layerwise.fused_attention import Room, attend
from secondary_sinks.layerwise.interface import LayerRun, visible_to_replayed


class _StandIn:
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

    def __init__(self, run: LayerRun) -> None:
        self.run: LayerRun = run
        self.attention = run.model.blocks[run.layer].attn
        there = [name for name in self.REPLACED if hasattr(self.attention, name)]
        self.plain = {name: getattr(self.attention, name) for name in there}
        own = vars(self.attention)
        self.replaced = {name: own[name] for name in there if name in own}

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
            vars(self.attention).update(self.replaced)

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """The new ones alone."""
        return keys, values


class ChunkedAttention(_StandIn):
    """Attention of chunk after chunk of one or more texts; fused unless `attended` is None.

    They may have a beginning in common, that of the clean text: then they start at `start`, and
    see its keys and values before that.
    """

    def __init__(
        self,
        run: LayerRun,
        n_pos: int,
        attended: Sequence[Attended] | None,
        *,
        start: int = 0,
        keep_queries: bool = True,
    ) -> None:
        super().__init__(run)
        self.n_pos, self.attended, self.start, self.done = n_pos, attended, start, start
        self.keep_queries = keep_queries
        self._room = Room(n_pos)
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
        self._chunk = q
        if self.keep_queries:
            self.queries.append(q[0])
        self.keys = self._stored("keys", k)
        if self.attended is not None:
            return q.new_zeros(len(q), q.shape[2], 1, 1)
        seen = self.keys[:, : self.done + k.shape[1]]
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
            z: Tensor = self.plain["calculate_z_scores"](self.values[:, : self.done], pattern)
            return z
        parts = [self._fused(text, one) for text, one in enumerate(self.attended)]
        hooked: Tensor = self.attention.hook_z(torch.stack(parts))
        return hooked

    def _fused(self, text: int, attended: Attended) -> Tensor:
        """A chunk is as long as matrix products want it; its scores are made in parts that fit."""
        chunk, end, parts = self._chunk[text], self.done - len(self._chunk[text]), []
        for queries in chunk.split(fitting_chunk(chunk.shape[1], self.n_pos)):
            end += len(queries)
            parts.append(self._part(text, queries, end, attended))
        return torch.cat(parts)

    def _part(self, text: int, queries: Tensor, end: int, attended: Attended) -> Tensor:
        run = self.run
        return attend(
            queries,
            self.keys[text, :end],
            self.values[text, :end],
            scale=run.scale,
            soft_cap=run.soft_cap,
            learned_sinks=run.learned_sinks,
            window=run.window,
            attended=attended,
            room=self._room,
        )

    def _stored(self, name: str, new: Tensor) -> Tensor:
        """The room for whole texts, with the new ones in their place."""
        if self.done == self.start:
            setattr(self, name, new.new_empty(len(new), self.n_pos, *new.shape[2:]))
            if self.start:
                getattr(self, name)[:, : self.start] = getattr(self.run, name)[: self.start]
        store: Tensor = getattr(self, name)
        store[:, self.done : self.done + new.shape[1]] = new
        return store


class ReplayedAttention(_StandIn):
    """Attention of replicas: each sees the clean keys before its position, and itself."""

    def __init__(self, run: LayerRun, positions: Int[Tensor, "cell"]) -> None:
        super().__init__(run)
        self.positions, self.past_keys = positions, run.keys[None]
        self.visible = visible_to_replayed(positions, len(run.keys), run.window)
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


def has_own_scores(attention: Any) -> bool:
    """Whether an attention adds to its scores (alibi), or a user replaced a method of it."""
    plain = attention.cfg.positional_embedding_type in ("standard", "rotary")
    return not plain or not vars(attention).keys().isdisjoint(_StandIn.REPLACED)
