"""Attention that later queries pay to each key, head by head, from patterns chunk by chunk."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from secondary_sinks.layerwise.protocol import Hook
from secondary_sinks.measures import local_mass, seeing_queries, uniform_mass
from secondary_sinks.measures.hook_names import hook_name
from secondary_sinks.types import Thresholds

ALL = -1
"""A position before all others: every query comes after it."""


class LaterAttention:
    """Attention of one layer by head: summed by key, and query by query for the watched keys.

    Only queries after the key count: what a token pays to itself does not. Memory grows with heads
    x keys and with heads x queries x watched keys, not with queries x keys.
    """

    def __init__(
        self, n_pos: int, watch: Sequence[int] = (), after: Sequence[int] = (ALL,)
    ) -> None:
        """Nothing has been seen yet; `watch` are positions of keys, `after` positions of tokens."""
        self.n_pos, self.watch = n_pos, torch.tensor(watch, dtype=torch.long)
        self.received_after: dict[int, Float[Tensor, "head key"]] = {}
        """Attention that each key gets from the queries after a token: summed, in float64."""
        self._after = after
        self._done = 0
        self._paid: list[Tensor] = []

    def hook(self, layer: int) -> Hook:
        """The hook on the pattern of a layer."""
        return hook_name(layer, "pattern"), self._see

    def _see(self, pattern: Float[Tensor, "1 head query key"], hook: Any) -> None:
        first, others = self._done, pattern[0].float().clone()
        self._done += others.shape[1]
        queries = torch.arange(first, self._done, device=others.device)
        others[:, queries - first, queries] = 0.0
        for pos in self._after:  # added up on the CPU: some devices have no float64
            later = others[:, max(0, pos + 1 - first) :].sum(1).cpu().double()
            empty = torch.zeros(len(later), self.n_pos, dtype=torch.float64)
            self.received_after.setdefault(pos, empty)[:, : later.shape[1]] += later
        keys = self.watch.to(others.device)
        paid = others[..., keys.clamp(max=others.shape[2] - 1)]
        self._paid.append(paid.where(queries[:, None] > keys, 0.0).cpu())

    @property
    def received(self) -> Float[Tensor, "head key"]:
        """Attention that each key gets from later queries: summed over them, in float32."""
        return self.received_after[ALL].float()

    @property
    def paid(self) -> Float[Tensor, "head query watch"]:
        """Attention of each query to the watched keys; 0 for a query that is not after the key."""
        return torch.cat(self._paid, dim=1)


def later_queries(n_pos: int, window: int | None) -> Int[Tensor, "key"]:
    """Number of queries after each key that see it.

    >>> later_queries(4, None).tolist(), later_queries(4, 2).tolist()
    ([3, 2, 1, 0], [1, 1, 1, 0])
    """
    return seeing_queries(n_pos, window) - 1


def even_share(n_pos: int, window: int | None) -> Float[Tensor, "key"]:
    """Mean attention to each key if later queries spread theirs evenly; NaN without such a query.

    `uniform_mass` without the query at the key itself.

    >>> [round(share, 4) for share in even_share(3, None).tolist()]
    [0.4167, 0.3333, nan]
    """
    seen, own = seeing_queries(n_pos, window), torch.arange(1, n_pos + 1)
    own = own if window is None else own.clamp(max=window)
    later = uniform_mass(n_pos, window).double() * seen - 1.0 / own.double()
    return (later / later_queries(n_pos, window).double()).where(seen > 1, torch.nan).float()


def later_mass(
    received: Float[Tensor, "head key"], window: int | None
) -> Float[Tensor, "head key"]:
    """Mean attention of the later queries that see a key, per head; NaN without such a query."""
    queries = later_queries(received.shape[1], window)
    return (received / queries).where(queries > 0, torch.nan)


def reads(
    mass: Float[Tensor, "head key"], window: int | None, thresholds: Thresholds
) -> Bool[Tensor, "head key"]:
    """Whether a head reads a key: the test of detection for attention, applied to a single head.

    The mean attention of later queries is at least `attended` times the even share, and as many
    times the median of the keys within 16 positions in the same head; at least `min_queries` later
    queries see the key.
    """
    n_pos = mass.shape[1]
    local = torch.stack([local_mass(row) for row in mass])
    expected = torch.maximum(even_share(n_pos, window), local)
    enough = later_queries(n_pos, window) >= thresholds.min_queries
    return (mass >= thresholds.attended * expected) & enough
