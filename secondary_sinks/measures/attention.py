"""How much attention a key receives: reductions of attention patterns and scores."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def received_attention(pattern: Float[Tensor, "*batch head query key"]) -> Float[Tensor, "key"]:
    """Attention paid to each key, summed over batch and queries, mean over heads.

    The part of `attention_mass` that adds up over chunks of queries: rows of `pattern` sum to 1
    (to less where a model has learned sinks), so over all keys it sums to the number of rows.

    >>> import torch
    >>> received_attention(torch.tensor([[[1.0, 0.0], [0.25, 0.75]]])).tolist()
    [1.25, 0.75]
    """
    flat = pattern.float().reshape(-1, *pattern.shape[-3:])
    return flat.sum(dim=(0, 2)).mean(dim=0)


def seeing_queries(n_pos: int, window: int | None = None) -> Int[Tensor, "key"]:
    """Number of queries that can see each key: all from its own position on, at most `window`.

    >>> seeing_queries(4).tolist(), seeing_queries(4, window=2).tolist()
    ([4, 3, 2, 1], [2, 2, 2, 1])
    """
    later = torch.arange(n_pos, 0, -1)
    return later if window is None else later.clamp(max=window)


def attention_mass(
    pattern: Float[Tensor, "head query key"], window: int | None = None
) -> Float[Tensor, "key"]:
    """Mean attention paid to each key by the queries that can see it, mean over heads, in [0, 1].

    `pattern` is one full square pattern; the query at the key itself counts. With a sliding
    `window` only the queries within it count.
    Source: alpha_k of Gu et al. 2024 (arXiv 2410.10781), averaged over heads.

    >>> import torch
    >>> attention_mass(torch.tensor([[[1.0, 0.0], [0.25, 0.75]]])).tolist()
    [0.625, 0.75]
    """
    return received_attention(pattern) / seeing_queries(pattern.shape[-1], window)


def uniform_mass(n_pos: int, window: int | None = None) -> Float[Tensor, "key"]:
    """Mass of each key if every query spread its attention evenly over what it sees.

    The null of `mass_excess`: the mean over the queries i that see key k of 1 / (keys i sees).

    >>> uniform_mass(2).tolist()
    [0.75, 0.5]
    """
    seen = torch.arange(1, n_pos + 1)
    share = 1.0 / (seen if window is None else seen.clamp(max=window)).double()
    total = torch.cat([torch.zeros(1, dtype=torch.float64), share.cumsum(0)])
    queries = seeing_queries(n_pos, window)
    first = torch.arange(n_pos)
    return ((total[first + queries] - total[first]) / queries).float()


def local_mass(mass: Float[Tensor, "key"], reach: int = 16) -> Float[Tensor, "key"]:
    """Median mass of the keys within `reach` positions of each: what a key there usually gets.

    Queries attend to what is close to them whatever it says, and late keys are seen by close
    queries only. The uniform null does not know that; the neighbours do.

    >>> import torch
    >>> local_mass(torch.tensor([0.1, 0.1, 0.9, 0.2, 0.2]), reach=1).tolist()[1:3]
    [0.10000000149011612, 0.20000000298023224]
    """
    padded = torch.nn.functional.pad(mass.float(), (reach, reach), value=torch.nan)
    return padded.unfold(0, 2 * reach + 1, 1).nanmedian(-1).values


def mass_excess(
    mass: Float[Tensor, "*layer key"], null: Float[Tensor, "*#layer key"]
) -> Float[Tensor, "*layer key"]:
    """Mass beyond the uniform null, in [-1, 1]; 0 for a key that is attended like any other."""
    return mass - null
