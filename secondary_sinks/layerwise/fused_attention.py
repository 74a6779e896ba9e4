"""Attention of a chunk of queries without a pattern that outlives its heads: the fast path.

Heads that share a key are taken together, so that a block of scores stays in the processor's
cache, and what each key receives is summed up from it at once. The slow path, by hooks on
patterns, is the oracle (`tests/layerwise/test_fused_attention.py`).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.layerwise.attention_received import Attended
from secondary_sinks.measures import Denominator, paid_attention


class Room:
    """Room for the scores of a chunk with a text of `n_pos`, used again by chunk after chunk.

    Blocks that grow with each chunk would leave the heap full of holes.
    """

    def __init__(self, n_pos: int) -> None:
        """Nothing is taken yet."""
        self._n_pos = n_pos
        self._blocks: dict[str, Tensor] = {}

    def take(self, name: str, n_rows: int, n_keys: int, like: Tensor) -> Float[Tensor, "row key"]:
        """The room of this name, with whatever was left in it."""
        wanted = n_rows * self._n_pos
        if name not in self._blocks or len(self._blocks[name]) < wanted:
            self._blocks[name] = like.new_empty(wanted)
        return self._blocks[name][: n_rows * n_keys].view(n_rows, n_keys)


def attend(
    queries: Float[Tensor, "query head d_head"],
    keys: Float[Tensor, "key kv_head d_head"],
    values: Float[Tensor, "key kv_head d_head"],
    *,
    scale: float,
    soft_cap: float | None,
    learned_sinks: Float[Tensor, "head"] | None,
    window: int | None,
    attended: Attended,
    room: Room,
) -> Float[Tensor, "query head d_head"]:
    """Weighted values of the last queries of a text so far; `attended` learns what keys get.

    The queries stand at the last positions of `keys`, and see what is not after them and within
    their `window`.
    """
    (n_queries, n_heads, _), (n_keys, n_groups, _) = queries.shape, keys.shape
    in_group = n_heads // n_groups
    grouped = queries.unflatten(1, (n_groups, in_group)).permute(1, 2, 0, 3) * scale
    received = torch.zeros(n_keys, device=keys.device)
    paid = torch.zeros(n_queries, len(attended.watch), device=keys.device)
    parts, denominators = [], []
    for group in range(n_groups):
        asking = grouped[group].flatten(0, 1)
        scores = room.take("scores", len(asking), n_keys, asking)
        torch.matmul(asking, keys[:, group].T, out=scores)
        scores = scores if soft_cap is None else scores.div_(soft_cap).tanh_().mul_(soft_cap)
        scores = _hide(scores.view(in_group, n_queries, n_keys), window)
        if attended.wants_scores:
            denominators.append(Denominator.of(scores))
        sinks = None if learned_sinks is None else learned_sinks.view(n_groups, -1)[group]
        pattern = room.take("pattern", len(asking), n_keys, asking)
        _softmax(scores, sinks, pattern.view_as(scores))
        received += pattern.sum(0, dtype=torch.float32)
        paid += paid_attention(pattern.view_as(scores), attended.watch)
        parts.append(pattern.to(values.dtype) @ values[:, group])
    attended.add(received / n_heads)
    attended.add_paid(paid / n_groups)
    if attended.wants_scores:
        attended.add_denominator(Denominator.stack(denominators))
    return torch.stack(parts).view(n_heads, n_queries, -1).transpose(0, 1)


def _hide(
    scores: Float[Tensor, "head query key"], window: int | None
) -> Float[Tensor, "head query key"]:
    """Scores with -inf at keys after the query, and at keys out of its window; in place."""
    n_queries, n_keys = scores.shape[1:]
    at = torch.arange(n_keys - n_queries, n_keys, device=scores.device)[:, None]
    if n_queries > 1:
        ahead = torch.arange(n_keys - n_queries, n_keys, device=scores.device) > at
        scores[..., n_keys - n_queries :].masked_fill_(ahead, -torch.inf)
    if window is not None and n_keys > window:
        behind = torch.arange(n_keys - window, device=scores.device) <= at - window
        scores[..., : n_keys - window].masked_fill_(behind, -torch.inf)
    return scores


def _softmax(
    scores: Float[Tensor, "head query key"],
    learned_sinks: Float[Tensor, "head"] | None,
    out: Float[Tensor, "head query key"],
) -> None:
    """Softmax over keys into `out`; and over a learned sink where there is one."""
    if learned_sinks is None:
        torch.softmax(scores, -1, out=out)
        return
    sinks = learned_sinks.to(scores.dtype)[:, None, None].expand(-1, scores.shape[1], 1)
    out.copy_(torch.cat([scores, sinks], dim=-1).softmax(-1)[..., :-1])
