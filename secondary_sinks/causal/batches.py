"""Work in batches that fit into memory."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from secondary_sinks.layerwise.protocol import HookedModel, is_bridge
from secondary_sinks.memory import is_out_of_memory

Item = TypeVar("Item")
SCORES_AT_ONCE = 1 << 24
"""Largest number of attention scores (heads x positions x replayed tokens) in one batch."""
FULL_SPEED = 1024
"""Replayed tokens in a batch on the processor: more of them are not faster."""
WITH_PATTERN = 256
"""The same where their attention patterns are computed, which are then the larger part."""


def replayed_at_once(model: HookedModel, n_pos: int, *, patterns: bool) -> int:
    """Number of replayed tokens in one batch, whose patterns are computed or not; at least one."""
    most = max(1, SCORES_AT_ONCE // int(model.cfg.n_heads * n_pos))
    if torch.device(model.cfg.device).type != "cpu":
        return most
    return min(most, WITH_PATTERN if patterns or is_bridge(model) else FULL_SPEED)


def in_batches(cells: Sequence[Item], size: int, run: Callable[[list[Item]], None]) -> int:
    """Run cells in batches of `size`; halve the size whenever memory runs out, down to one.

    `run` must change nothing before it is done, since a batch that fails runs again in halves.
    Returns the size that worked last. If a single cell does not fit, its error is raised.
    """
    size, start = max(1, size), 0
    while start < len(cells):
        batch = list(cells[start : start + size])
        try:
            run(batch)
        except (RuntimeError, MemoryError) as error:
            if len(batch) == 1 or not is_out_of_memory(error):
                raise
            size = len(batch) // 2
            continue
        start += len(batch)
    return size
