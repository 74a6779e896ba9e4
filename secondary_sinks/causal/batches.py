"""Work in batches that fit into memory."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.memory import is_out_of_memory

Item = TypeVar("Item")
SCORES_AT_ONCE = 1 << 24
"""Largest number of attention scores (heads x positions x replayed tokens) in one batch."""
FEW_SCORES = 1 << 21
"""The same on the processor, 8 MiB in float32: the C library keeps blocks of that size, while each
larger one comes from the kernel as empty pages."""
FULL_SPEED = 256
"""Replayed tokens in a batch from which on matrix products run at full speed."""


def replayed_at_once(model: HookedModel, n_pos: int) -> int:
    """Number of replayed tokens in one batch; at least one."""
    each = int(model.cfg.n_heads * n_pos)
    most = max(1, SCORES_AT_ONCE // each)
    on_processor = torch.device(model.cfg.device).type == "cpu"
    return min(most, max(FULL_SPEED, FEW_SCORES // each)) if on_processor else most


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
