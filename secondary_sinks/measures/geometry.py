"""Norms and cosines of residuals, raw and relative to the typical token."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from secondary_sinks.measures.axes import expect_axes, expect_fit

ORDINARY_NORM = 2.0


def norms(vectors: Float[Tensor, "*shape d"]) -> Float[Tensor, "*shape"]:
    """Euclidean length of each vector, in float32."""
    expect_axes(vectors, "*shape d", "vectors")
    return vectors.float().norm(dim=-1)


def alignment(
    vectors: Float[Tensor, "*shape d"], direction: Float[Tensor, "*#shape d"]
) -> Float[Tensor, "*shape"]:
    """Signed cosine with a direction, in [-1, 1]; NaN where either vector is zero.

    Raises `MeasureError` for a direction of another width.

    >>> import torch
    >>> alignment(torch.tensor([[2.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]), torch.tensor([3.0, 0.0]))
    tensor([ 1.,  0., -1.])
    """
    expect_fit(vectors=(vectors, "*shape d"), direction=(direction, "*#shape d"))
    vectors, direction = vectors.float(), direction.float()
    product = (vectors * direction).sum(-1)
    return (product / (vectors.norm(dim=-1) * direction.norm(dim=-1))).clamp(-1, 1)


def alignments(
    vectors: Float[Tensor, "pos d"], directions: Float[Tensor, "direction d"]
) -> Float[Tensor, "direction pos"]:
    """`alignment` with each of several directions, lengths computed once: the fast path.

    Sums are in another order, so that values differ from those of `alignment` by rounding. Those of
    one direction do not depend on which others are given.
    """
    vectors, directions = vectors.float(), directions.float()
    products = torch.stack([vectors @ direction for direction in directions])
    return (products / (directions.norm(dim=-1)[:, None] * vectors.norm(dim=-1))).clamp(-1, 1)


def is_ordinary(residual: Float[Tensor, "pos d"]) -> Bool[Tensor, "pos"]:
    """Positions whose norm is at most twice the median norm, which excludes massive tokens."""
    expect_axes(residual, "pos d_model")
    length = norms(residual)
    return length <= ORDINARY_NORM * length.median()


def typical_token(residual: Float[Tensor, "pos d"]) -> Float[Tensor, "d"]:
    """Mean residual of the ordinary positions of a text: what all its tokens have in common.

    Massive tokens are left out (`is_ordinary`): one of norm 25,000 among 500 of norm 200 would
    outweigh all others together.
    """
    expect_axes(residual, "pos d_model")
    return residual[is_ordinary(residual)].float().mean(0)


def norm_ratio(residual: Float[Tensor, "pos d"]) -> Float[Tensor, "pos"]:
    """Norm of each position, divided by the median norm of the text, at least 0.

    The lower of two middle norms is the median; NaN for a text of zeros.

    >>> norm_ratio(torch.tensor([[3.0, 4.0], [0.0, 5.0], [0.0, 10.0]])).tolist()
    [1.0, 1.0, 2.0]
    """
    expect_axes(residual, "pos d_model")
    return _over_median(norms(residual))


def deviation_ratio(residual: Float[Tensor, "pos d"]) -> Float[Tensor, "pos"]:
    """Distance of each position from the `typical_token` of the text, over the median distance.

    At least 0. The lower of two middle distances is the median; NaN where it is 0 and so is the
    distance. `Trace.deviation_ratio` is this of each layer.

    >>> deviation_ratio(torch.tensor([[3.0, 0.0], [3.0, 2.0], [3.0, 1.0], [9.0, 1.0]])).tolist()
    [1.0, 1.0, 0.0, 6.0]
    """
    expect_axes(residual, "pos d_model")
    return _over_median(norms(residual.float() - typical_token(residual)))


def _over_median(lengths: Float[Tensor, "pos"]) -> Float[Tensor, "pos"]:
    return lengths / lengths.median()


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
    expect_fit(
        vectors=(vectors, "*shape d"), direction=(direction, "*#shape d"), typical=(typical, "d")
    )
    return alignment(vectors.float() - typical.float(), direction.float() - typical.float())
