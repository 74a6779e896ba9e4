"""Attention on a GPU without its pattern: outputs, denominators and received attention, fused.

A fused kernel also returns the log of each query's softmax denominator, `lse`. Key j receives
the sum over queries i of exp(scale * q_i k_j - lse_i). This sum is the denominator of another
softmax: queries and keys are exchanged, the order of positions is reversed, and each vector has
one more dimension, [k_j, 1] and [q_i, -lse_i / scale]. So a second call of the same kernel returns
its log. Half precision cannot hold -lse / scale in one number, so it becomes the sum of several.

`fused_attention.attend` is the oracle. A kernel is used only if it agrees with it on this device,
and only where it is faster (`is_better`). On the processor it is not.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.layerwise.chunks import fitting_chunk
from secondary_sinks.layerwise.fused_attention import AttentionTotals, Workspace, attend

SUMMANDS = {torch.float32: 1, torch.float16: 2, torch.bfloat16: 3}
"""Numbers of a type whose sum is as exact as float32."""
AGREES = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Largest relative difference from the oracle, which rounds each pattern to its type."""
FAILURES = (RuntimeError, NotImplementedError, AttributeError, TypeError, IndexError)
"""What a kernel raises that a device, a shape or a version of torch does not have."""


def is_better(
    queries: Float[Tensor, "query head d_head"],
    keys: Float[Tensor, "key kv_head d_head"],
    *,
    soft_cap: float | None,
    window: int | None,
    totals: AttentionTotals,
) -> bool:
    """Whether `attend_flash` computes this chunk, and faster than `attend`.

    Not with a soft-cap or a window within the text. Not for denominators in half precision either:
    they belong to scores that are rounded to it, and a kernel's are not. Never on the processor,
    where it is not faster: so a pass gives the same bits whatever else it is asked for.
    """
    (n_queries, n_heads, d_head), (n_keys, n_groups, _) = queries.shape, keys.shape
    windowed = window is not None and window < n_keys
    rounded = totals.wants_log_sums and queries.dtype != torch.float32
    if queries.device.type == "cpu" or soft_cap is not None or windowed or rounded:
        return False
    shape = (queries.device, queries.dtype, n_heads, n_groups, d_head)
    return agrees(*shape) and _is_faster(*shape, *map(_rounded_up, (n_queries, n_keys)))


def _rounded_up(size: int) -> int:
    """The next power of two, so that few shapes are measured."""
    return 1 << (size - 1).bit_length()


def attend_flash(
    queries: Float[Tensor, "query head d_head"],
    keys: Float[Tensor, "key kv_head d_head"],
    values: Float[Tensor, "key kv_head d_head"],
    *,
    scale: float,
    learned_sinks: Float[Tensor, "head"] | None = None,
    totals: AttentionTotals,
) -> Float[Tensor, "query head d_head"]:
    """What `attend` computes for the last queries of a text, without soft-cap and window."""
    n_earlier, in_group = len(keys) - len(queries), queries.shape[1] // keys.shape[1]
    q = queries.transpose(0, 1)
    k, v = (x.transpose(0, 1).repeat_interleave(in_group, 0) for x in (keys, values))
    earlier, own = slice(0, n_earlier), slice(n_earlier, None)
    z, lse = kernel(q, k[:, own], v[:, own], scale, causal=True)
    if n_earlier:
        z, lse = _joined(z, lse, *kernel(q, k[:, earlier], v[:, earlier], scale, causal=False))
    of_keys = lse
    if learned_sinks is not None:
        z, lse = _joined(z, lse, torch.zeros_like(z), learned_sinks.float()[:, None])
    if totals.wants_received:
        received = [_received(q, k[:, own], lse, scale, causal=True)]
        if n_earlier:
            received.insert(0, _received(q, k[:, earlier], lse, scale, causal=False))
        totals.add_received(torch.cat(received, dim=1).mean(0))
    if totals.wants_log_sums:
        totals.add_log_sums(of_keys)
    totals.add_paid(_paid(q, k, lse, scale, totals.watch))
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
    given, rest = (q[None], k[None], v[None]), {"scale": scale}
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


