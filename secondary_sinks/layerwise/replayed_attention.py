"""Attention of replayed tokens without keeping its pattern: the fast path.

Each replayed token sees the clean keys before its position, and itself. Tokens of one position see
the same clean keys, so that they need no mask, and no score is computed that a mask would hide.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.layerwise.visibility import visible_before

IN_BLOCK = 8
"""Mean number of tokens per position from which each position is computed on its own."""


def attend_replayed(
    queries: Float[Tensor, "cell head d_head"],
    own: tuple[Float[Tensor, "cell kv_head d_head"], Float[Tensor, "cell kv_head d_head"]],
    clean: tuple[Float[Tensor, "pos kv_head d_head"], Float[Tensor, "pos kv_head d_head"]],
    positions: Int[Tensor, "cell"],
    *,
    scale: float,
    soft_cap: float | None,
    learned_sinks: Float[Tensor, "head"] | None,
    window: int | None,
) -> tuple[Float[Tensor, "cell head d_head"], Float[Tensor, "cell head"]]:
    """Weighted values, and the attention of each token to itself.

    `own` are keys and values of the replayed tokens, `clean` those of the text.
    """
    z, to_itself = torch.empty_like(queries), queries.new_empty(queries.shape[:2])
    n_groups = clean[0].shape[1]
    sinks = None if learned_sinks is None else learned_sinks.to(queries.dtype).view(n_groups, -1)
    for rows in _blocks(positions):
        first, last = _seen_by(positions[rows], window)
        keys, values = (part[first:last] for part in clean)
        hidden = ~visible_before(positions[rows], last, window)[:, first:]
        own_keys, own_values = (part[rows].transpose(0, 1)[:, None] for part in own)
        grouped = queries[rows].unflatten(1, (n_groups, -1)).permute(1, 2, 0, 3) * scale
        scores = _scores(grouped, keys, own_keys, soft_cap)
        if hidden.any():
            scores[..., :-1].masked_fill_(hidden, -torch.inf)
        pattern = _softmax(scores, sinks).to(values.dtype)
        found = (pattern[..., :-1].flatten(1, 2) @ values.transpose(0, 1)).view_as(grouped)
        found = found + pattern[..., -1:] * own_values
        z[rows] = found.flatten(0, 1).transpose(0, 1)
        to_itself[rows] = pattern[..., -1].flatten(0, 1).T
    return z, to_itself


def _blocks(positions: Int[Tensor, "cell"]) -> Iterator[Int[Tensor, "row"]]:
    """Rows that are computed together: those of each position, or all if few share one."""
    distinct = positions.unique()
    if len(distinct) * IN_BLOCK > len(positions):
        yield torch.arange(len(positions), device=positions.device)
        return
    for position in distinct:
        yield (positions == position).nonzero()[:, 0]


def _seen_by(positions: Int[Tensor, "row"], window: int | None) -> tuple[int, int]:
    """The clean keys that any of these tokens sees: the first, and the one after the last."""
    first = 0 if window is None else max(0, int(positions.min()) - window + 1)
    return first, int(positions.max())


def _scores(
    queries: Float[Tensor, "kv_head in_group row d_head"],
    keys: Float[Tensor, "key kv_head d_head"],
    own_keys: Float[Tensor, "kv_head 1 row d_head"],
    soft_cap: float | None,
) -> Float[Tensor, "kv_head in_group row key_and_own"]:
    """Scores on the clean keys and, in the last column, on each token's own key."""
    clean = queries.flatten(1, 2) @ keys.permute(1, 2, 0)
    own = (queries * own_keys).sum(-1, keepdim=True)
    scores = torch.cat([clean.view(*own.shape[:-1], len(keys)), own], dim=-1)
    return scores if soft_cap is None else scores.div_(soft_cap).tanh_().mul_(soft_cap)


def _softmax(
    scores: Float[Tensor, "kv_head in_group row key"],
    learned_sinks: Float[Tensor, "kv_head in_group"] | None,
) -> Float[Tensor, "kv_head in_group row key"]:
    """Softmax over the keys, and over the learned sink if there is one."""
    if learned_sinks is None:
        return scores.softmax(-1)
    extra = learned_sinks[:, :, None, None].expand(*scores.shape[:-1], 1)
    return torch.cat([scores, extra], dim=-1).softmax(-1)[..., :-1]
