"""The axes of a measure's tensors: those of one text, never a batch."""

from torch import Tensor

from secondary_sinks.errors import MeasureError


def expect_axes(given: Tensor, axes: str) -> None:
    """Raise `MeasureError` unless a tensor has as many axes as named; a batch would be averaged.

    >>> import torch
    >>> expect_axes(torch.zeros(5, 2, 3, 3), "head query key")
    Traceback (most recent call last):
    secondary_sinks.errors.MeasureError: got a tensor of shape [5, 2, 3, 3]; expected the axes \
[head query key] of one text: measure one text of a batch at a time
    """
    n = len(axes.split())
    if given.ndim != n:
        batch = ": measure one text of a batch at a time" if given.ndim == n + 1 else ""
        raise MeasureError(
            f"got a tensor of shape {list(given.shape)}",
            f"expected the axes [{axes}] of one text{batch}",
        )
