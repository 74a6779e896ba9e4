"""Norms and cosines of residuals, raw and relative to the typical token."""

from jaxtyping import Bool, Float
from torch import Tensor

ORDINARY_NORM = 2.0


def norms(vectors: Float[Tensor, "*shape d"]) -> Float[Tensor, "*shape"]:
    """Euclidean length of each vector, in float32."""
    return vectors.float().norm(dim=-1)


def alignment(
    vectors: Float[Tensor, "*shape d"], direction: Float[Tensor, "*#shape d"]
) -> Float[Tensor, "*shape"]:
    """Signed cosine with a direction, in [-1, 1]; NaN where either vector is zero.

    >>> import torch
    >>> alignment(torch.tensor([[2.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]), torch.tensor([3.0, 0.0]))
    tensor([ 1.,  0., -1.])
    """
    vectors, direction = vectors.float(), direction.float()
    product = (vectors * direction).sum(-1)
    return (product / (vectors.norm(dim=-1) * direction.norm(dim=-1))).clamp(-1, 1)


def is_ordinary(residual: Float[Tensor, "pos d"]) -> Bool[Tensor, "pos"]:
    """Positions whose norm is at most twice the median norm, which excludes massive tokens."""
    length = norms(residual)
    return length <= ORDINARY_NORM * length.median()


def typical_token(residual: Float[Tensor, "pos d"]) -> Float[Tensor, "d"]:
    """Mean residual of the ordinary positions of a text: what all its tokens have in common.

    Massive tokens are left out (`is_ordinary`): one of norm 25,000 among 500 of norm 200 would
    outweigh all others together.
    """
    return residual[is_ordinary(residual)].float().mean(0)


def centred_alignment(
    vectors: Float[Tensor, "*shape d"],
    direction: Float[Tensor, "*#shape d"],
    typical: Float[Tensor, "d"],
) -> Float[Tensor, "*shape"]:
    """Signed cosine after subtracting the typical token from both vectors, in [-1, 1].

    In an anisotropic model all residuals share a large component, so that raw cosines of ordinary
    tokens are near 1; centred cosines are near 0.

    >>> import torch
    >>> vector, direction, typical = torch.tensor([[9.0, 1.0], [9.0, 5.0], [9.0, 0.0]])
    >>> centred_alignment(vector, direction, typical)
    tensor(1.)
    """
    return alignment(vectors.float() - typical.float(), direction.float() - typical.float())


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
    size = residual.float().abs()
    return (size > least) & (size > ratio * size.median())
