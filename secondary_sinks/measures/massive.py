"""Massive activations: single coordinates that are far larger than all others."""

from jaxtyping import Bool, Float
from torch import Tensor

from secondary_sinks.errors import MeasureError
from secondary_sinks.measures.axes import expect_axes
from secondary_sinks.numbers import finite_number


def massive_activations(
    residual: Float[Tensor, "pos d"], least: float = 100.0, ratio: float = 1000.0
) -> Bool[Tensor, "pos d"]:
    """Which coordinates of a layer's residual are massive, by position and axis.

    |h| > `least` and |h| > `ratio` x the median |h| over all positions and axes of the layer (the
    lower of two middle values). In units of the residual, with unprocessed weights.
    Source: Sun et al. 2024 (arXiv 2402.17762), who take 100 and 1000.

    >>> import torch
    >>> residual = torch.full((3, 4), 0.1)
    >>> residual[0, 2], residual[1, 3] = -150.0, 90.0
    >>> massive_activations(residual).nonzero().tolist()
    [[0, 2]]
    """
    expect_axes(residual, "pos d_model")
    least = finite_number("least", least, MeasureError, 0)
    ratio = finite_number("ratio", ratio, MeasureError, 0)
    size = residual.float().abs()
    return (size > least) & (size > ratio * size.median())
