"""Replace the attention of a `HookedTransformer`, to run it in chunks and for replayed tokens."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.errors import UnsupportedModelError
from secondary_sinks.layerwise.choose_kernel import faster_kernel
from secondary_sinks.layerwise.chunks import fitting_chunk
from secondary_sinks.layerwise.fused_attention import (
    AttentionTotals,
    Workspace,
    attend,
    attend_only,
    needs_no_pattern,
)
from secondary_sinks.layerwise.interface import LayerRun
from secondary_sinks.layerwise.replayed_attention import attend_replayed
from secondary_sinks.layerwise.visibility import visible_before


class _ReplacedAttention:
    """Replaces the cache and some methods of an attention module of TransformerLens.

    As a cache, it reports the number of earlier positions and returns only the new keys and values.
    They are joined with the earlier ones after rotation, so that no key is rotated twice.
    """

    METHODS = (
        "apply_rotary",
        "calculate_attention_scores",
        "apply_causal_mask",
        "calculate_z_scores",
    )
    past_keys: Tensor

    def __init__(self, run: LayerRun) -> None:
        self.run: LayerRun = run
        self.attention = run.model.blocks[run.layer].attn
        names = [name for name in self.METHODS if hasattr(self.attention, name)]
        self.original = {name: getattr(self.attention, name) for name in names}
        instance = vars(self.attention)
        self._set_on_instance = {name: instance[name] for name in names if name in instance}

    @contextmanager
    def install(self) -> Iterator[None]:
        """A context in which the attention module computes with the methods of this object."""
        for name in self.original:
            setattr(self.attention, name, getattr(self, name))
        try:
            yield
        finally:
            for name in self.original:
                delattr(self.attention, name)
            vars(self.attention).update(self._set_on_instance)

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """The new keys and values only."""
        return keys, values


class ChunkedAttention(_ReplacedAttention):
    """Attention of one or more texts, chunk by chunk; fused unless `totals` is None.

    The texts may share a prefix with the clean text. They then start at `start`, and see the clean
    keys and values before it.
    """

    def __init__(
        self,
        run: LayerRun,
        n_pos: int,
        totals: Sequence[AttentionTotals] | None,
        *,
        start: int = 0,
        keep_queries: bool = True,
    ) -> None:
        super().__init__(run)
        self.n_pos, self.totals, self.start, self.n_done = n_pos, totals, start, start
        self.keep_queries = keep_queries
        self._workspace = Workspace(n_pos)
        self.queries: list[Tensor] = []
        self.keys: Tensor
        self.values: Tensor

    @property
    def past_keys(self) -> Tensor:  # type: ignore[override]
        """An empty tensor with the length of the earlier text; only the length is used."""
        return torch.empty(1, self.n_done)

    def apply_rotary(self, x: Tensor, offset: int = 0, mask: Any = None) -> Tensor:
        """Rotate queries or keys, which both start where the chunk starts.

        TransformerLens itself does so where it first makes larger tables, or rescales them.
        """
        end, cfg = self.n_done + x.shape[1], self.attention.cfg
        if end > len(self.attention.rotary_cos) or getattr(cfg, "use_dynamic_ntk_rope", False):
            by_itself: Tensor = self.original["apply_rotary"](x, self.n_done)
            return by_itself
        return rotated(self.attention, x, slice(self.n_done, end))

    def calculate_attention_scores(self, q: Tensor, k: Tensor) -> Tensor:
        """Store queries and keys; scores on all keys so far, or a placeholder if fused."""
        self._chunk = q
        if self.keep_queries:
            self.queries.append(q[0])
        self.keys = self._store("keys", k)
        if self.totals is not None:
            return q.new_zeros(len(q), q.shape[2], 1, 1)
        keys_so_far = self.keys[:, : self.n_done + k.shape[1]]
        scores: Tensor = self.original["calculate_attention_scores"](q, keys_so_far)
        return scores

    def apply_causal_mask(self, scores: Tensor, offset: int = 0, mask: Any = None) -> Tensor:
        """Mask the scores; fused attention has a mask of its own."""
        if self.totals is not None:
            return scores
        masked: Tensor = self.original["apply_causal_mask"](scores, offset)
        return masked

    def calculate_z_scores(self, v: Tensor, pattern: Tensor) -> Tensor:
        """Weighted values of the chunk."""
        self.values = self._store("values", v)
        self.n_done += v.shape[1]
        if self.totals is None:
            values_so_far = self.values[:, : self.n_done]
            z: Tensor = self.original["calculate_z_scores"](values_so_far, pattern)
            return z
        texts = [self._fused(text, totals) for text, totals in enumerate(self.totals)]
        hooked: Tensor = self.attention.hook_z(torch.stack(texts))
        return hooked

    def _fused(self, text: int, totals: AttentionTotals) -> Tensor:
        """Weighted values of one text's chunk: in one call, or in parts that fit in memory."""
        run, chunk = self.run, self._chunk[text]
        keys, values = self.keys[text, : self.n_done], self.values[text, : self.n_done]
        limits: dict[str, Any] = {"soft_cap": run.soft_cap, "window": run.window}
        given: dict[str, Any] = {"learned_sinks": run.learned_sinks, "totals": totals}
        given |= {"scale": run.scale}
        plain = run.soft_cap is None and run.learned_sinks is None
        if plain and needs_no_pattern(chunk, totals):
            plainly: dict[str, Any] = {"scale": run.scale, "window": run.window}
            return attend_only(chunk, keys, values, **plainly, totals=totals)
        kernel = faster_kernel(chunk, keys, totals=totals, **limits)
        if kernel is not None:
            return kernel(chunk, keys, values, **limits, **given)
        end, outputs = self.n_done - len(chunk), []
        for queries in chunk.split(fitting_chunk(chunk.shape[1], self.n_pos)):
            end += len(queries)
            outputs.append(
                attend(
                    queries,
                    keys[:end],
                    values[:end],
                    workspace=self._workspace,
                    **limits,
                    **given,
                )
            )
        return torch.cat(outputs)

    def _store(self, name: str, new: Tensor) -> Tensor:
        """Write new keys or values into a tensor for the whole texts, and return that tensor."""
        if self.n_done == self.start:
            setattr(self, name, new.new_empty(len(new), self.n_pos, *new.shape[2:]))
            if self.start:
                getattr(self, name)[:, : self.start] = getattr(self.run, name)[: self.start]
        whole: Tensor = getattr(self, name)
        whole[:, self.n_done : self.n_done + new.shape[1]] = new
        return whole


