"""What follows from the log softmax denominators of queries, without their pattern."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.layerwise.visibility import sees


def joined(
    z: Float[Tensor, "head query d"],
    lse: Float[Tensor, "head query"],
    other_z: Float[Tensor, "head query d"],
    other_lse: Float[Tensor, "head #query"],
) -> tuple[Float[Tensor, "head query d"], Float[Tensor, "head query"]]:
    """Weighted values and log denominators on the keys of both, from those on each part."""
    both = torch.logaddexp(lse, other_lse)
    shares = ((part - both).exp()[..., None] for part in (lse, other_lse))
    return z * next(shares) + other_z * next(shares), both


def paid_to_watched(
    q: Float[Tensor, "head query d"],
    k: Float[Tensor, "head key d"],
    lse: Float[Tensor, "head query"],
    *,
    scale: float,
    soft_cap: float | None = None,
    window: int | None = None,
    watch: Sequence[int],
) -> Float[Tensor, "query watch"]:
    """Attention that the last queries of a text pay to the watched keys, mean over heads."""
    n_queries, n_keys = q.shape[1], k.shape[1]
    at = torch.tensor(watch, dtype=torch.long, device=q.device)
    scores = scale * q.float() @ k[:, at.clamp(max=n_keys - 1)].float().transpose(1, 2)
    if soft_cap is not None:
        scores = (scores / soft_cap).tanh() * soft_cap
    position = torch.arange(n_keys - n_queries, n_keys, device=q.device)
    return (scores - lse[..., None]).exp().mean(0).where(sees(position, at, window), 0.0)
