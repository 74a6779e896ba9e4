"""Attention on a GPU without its pattern, for layers with a sliding window or a soft-cap.

torch compiles a kernel for a rule on scores (the soft-cap) and a rule on places (the window), which
also returns the log of each query's softmax denominator, `lse`. As in `flash_attention`, a second
call with queries and keys exchanged gives the attention that each key receives; here the rule on
scores subtracts `lse`, in float32. Sizes of text and window are tensors, since a number that
changes would have the kernel compiled again.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import flex_attention as flex

from secondary_sinks.layerwise.denominators import joined, paid_to_watched
from secondary_sinks.layerwise.fused_attention import AttentionTotals

KERNELS = 64
"""Most kernels that are compiled; with more, torch would go back to the slow way."""

Capped = Callable[[Tensor], Tensor]
Places = Callable[[Tensor, Tensor], Tensor]
"""Whether a query sees a key, from the index of the query in the chunk and that of the key."""


def attend_flex(
    queries: Float[Tensor, "query head d_head"],
    keys: Float[Tensor, "key kv_head d_head"],
    values: Float[Tensor, "key kv_head d_head"],
    *,
    scale: float,
    soft_cap: float | None = None,
    window: int | None = None,
    learned_sinks: Float[Tensor, "head"] | None = None,
    totals: AttentionTotals,
) -> Float[Tensor, "query head d_head"]:
    """What `attend` computes for the last queries of a text."""
    in_group = queries.shape[1] // keys.shape[1]
    q = queries.transpose(0, 1)
    k, v = (x.transpose(0, 1).repeat_interleave(in_group, 0) for x in (keys, values))
    capped, sees = _capped(soft_cap, q.device), _sees(len(queries), len(keys), window, q.device)
    z, lse = _kernel(q, k, v, scale, lambda s, text, head, query, key: capped(s), sees)
    of_keys = lse
    if learned_sinks is not None:
        z, lse = joined(z, lse, torch.zeros_like(z), learned_sinks.float()[:, None])
    if totals.wants_received:
        exchanged = (
            lambda s, text, head, key, query: capped(s) - lse[head, query],
            lambda key, query: sees(query, key),
        )
        totals.add_received(_kernel(k, q, q, scale, *exchanged)[1].exp().mean(0))
    if totals.wants_log_sums:
        totals.add_log_sums(of_keys)
    limits: dict[str, Any] = {"soft_cap": soft_cap, "window": window}
    totals.add_paid(paid_to_watched(q, k, lse, scale=scale, watch=totals.watch, **limits))
    return z.transpose(0, 1).to(queries.dtype)


def _capped(soft_cap: float | None, device: torch.device) -> Capped:
    """The rule on scores."""
    if soft_cap is None:
        return lambda score: score
    cap = torch.tensor(soft_cap, device=device)
    return lambda score: cap * torch.tanh(score / cap)


def _sees(n_queries: int, n_keys: int, window: int | None, device: torch.device) -> Places:
    """The rule on places: a key is not after the query, and within its window."""
    limits = (n_keys - n_queries, n_keys if window is None else window)
    first, reach = (torch.tensor(limit, device=device) for limit in limits)
    return lambda query, key: (key <= query + first) & (query + first - key < reach)


def _kernel(
    rows: Float[Tensor, "head row d"],
    columns: Float[Tensor, "head column d"],
    values: Float[Tensor, "head column d"],
    scale: float,
    rule: Callable[..., Tensor],
    sees: Places,
) -> tuple[Float[Tensor, "head row d"], Float[Tensor, "head row"]]:
    """Weighted values in float32, and the log of the softmax denominator of each row.

    torch counts the arguments of a rule, so rules are lambdas, which no decorator wraps.
    """
    blocks = flex.create_block_mask(
        lambda text, head, row, column: sees(row, column),
        *(None, None, rows.shape[1], columns.shape[1]),
        device=rows.device,
    )
    given = (rows[None], columns[None], values[None])
    asked = {"scale": scale, "return_aux": flex.AuxRequest(lse=True)}
    z, more = _compiled(rows.device.type)(*given, score_mod=rule, block_mask=blocks, **asked)
    return z[0].float(), more.lse[0].float()


@functools.cache
def _compiled(device: str) -> Callable[..., Any]:
    """flex attention of a kind of device. One kernel is compiled for each type and pair of rules.

    Kernels of the processor return no `lse`. There it is computed plainly, for tests.
    """
    backend = "eager" if device == "cpu" else "inductor"
    compiled = torch.compile(flex.flex_attention, dynamic=True, backend=backend)
    return torch._dynamo.config.patch(recompile_limit=KERNELS)(compiled)