class ReplayedAttention(_ReplacedAttention):
    """Attention of replayed tokens: each sees the clean keys before its position, and itself.

    Fused (`attend_replayed`) unless a hook needs the pattern.
    """

    def __init__(self, run: LayerRun, positions: Int[Tensor, "cell"], *, fused: bool) -> None:
        super().__init__(run)
        self.positions, self.past_keys, self.fused = positions, run.keys[None], fused
        self.keys: Tensor
        self.to_itself: Float[Tensor, "cell head"]

    def apply_rotary(self, x: Tensor, offset: int = 0, mask: Any = None) -> Tensor:
        """Rotate each replayed token by its own position."""
        return rotated(self.attention, x[0], self.positions)[None]

    def calculate_attention_scores(self, q: Tensor, k: Tensor) -> Tensor:
        """Scores on the clean keys and, in the last column, on the replayed token's own key.

        A placeholder if fused.
        """
        self._queries, self.keys = q[0], k[0]
        if self.fused:
            return q.new_zeros(1, q.shape[2], 1, 1)
        rows = self._by_group(q[0]) * self.run.scale
        clean = rows.flatten(1, 2) @ self.run.keys.permute(1, 2, 0)
        own = (rows * self.keys.transpose(0, 1)[:, None]).sum(-1).flatten(1)[..., None]
        scores = torch.cat([clean, own], dim=-1).view(1, q.shape[2], len(self.keys), -1)
        return self.run.capped(scores)

    def apply_causal_mask(self, scores: Tensor, offset: int = 0, mask: Any = None) -> Tensor:
        """Mask the clean keys that a replayed token does not see."""
        if not self.fused:
            visible = visible_before(self.positions, len(self.run.keys), self.run.window)
            scores[..., :-1].masked_fill_(~visible, -torch.inf)
        return scores

    def calculate_z_scores(self, v: Tensor, pattern: Tensor) -> Tensor:
        """Weighted values: those of the clean text, and the replayed token's own."""
        z = self._fused(v[0]) if self.fused else self._weighted(v, pattern)
        hooked: Tensor = self.attention.hook_z(z[None])
        return hooked

    def _fused(self, own_values: Tensor) -> Tensor:
        run = self.run
        z, self.to_itself = attend_replayed(
            self._queries,
            (self.keys, own_values),
            (run.keys, run.values),
            self.positions,
            scale=run.scale,
            soft_cap=run.soft_cap,
            learned_sinks=run.learned_sinks,
            window=run.window,
        )
        return z

    def _weighted(self, v: Tensor, pattern: Tensor) -> Tensor:
        self.to_itself = pattern[0, ..., -1].T
        rows = pattern[0].unflatten(0, (v.shape[2], -1)).to(v.dtype)
        clean = rows[..., :-1].flatten(1, 2) @ self.run.values.transpose(0, 1)
        own = rows[..., -1:] * v[0].transpose(0, 1)[:, None]
        return (clean.view_as(own) + own).flatten(0, 1).transpose(0, 1)

    def _by_group(self, queries: Tensor) -> Float[Tensor, "kv_head in_group cell d_head"]:
        """Queries by the key that their heads share."""
        n_groups = self.run.keys.shape[1]
        return queries.unflatten(1, (n_groups, -1)).permute(1, 2, 0, 3)


