"""Matrix-based entropy: the number of directions over which the states of a text spread."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.errors import MeasureError
from secondary_sinks.measures.axes import expect_axes
from secondary_sinks.measures.precision import in_float64
from secondary_sinks.numbers import whole_number


def matrix_entropy(vectors: Float[Tensor, "pos d"], alpha: float = 1.0) -> Float[Tensor, ""]:
    """Entropy of the eigenvalues of the vectors' Gram matrix, in nats, 0 to log(min(pos, d)).

    With p the eigenvalues of X X^T divided by their sum: -sum p log p (Shannon, `alpha` = 1), and
    log(sum p^alpha) / (1 - alpha) (Renyi) for any other `alpha` > 0, -log max p for infinity.
    0 if all vectors are multiples of one vector; NaN if all are zero, or a coordinate is missing
    (NaN) or infinite. The vectors are neither centred nor normalised, so one massive token makes it
    small. Computed in float64.
    Source: Giraldo et al. 2014 (arXiv 1211.2459); Skean et al. 2025 (arXiv 2502.02013).

    >>> import torch
    >>> matrix_entropy(torch.eye(4)).exp(), matrix_entropy(torch.ones(4, 4), alpha=2.0).exp()
    (tensor(4.), tensor(1.))
    """
    expect_axes(vectors, "pos d")
    return prefix_entropies(vectors, [len(vectors)], alpha)[0]


def prefix_entropies(
    vectors: Float[Tensor, "pos d"], lengths: Sequence[int], alpha: float = 1.0
) -> Float[Tensor, "length"]:
    """`matrix_entropy` of the first n vectors, for each n in `lengths`, in their order.

    X X^T [n, n] and X^T X [d, d] have the same non-zero eigenvalues, so the smaller matrix is used;
    X^T X is updated from one length to the next.

    >>> import torch
    >>> prefix_entropies(torch.eye(4), [1, 2, 4]).exp()
    tensor([1., 2., 4.])
    """
    expect_axes(vectors, "pos d")
    n_pos, d = vectors.shape
    if not lengths or min(lengths) < 1 or max(lengths) > n_pos:
        raise MeasureError(f"expected lengths from 1 to {n_pos}, got {list(lengths)}")
    lengths = [whole_number("a length", length, MeasureError) for length in lengths]
    if not alpha > 0:
        raise MeasureError(f"expected an order alpha above 0, got {alpha}")
    device, vectors, found, upto = vectors.device, in_float64(vectors), {}, 0
    second = vectors.new_zeros(d, d)
    for length in sorted(set(lengths)):
        if length <= d:
            gram = vectors[:length] @ vectors[:length].T
        else:
            second += vectors[upto:length].T @ vectors[upto:length]
            gram, upto = second, length
        found[length] = _entropy(gram, alpha)
    return torch.stack([found[length] for length in lengths]).float().to(device)


def _entropy(gram: Float[Tensor, "n n"], alpha: float) -> Float[Tensor, ""]:
    """Entropy of a Gram matrix; NaN where a vector has a missing or infinite coordinate."""
    if not bool(gram.isfinite().all()):
        return gram.new_tensor(torch.nan)
    shares = torch.linalg.eigvalsh(gram).clamp(min=0)
    shares = shares / shares.sum()
    if alpha == 1:
        return torch.special.entr(shares).sum()
    if math.isinf(alpha):
        return -shares.max().log()
    return (shares**alpha).sum().log() / (1 - alpha)
