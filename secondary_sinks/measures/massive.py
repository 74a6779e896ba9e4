"""Massive activations: single coordinates that dwarf all others."""

from jaxtyping import Bool, Float
from torch import Tensor


def massive_activations(
    residual: Float[Tensor, "pos d"], least: float = 100.0, ratio: float = 1000.0
) -> Bool[Tensor, "pos d"]:
    """Which coordinates of a layer's states are massive, by position and axis.

    |h| > `least` and |h| > `ratio` x the median |h| of the layer, taken over all positions and
    axes (the lower of two middle values). Units are those of the residual, unprocessed weights.
    Source: Sun et al. 2024 (arXiv 2402.17762), who take 100 and 1000.

    >>> import torch
    >>> residual = torch.full((3, 4), 0.1)
    >>> residual[0, 2], residual[1, 3] = -150.0, 90.0
    >>> massive_activations(residual).nonzero().tolist()
    [[0, 2]]
    """
    size = residual.float().abs()
    return (size > least) & (size > ratio * size.median())
