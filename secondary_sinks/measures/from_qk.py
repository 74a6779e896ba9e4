"""Attention masses from queries and keys, without an attention pattern.

For models that never build a pattern (flash attention), and for texts whose pattern does not fit in
memory. Exact: the same softmax, for a few queries at a time.
"""

from typing import Any

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.errors import MeasureError
from secondary_sinks.measures.attention import mean_over_seeing_queries
from secondary_sinks.measures.axes import expect_fit, expect_groups
from secondary_sinks.measures.patterns import check_own_keys
from secondary_sinks.numbers import finite_number, whole_number

SCORES_AT_ONCE = 1 << 24
"""Maximum number of scores (heads x queries x keys) in memory at once: 64 MiB in float32."""


def received_from_qk(
    queries: Float[Tensor, "query head d_head"],
    keys: Float[Tensor, "key kv_head d_head"],
    *,
    scale: float,
    window: int | None = None,
    offset: int = 0,
    soft_cap: float | None = None,
    learned_sinks: Float[Tensor, "head"] | None = None,
) -> Float[Tensor, "head key"]:
    """Attention paid to each key, summed over queries, per head: the column sums of the pattern.

    Queries and keys are those that enter the scores: after q/k norms and rotation. A score is
    q.k x `scale`, then `soft_cap` x tanh(score / `soft_cap`), then masked (causal, and to the
    sliding `window`); `learned_sinks` are scores that belong to no token. With grouped-query
    attention, each run of head / kv_head consecutive heads shares a key. `offset` is the position
    of the first query; keys start at position 0 and go at least to the last query. Computed in
    float32, `SCORES_AT_ONCE` scores at a time. Results add up over chunks of queries.

    >>> import torch
    >>> queries, keys = torch.zeros(2, 1, 4), torch.randn(2, 1, 4)
    >>> received_from_qk(queries, keys, scale=0.5).tolist()
    [[1.5, 0.5]]
    """
    _check_tensors(queries, keys, learned_sinks)
    _check_numbers(scale, window, offset, soft_cap)
    n_queries, n_heads, _ = queries.shape
    check_own_keys(len(keys), n_queries, offset)
    rows = max(1, SCORES_AT_ONCE // (n_heads * len(keys)))
    received = torch.zeros(n_heads, len(keys), device=queries.device)
    for start in range(0, n_queries, rows):
        part, first = queries[start : start + rows], offset + start
        oldest = 0 if window is None else max(0, first - window + 1)
        seen = slice(oldest, first + len(part))
        scores = _scores(part, keys[seen], scale, soft_cap)
        scores = scores.masked_fill(~_can_see(scores, first - oldest, window), -torch.inf)
        received[:, seen] += _softmax(scores, learned_sinks).sum(1)
    return received


def mass_from_qk(
    queries: Float[Tensor, "query head d_head"],
    keys: Float[Tensor, "key kv_head d_head"],
    *,
    scale: float,
    window: int | None = None,
    offset: int = 0,
    soft_cap: float | None = None,
    learned_sinks: Float[Tensor, "head"] | None = None,
) -> Float[Tensor, "head key"]:
    """Mean attention paid to each key by the queries that can see it, per head, in [0, 1].

    `head_mass` without a pattern; arguments as in `received_from_qk`. Its mean over heads is
    `attention_mass`.

    >>> import torch
    >>> mass_from_qk(torch.zeros(2, 1, 4), torch.randn(2, 1, 4), scale=0.5).tolist()
    [[0.75, 0.5]]
    """
    _check_tensors(queries, keys, learned_sinks)
    received = received_from_qk(
        queries,
        keys,
        scale=scale,
        window=window,
        offset=offset,
        soft_cap=soft_cap,
        learned_sinks=learned_sinks,
    )
    return mean_over_seeing_queries(received, window, offset, len(queries))


def _scores(
    queries: Float[Tensor, "query head d_head"],
    keys: Float[Tensor, "key kv_head d_head"],
    scale: float,
    soft_cap: float | None,
) -> Float[Tensor, "head query key"]:
    grouped = rearrange(queries.float(), "q (kv group) d -> kv group q d", kv=keys.shape[1])
    scores = einsum(grouped, keys.float(), "kv group q d, k kv d -> kv group q k") * scale
    if soft_cap is not None:
        scores = soft_cap * torch.tanh(scores / soft_cap)
    return rearrange(scores, "kv group q k -> (kv group) q k")


def _can_see(scores: Tensor, first: int, window: int | None) -> Tensor:
    """Which keys each query can see; the first query is at the position of key `first`."""
    n_queries, n_keys = scores.shape[-2:]
    query = torch.arange(first, first + n_queries, device=scores.device)[:, None]
    key = torch.arange(n_keys, device=scores.device)
    causal = key <= query
    return causal if window is None else causal & (key > query - window)


def _softmax(
    scores: Float[Tensor, "head query key"], learned_sinks: Float[Tensor, "head"] | None
) -> Float[Tensor, "head query key"]:
    if learned_sinks is None:
        return scores.softmax(-1)
    column = learned_sinks.float()[:, None, None].expand(-1, scores.shape[1], 1)
    return torch.cat([scores, column], dim=-1).softmax(-1)[..., :-1]


def _check_tensors(queries: Tensor, keys: Tensor, learned_sinks: Tensor | None) -> None:
    """Raise `MeasureError` for tensors that do not fit together."""
    sinks = {} if learned_sinks is None else {"learned_sinks": (learned_sinks, "head")}
    expect_fit(queries=(queries, "query head d_head"), keys=(keys, "key kv_head d_head"), **sinks)
    expect_groups(queries.shape[1], keys.shape[1], "key")


def _check_numbers(scale: Any, window: Any, offset: Any, soft_cap: Any) -> None:
    """Raise `MeasureError` for numbers out of range."""
    finite_number("scale", scale, MeasureError)
    whole_number("offset", offset, MeasureError, 0)
    if window is not None:
        whole_number("window", window, MeasureError, 1)
    if soft_cap is not None:
        finite_number("soft_cap", soft_cap, MeasureError, 0, above=True)
