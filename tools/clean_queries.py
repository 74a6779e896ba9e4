"""Attention of clean queries to a key that is put in the place of another, for `DecodePeer`."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


class CleanQueries:
    """The rotated queries of a clean pass and the softmax denominators of their rows.

    For models of the Llama kind: rotary positions, scores divided by the root of the head's width.
    """

    def __init__(self, base: Any, projected: Sequence[Tensor], kept: Any) -> None:
        """`projected` are outputs of `q_proj` by layer, `kept` the cache of keys and values."""
        self.kept, self.width = kept, kept.layers[0].keys.shape[-1]
        places = torch.arange(len(projected[0]))[None]
        self.cos, self.sin = (table[0] for table in base.rotary_emb(projected[0], places))
        self.queries, self.log_sums = [], []
        later = torch.ones(len(projected[0]), len(projected[0]), dtype=torch.bool).triu(1)
        for rows, one in zip(projected, kept.layers, strict=True):
            queries = self._rotated(rows, slice(None))
            scores = queries @ self._of_heads(one.keys[0], len(queries)).transpose(1, 2)
            self.queries.append(queries)
            self.log_sums.append(scores.masked_fill_(later, -torch.inf).logsumexp(-1))

    def _rotated(
        self, projected: Float[Tensor, "row width"], at: slice
    ) -> Float[Tensor, "head row d_head"]:
        rows = projected.unflatten(-1, (-1, self.width)).transpose(0, 1)
        first, second = rows.chunk(2, dim=-1)
        turned = torch.cat([-second, first], dim=-1)
        return (rows * self.cos[at] + turned * self.sin[at]) / self.width**0.5

    @staticmethod
    def _of_heads(of_groups: Float[Tensor, "kv_head *rest"], n_heads: int) -> Tensor:
        return of_groups.repeat_interleave(n_heads // len(of_groups), 0)

    def mass(
        self,
        layer: int,
        own: Float[Tensor, "cell width"],
        keys: Float[Tensor, "cell kv_head key d_head"],
        pos: int,
    ) -> Float[Tensor, "cell"]:
        """Attention to the new key, by its own new query and the clean queries of later tokens."""
        queries, n_pos = self.queries[layer], len(self.cos)
        by_head = keys.transpose(0, 1)
        own_scores = torch.einsum(
            "hcd,hckd->hck",
            self._rotated(own, slice(pos, pos + 1)),
            self._of_heads(by_head, len(queries)),
        )
        later, sums = queries[:, pos + 1 :], self.log_sums[layer][:, pos + 1 :, None]
        old_key = self.kept.layers[layer].keys[0, :, pos]
        old = later @ self._of_heads(old_key, len(queries))[..., None]
        rest = sums + torch.log1p(-(old - sums).exp())
        new = later @ self._of_heads(by_head[:, :, -1], len(queries)).transpose(1, 2)
        paid = torch.sigmoid(new - rest).mean(0).sum(0)
        return (paid + own_scores.softmax(-1)[..., -1].mean(0)) / (n_pos - pos)
