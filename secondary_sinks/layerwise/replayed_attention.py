"""Attention of replayed tokens without keeping its pattern: the fast path.

Each replayed token sees the clean keys before its position, and itself. Tokens of one position see
the same clean keys, so that they need no mask, and no score is computed that a mask would hide.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from secondary_sinks.layerwise.fused_attention import in_rows
from secondary_sinks.layerwise.visibility import visible_before

IN_BLOCK = 8
"""Mean number of tokens per position from which each position is computed on its own."""
SCORES = 1 << 21
"""Attention scores that are computed at once on the processor, 8 MiB in float32: the C library
keeps blocks of that size, while each larger one comes from the kernel as empty pages."""
Rows = Float[Tensor, "kv_head in_group row d_head"]
Shared = Float[Tensor, "key kv_head d_head"]
Own = Float[Tensor, "kv_head 1 row d_head"]
Column = Float[Tensor, "kv_head in_group row 1"]


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
    if (positions.diff() < 0).any():  # in the order of positions, each block is a slice
        order = positions.argsort(stable=True)
        in_order = queries[order], (own[0][order], own[1][order]), clean, positions[order]
        limits: dict[str, Any] = {"soft_cap": soft_cap, "window": window}
        limits["learned_sinks"] = learned_sinks
        z, to_itself = attend_replayed(*in_order, scale=scale, **limits)
        back = order.argsort()
        return z[back], to_itself[back]
    z, to_itself = torch.empty_like(queries), queries.new_empty(queries.shape[:2])
    n_heads, n_groups = queries.shape[1], clean[0].shape[1]
    sinks = None if learned_sinks is None else learned_sinks.to(queries.dtype).view(n_groups, -1)
    by_kernel = soft_cap is None and queries.dtype == torch.float32 and queries.is_cpu
    most = max(1, SCORES // (n_heads * len(clean[0]))) if queries.is_cpu else len(queries)
    for rows in _blocks(positions, most):
        first, last = _seen_by(positions[rows], window)
        seen = (clean[0][first:last], clean[1][first:last])
        hidden = ~visible_before(positions[rows], last, window)[:, first:]
        own_keys, own_values = (part[rows].transpose(0, 1)[:, None] for part in own)
        grouped = queries[rows].unflatten(1, (n_groups, -1)).permute(1, 2, 0, 3) * scale
        itself = (grouped * own_keys).sum(-1, keepdim=True), own_values
        if by_kernel and last > first and not hidden.any():
            found, share = _by_kernel(grouped, seen, itself, sinks)
        else:
            found, share = _by_scores(grouped, seen, itself, sinks, hidden, soft_cap)
        z[rows] = found.flatten(0, 1).transpose(0, 1)
        to_itself[rows] = share[..., 0].flatten(0, 1).T
    return z, to_itself


def _by_scores(
    queries: Rows,
    clean: tuple[Shared, Shared],
    own: tuple[Column, Own],
    learned_sinks: Float[Tensor, "kv_head in_group"] | None,
    hidden: Bool[Tensor, "row key"],
    soft_cap: float | None,
) -> tuple[Rows, Column]:
    """Weighted values, and the attention of each token to itself, from a softmax of all scores.

    `own` are the score of each token on its own key, and its own value.
    """
    scores = queries.flatten(1, 2) @ clean[0].permute(1, 2, 0)
    scores = torch.cat([scores.view(*queries.shape[:-1], -1), own[0]], dim=-1)
    scores = scores if soft_cap is None else scores.div_(soft_cap).tanh_().mul_(soft_cap)
    scores[..., :-1].masked_fill_(hidden, -torch.inf)
    pattern = _softmax(scores, learned_sinks).to(queries.dtype)
    found = (pattern[..., :-1].flatten(1, 2) @ clean[1].transpose(0, 1)).view_as(queries)
    return found + pattern[..., -1:] * own[1], pattern[..., -1:]


def _by_kernel(
    queries: Rows,
    clean: tuple[Shared, Shared],
    own: tuple[Column, Own],
    learned_sinks: Float[Tensor, "kv_head in_group"] | None,
) -> tuple[Rows, Column]:
    """The same where every token sees every clean key, which the processor's own kernel weighs.

    The kernel also returns log denominators. Queries of the heads that share a key are one list, so
    that no key is copied.
    """
    rows = in_rows(queries.flatten(1, 2)[None])
    keys, values = (in_rows(part.transpose(0, 1)[None]) for part in clean)
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    z, log_sums = kernel(rows, keys, values, 0.0, False, scale=1.0)
    log_sums = log_sums.view_as(own[0])
    whole = log_sums.logaddexp(own[0])
    if learned_sinks is not None:
        whole = whole.logaddexp(learned_sinks[:, :, None, None])
    share = (own[0] - whole).exp()
    return z.view_as(queries) * (log_sums - whole).exp() + share * own[1], share


def _blocks(positions: Int[Tensor, "cell"], most: int) -> Iterator[slice]:
    """Rows that are computed together, `most` of them: those of each position, or all if few share.

    Rows of one position need no mask. `positions` are in order.
    """
    sizes = positions.unique_consecutive(return_counts=True)[1].tolist()
    end = 0
    for size in [len(positions)] if len(sizes) * IN_BLOCK > len(positions) else sizes:
        start, end = end, end + size
        yield from (slice(at, min(at + most, end)) for at in range(start, end, most))


def _seen_by(positions: Int[Tensor, "row"], window: int | None) -> tuple[int, int]:
    """The clean keys that any of these tokens sees: the first, and the one after the last."""
    first = 0 if window is None else max(0, int(positions.min()) - window + 1)
    return first, int(positions.max())


def _softmax(
    scores: Float[Tensor, "kv_head in_group row key"],
    learned_sinks: Float[Tensor, "kv_head in_group"] | None,
) -> Float[Tensor, "kv_head in_group row key"]:
    """Softmax over the keys, and over the learned sink if there is one."""
    if learned_sinks is None:
        return scores.softmax(-1)
    extra = learned_sinks[:, :, None, None].expand(*scores.shape[:-1], 1)
    return torch.cat([scores, extra], dim=-1).softmax(-1)[..., :-1]
