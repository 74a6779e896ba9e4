"""Attention on a GPU without its pattern: outputs, denominators and received attention, fused.

A fused kernel also returns the log of each query's softmax denominator, `lse`. Key j receives
the sum over queries i of exp(scale * q_i k_j - lse_i). This sum is the denominator of another
softmax: queries and keys are exchanged, the order of positions is reversed, and each vector has
one more dimension, [k_j, 1] and [q_i, -lse_i / scale]. So a second call of the same kernel returns
its log. Half precision cannot hold -lse / scale in one number, so it becomes the sum of several.

For layers without soft-cap and window; the others have `flex_attention`. Whether it is used is
found out in `choose_kernel`.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.layerwise.denominators import joined, paid_to_watched
from secondary_sinks.layerwise.fused_attention import AttentionTotals, in_rows

SUMMANDS = {torch.float32: 1, torch.float16: 2, torch.bfloat16: 3}
"""Numbers of a type whose sum is as exact as float32."""


def attend_flash(
    queries: Float[Tensor, "query head d_head"],
    keys: Float[Tensor, "key kv_head d_head"],
    values: Float[Tensor, "key kv_head d_head"],
    *,
    scale: float,
    soft_cap: None = None,
    window: int | None = None,
    learned_sinks: Float[Tensor, "head"] | None = None,
    totals: AttentionTotals,
) -> Float[Tensor, "query head d_head"]:
    """What `attend` computes for the last queries of a text, in a layer without soft-cap.

    `window` is at least as long as the text, so it hides nothing.
    """
    n_earlier, in_group = len(keys) - len(queries), queries.shape[1] // keys.shape[1]
    q = queries.transpose(0, 1)
    k, v = (x.transpose(0, 1).repeat_interleave(in_group, 0) for x in (keys, values))
    earlier, own = slice(0, n_earlier), slice(n_earlier, None)
    z, lse = kernel(q, k[:, own], v[:, own], scale, causal=True)
    if n_earlier:
        z, lse = joined(z, lse, *kernel(q, k[:, earlier], v[:, earlier], scale, causal=False))
    of_keys = lse
    if learned_sinks is not None:
        z, lse = joined(z, lse, torch.zeros_like(z), learned_sinks.float()[:, None])
    if totals.wants_received:
        received = [_received(q, k[:, own], lse, scale, causal=True)]
        if n_earlier:
            received.insert(0, _received(q, k[:, earlier], lse, scale, causal=False))
        totals.add_received(torch.cat(received, dim=1).mean(0))
    if totals.wants_log_sums:
        totals.add_log_sums(of_keys)
    totals.add_paid(paid_to_watched(q, k, lse, scale=scale, watch=totals.watch))
    return z.transpose(0, 1).to(queries.dtype)


def kernel(
    q: Float[Tensor, "head query d"],
    k: Float[Tensor, "head key d"],
    v: Float[Tensor, "head key d"],
    scale: float,
    *,
    causal: bool,
) -> tuple[Float[Tensor, "head query d"], Float[Tensor, "head query"]]:
    """Weighted values in float32, and the log of the softmax denominator of each query.

    Public functions of torch do not return the second for every kernel, so these are operators
    of torch itself.
    """
    given, rest = [in_rows(x[None]) for x in (q, k, v)], {"scale": scale}
    operators: Any = torch.ops.aten
    if q.device.type == "cpu":
        z, lse = operators._scaled_dot_product_flash_attention_for_cpu(*given, 0.0, causal, **rest)
    elif q.dtype == torch.float32:
        z, lse, *_ = operators._scaled_dot_product_efficient_attention(
            *given, None, True, 0.0, causal, **rest
        )
    else:
        z, lse, *_ = operators._scaled_dot_product_flash_attention(
            *given, 0.0, causal, False, **rest
        )
    return z[0].float(), lse[0, :, : q.shape[1]].float()  # some kernels fill up to 32 queries


def _received(
    q: Float[Tensor, "head query d"],
    k: Float[Tensor, "head key d"],
    lse: Float[Tensor, "head query"],
    scale: float,
    *,
    causal: bool,
) -> Float[Tensor, "head key"]:
    """Attention that each key receives from the queries, by head."""
    lowered = _summands(-lse / scale, q.dtype)
    asked, asking = _padded(q, lowered), _padded(k, torch.ones_like(lowered[:, :1]))
    if causal:
        asked, asking = asked.flip(1), asking.flip(1)
    received = kernel(asking, asked, asked, scale, causal=causal)[1].exp()
    return received.flip(1) if causal else received


def _summands(
    numbers: Float[Tensor, "head query"], dtype: torch.dtype
) -> Float[Tensor, "head query part"]:
    """Numbers of a type whose sum is each number."""
    parts = []
    for _ in range(SUMMANDS[dtype]):
        parts.append(numbers.to(dtype))
        numbers = numbers - parts[-1].float()
    return torch.stack(parts, dim=-1)


def _padded(
    vectors: Float[Tensor, "head pos d"], further: Float[Tensor, "head #pos part"]
) -> Float[Tensor, "head pos wider"]:
    """Vectors with further dimensions, and zeros up to a multiple of eight, as kernels need it."""
    more = further.expand(-1, vectors.shape[1], -1)
    zeros = -(vectors.shape[2] + further.shape[2]) % 8
    return torch.nn.functional.pad(torch.cat([vectors, more], dim=-1), (0, zeros))
