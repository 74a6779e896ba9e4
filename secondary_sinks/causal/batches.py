"""Work in batches that fit into memory."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from secondary_sinks.layerwise.protocol import HookedModel

Item = TypeVar("Item")
SCORES_AT_ONCE = 1 << 24
"""Attention scores (heads x positions x replayed tokens) of one batch: bounds the memory."""


def replayed_at_once(model: HookedModel, n_pos: int) -> int:
    """How many replayed tokens make one batch; at least one."""
    return max(1, SCORES_AT_ONCE // int(model.cfg.n_heads * n_pos))


def in_batches(cells: Sequence[Item], size: int, run: Callable[[list[Item]], None]) -> int:
    """Run cells so many at a time; half as many whenever memory runs out, down to one.

    `run` must change nothing before it is done, since a batch that fails runs again in halves.
    Returns the size that worked last, to go on with. The error of a single cell is raised.
    """
    size, start = max(1, size), 0
    while start < len(cells):
        batch = list(cells[start : start + size])
        try:
            run(batch)
        except (RuntimeError, MemoryError) as error:
            if len(batch) == 1 or not _out_of_memory(error):
                raise
            size = len(batch) // 2
            continue
        start += len(batch)
    return size


def _out_of_memory(error: Exception) -> bool:
    """As torch says it: an error of its own on devices, words on the processor."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return "can't allocate memory" in str(error) or "not enough memory" in str(error)
