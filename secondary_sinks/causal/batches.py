"""Work in batches that fit into memory."""

from collections.abc import Callable, Sequence

import torch


def in_batches(cells: Sequence[int], size: int, run: Callable[[list[int]], None]) -> int:
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
