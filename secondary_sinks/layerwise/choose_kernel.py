"""Which way to compute the attention of a chunk: kernels are used where they agree and are faster.

`fused_attention.attend` is the oracle, and what is used otherwise.
"""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.layerwise.chunks import fitting_chunk
from secondary_sinks.layerwise.flash_attention import attend_flash
from secondary_sinks.layerwise.flex_attention import attend_flex
from secondary_sinks.layerwise.fused_attention import AttentionTotals, Workspace, attend

AGREES = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Largest relative difference from the oracle, which rounds each pattern to its type."""
FAILURES = (RuntimeError, NotImplementedError, AttributeError, TypeError, IndexError)
"""What a kernel raises that a device, a shape or a version of torch does not have."""

Attends = Callable[..., Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What decides which kernel is right: a device, a type of numbers, and the shape of a layer."""

    device: torch.device
    dtype: torch.dtype
    n_heads: int
    n_groups: int
    d_head: int
    soft_cap: float | None
    window: int | None
    """None where it is as long as the text."""

    @property
    def limits(self) -> dict[str, Any]:
        """Soft-cap and window, as all ways to attend take them."""
        return {"soft_cap": self.soft_cap, "window": self.window}

    @property
    def kernel(self) -> Attends:
        """The way that may be faster."""
        plain = self.soft_cap is None and self.window is None
        return attend_flash if plain else attend_flex

    def random(self, n_queries: int, n_keys: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of a random text."""
        chance = torch.Generator().manual_seed(0)
        shapes = ((n_queries, self.n_heads), (n_keys, self.n_groups), (n_keys, self.n_groups))
        drawn = (torch.randn(*shape, self.d_head, generator=chance) for shape in shapes)
        queries, keys, values = (one.to(self.device, self.dtype) for one in drawn)
        return queries, keys, values


def faster_kernel(
    queries: Float[Tensor, "query head d_head"],
    keys: Float[Tensor, "key kv_head d_head"],
    *,
    soft_cap: float | None,
    window: int | None,
    totals: AttentionTotals,
) -> Attends | None:
    """A kernel that computes this chunk as `attend` does, and faster; None if there is none.

    None for denominators in half precision: they belong to scores that are rounded to it, and a
    kernel's are not. None on the processor, where none is faster.
    """
    (n_queries, n_heads, d_head), (n_keys, n_groups, _) = queries.shape, keys.shape
    rounded = totals.wants_log_sums and queries.dtype != torch.float32
    if queries.device.type == "cpu" or rounded:
        return None
    kind = Kind(
        device=queries.device,
        dtype=queries.dtype,
        n_heads=n_heads,
        n_groups=n_groups,
        d_head=d_head,
        soft_cap=soft_cap,
        window=None if window is None or window >= n_keys else window,
    )
    sizes = map(_rounded_up, (n_queries, n_keys))
    return kind.kernel if agrees(kind) and _is_faster(kind, *sizes) else None


def _rounded_up(size: int) -> int:
    """The next power of two, so that few shapes are measured."""
    return 1 << (size - 1).bit_length()


@functools.cache
def agrees(kind: Kind) -> bool:
    """Whether a device has the kernel, and it agrees with `attend` on a small random text."""
    short = replace(kind, window=kind.window and 9)  # shorter than the text
    try:
        ours, theirs = (_outcome(one, short, 24, 40) for one in (kind.kernel, _slowly))
    except FAILURES:
        return False
    most = AGREES[kind.dtype]
    pairs = zip(ours, theirs, strict=True)
    return all(bool((a - b).abs().max() <= most * b.abs().max()) for a, b in pairs)


@functools.cache
def _is_faster(kind: Kind, n_queries: int, n_keys: int) -> bool:
    """Whether the kernel is faster at a size: measured once, the second of two calls.

    Not if either does not fit into memory there.
    """
    seconds = {}
    for attends in (kind.kernel, _slowly):
        for _ in range(2):
            start = time.perf_counter()
            try:
                _outcome(attends, kind, n_queries, n_keys)  # ends with a copy, so it waits for all
            except FAILURES:
                return False
            seconds[attends] = time.perf_counter() - start
    return seconds[kind.kernel] < seconds[_slowly]


def _slowly(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    scale: float,
    soft_cap: float | None,
    window: int | None,
    totals: AttentionTotals,
) -> Tensor:
    """The oracle, in the parts in which it runs."""
    n_keys, end, outputs = len(keys), len(keys) - len(queries), []
    space = Workspace(n_keys)
    limits: dict[str, Any] = {"soft_cap": soft_cap, "learned_sinks": None, "window": window}
    for part in queries.split(fitting_chunk(queries.shape[1], n_keys)):
        end += len(part)
        given = (part, keys[:end], values[:end])
        outputs.append(attend(*given, scale=scale, totals=totals, workspace=space, **limits))
    return torch.cat(outputs)


def _outcome(attends: Attends, kind: Kind, n_queries: int, n_keys: int) -> list[Tensor]:
    """Output, received and paid attention; in float32 log denominators too."""
    queries, keys, values = kind.random(n_queries, n_keys)
    totals = AttentionTotals(n_keys, denominators=kind.dtype == torch.float32, watch=(0, 7))
    scale = kind.d_head**-0.5
    z = attends(queries, keys, values, scale=scale, totals=totals, **kind.limits)
    sums = totals.log_sums(None)
    found = [z.float().cpu(), totals.received, totals.paid.float()]
    return found if sums is None else [*found, sums.cpu()]