def rotated(
    attention: Any,
    vectors: Float[Tensor, "*text row head d_head"],
    positions: Int[Tensor, "row"] | slice,
    *,
    back: bool = False,
) -> Float[Tensor, "*text row head d_head"]:
    """Vectors rotated to their positions by the tables of an attention module.

    With `back` by the transposed rotation. A plane is turned by its cosine and sine; its two
    coordinates are next to each other, or half of the rotated dimensions apart.
    """
    tables = attention.rotary_cos, attention.rotary_sin
    at = positions if isinstance(positions, slice) else positions.to(tables[0].device)
    cos, sin = (table[at][:, None] for table in tables)
    vectors, dim = vectors.to(cos.device), attention.cfg.rotary_dim
    whole = vectors[..., :dim] * cos
    first, second = _planes(attention, dim)
    sign = -1 if back else 1
    whole[..., first].addcmul_(vectors[..., second], sin[..., first], value=-sign)
    whole[..., second].addcmul_(vectors[..., first], sin[..., second], value=sign)
    return whole if dim == vectors.shape[-1] else torch.cat([whole, vectors[..., dim:]], dim=-1)


def _planes(attention: Any, dim: int) -> tuple[slice, slice]:
    """The first and the second coordinates of the planes that are turned."""
    if attention.cfg.rotary_adjacent_pairs:
        return slice(0, dim, 2), slice(1, dim, 2)
    return slice(0, dim // 2), slice(dim // 2, dim)


def has_own_scores(attention: Any) -> bool:
    """Whether scores are more than products of queries and keys.

    True for positions that are added to the scores (alibi), and if a user replaced a method.
    """
    plain = attention.cfg.positional_embedding_type in ("standard", "rotary")
    return not plain or not vars(attention).keys().isdisjoint(_ReplacedAttention.METHODS)


def refuse_own_scores(attention: Any) -> None:
    """Raise `UnsupportedModelError` if edited tokens would not get the scores of this attention."""
    if has_own_scores(attention):
        raise UnsupportedModelError(
            "edits need scores that are products of queries and keys; this model adds to its "
            "scores, or a method of its attention was replaced",
            "delete the replaced method, and observe the text again",
        )