def _joined(
    z: Float[Tensor, "head query d"],
    lse: Float[Tensor, "head query"],
    other_z: Float[Tensor, "head query d"],
    other_lse: Float[Tensor, "head #query"],
) -> tuple[Float[Tensor, "head query d"], Float[Tensor, "head query"]]:
    """Attention on the keys of both."""
    both = torch.logaddexp(lse, other_lse)
    shares = ((part - both).exp()[..., None] for part in (lse, other_lse))
    return z * next(shares) + other_z * next(shares), both


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


def _paid(
    q: Float[Tensor, "head query d"],
    k: Float[Tensor, "head key d"],
    lse: Float[Tensor, "head query"],
    scale: float,
    watch: tuple[int, ...],
) -> Float[Tensor, "query watch"]:
    """Attention that each query pays to the watched keys, mean over heads."""
    n_queries, n_keys = q.shape[1], k.shape[1]
    at = torch.tensor(watch, dtype=torch.long, device=q.device)
    watched = k[:, at.clamp(max=n_keys - 1)].float()
    scores = scale * q.float() @ watched.transpose(1, 2)
    position = torch.arange(n_keys - n_queries, n_keys, device=q.device)[:, None]
    return (scores - lse[..., None]).exp().mean(0).where(at <= position, 0.0)


@functools.cache
def agrees(
    device: torch.device, dtype: torch.dtype, n_heads: int, n_groups: int, d_head: int
) -> bool:
    """Whether a device has a kernel that agrees with `attend` on a small random text."""
    drawn = _random(device, dtype, n_heads, n_groups, d_head, 24, 40)
    try:
        ours, theirs = _outcome(attend_flash, *drawn), _outcome(_slowly, *drawn)
    except FAILURES:
        return False
    pairs = zip(ours, theirs, strict=True)
    return all(bool((a - b).abs().max() <= AGREES[dtype] * b.abs().max()) for a, b in pairs)


Attends = Callable[..., Tensor]


def _slowly(
    queries: Tensor, keys: Tensor, values: Tensor, *, scale: float, totals: AttentionTotals
) -> Tensor:
    """The oracle, in the parts in which it runs."""
    n_keys, end, outputs = len(keys), len(keys) - len(queries), []
    space = Workspace(n_keys)
    limits: dict[str, Any] = {"soft_cap": None, "learned_sinks": None, "window": None}
    for part in queries.split(fitting_chunk(queries.shape[1], n_keys)):
        end += len(part)
        given = (part, keys[:end], values[:end])
        outputs.append(attend(*given, scale=scale, totals=totals, workspace=space, **limits))
    return torch.cat(outputs)


def _outcome(attends: Attends, queries: Tensor, keys: Tensor, values: Tensor) -> list[Tensor]:
    """Output, received and paid attention; in float32 log denominators too."""
    totals = AttentionTotals(len(keys), denominators=keys.dtype == torch.float32, watch=(0, 7))
    scale = queries.shape[-1] ** -0.5
    z = attends(queries, keys, values, scale=scale, totals=totals)
    sums = totals.log_sums(None)
    found = [z.float().cpu(), totals.received, totals.paid.float()]
    return found if sums is None else [*found, sums.cpu()]


@functools.cache
def _is_faster(
    device: torch.device,
    dtype: torch.dtype,
    n_heads: int,
    n_groups: int,
    d_head: int,
    n_queries: int,
    n_keys: int,
) -> bool:
    """Whether the kernel is faster at a shape: measured once, the second of two calls.

    Not if either does not fit into memory there.
    """
    drawn = _random(device, dtype, n_heads, n_groups, d_head, n_queries, n_keys)
    seconds = {}
    for attends in (attend_flash, _slowly):
        for _ in range(2):
            start = time.perf_counter()
            try:
                _outcome(attends, *drawn)  # ends with a copy from the device, so it waits for it
            except FAILURES:
                return False
            seconds[attends] = time.perf_counter() - start
    return seconds[attend_flash] < seconds[_slowly]


def _random(
    device: torch.device,
    dtype: torch.dtype,
    n_heads: int,
    n_groups: int,
    d_head: int,
    n_queries: int,
    n_keys: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of a random text."""
    chance = torch.Generator().manual_seed(0)
    shapes = ((n_queries, n_heads), (n_keys, n_groups), (n_keys, n_groups))
    drawn = (torch.randn(*shape, d_head, generator=chance).to(device, dtype) for shape in shapes)
    queries, keys, values = drawn
    return queries, keys, values
