"""How much attention a key receives: reductions of attention patterns.

A pattern is `[head, query, key]`, after the softmax. It may be any chunk of queries: `offset` is
the position of its first query; keys start at position 0.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.errors import MeasureError


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


def paid_attention(
    pattern: Float[Tensor, "head query key"], keys: Sequence[int]
) -> Float[Tensor, "query watched"]:
    """Attention that each query pays to some keys, mean over heads, in [0, 1].

    One column per position of `keys`; 0 for one that is not among the keys of the pattern, which
    chunks of queries before it don't have.

    >>> import torch
    >>> paid_attention(torch.tensor([[[1.0, 0.0], [0.25, 0.75]]]), [1]).tolist()
    [[0.0], [0.75]]
    """
    at = torch.tensor(keys, dtype=torch.long, device=pattern.device)
    last = pattern.shape[-1] - 1
    return pattern[..., at.clamp(max=last)].float().mean(0).where(at <= last, 0.0)


def seeing_queries(
    n_pos: int, window: int | None = None, *, offset: int = 0, n_queries: int | None = None
) -> Int[Tensor, "key"]:
    """Number of queries that can see each key: all from its own position on, at most `window`.

    Counted are the `n_queries` queries from position `offset` on; by default all that there are.

    >>> seeing_queries(4).tolist(), seeing_queries(4, window=2).tolist()
    ([4, 3, 2, 1], [2, 2, 2, 1])
    >>> seeing_queries(4, window=2, offset=2).tolist()
    [0, 1, 2, 1]
    """
    first, past = _seen_by(n_pos, window, offset, n_queries)
    return past - first


def head_mass(
    pattern: Float[Tensor, "head query key"], window: int | None = None, *, offset: int = 0
) -> Float[Tensor, "head key"]:
    """Mean attention paid to each key by the queries that can see it, per head, in [0, 1].

    The query at the key itself counts. With a sliding `window` only the queries within it count.
    NaN for a key that no query of the chunk can see; such a key must not receive anything
    (`MeasureError`: the offset or the window is wrong).
    Source: alpha_k of Gu et al. 2024 (arXiv 2410.10781).

    >>> import torch
    >>> head_mass(torch.tensor([[[1.0, 0.0], [0.25, 0.75]], [[1.0, 0.0], [0.5, 0.5]]])).tolist()
    [[0.625, 0.75], [0.75, 0.5]]
    >>> head_mass(torch.tensor([[[0.25, 0.75, 0.0]]]), offset=1).tolist()
    [[0.25, 0.75, nan]]
    """
    return mean_over_seeing(pattern.float().sum(-2), window, offset, pattern.shape[-2])


def attention_mass(
    pattern: Float[Tensor, "head query key"], window: int | None = None, *, offset: int = 0
) -> Float[Tensor, "key"]:
    """Mean attention paid to each key by the queries that can see it, mean over heads, in [0, 1].

    `head_mass`, averaged over heads; see there for `window`, `offset` and errors.

    >>> import torch
    >>> attention_mass(torch.tensor([[[1.0, 0.0], [0.25, 0.75]]])).tolist()
    [0.625, 0.75]
    """
    return head_mass(pattern, window, offset=offset).mean(0)


def uniform_mass(
    n_pos: int, window: int | None = None, *, offset: int = 0, n_queries: int | None = None
) -> Float[Tensor, "key"]:
    """Mass of each key if every query spread its attention evenly over what it sees, in (0, 1].

    The null of `mass_excess`: the mean over the queries i that see key k of 1 / (keys i sees);
    NaN where none does. Queries as in `seeing_queries`.

    >>> uniform_mass(2).tolist()
    [0.75, 0.5]
    >>> uniform_mass(4, window=2, offset=2).tolist()
    [nan, 0.5, 0.5, 0.5]
    """
    first, past = _seen_by(n_pos, window, offset, n_queries)
    seen = torch.arange(1, int(past.max()) + 1)
    share = 1.0 / (seen if window is None else seen.clamp(max=window)).double()
    total = torch.nn.functional.pad(share.cumsum(0), (1, 0))
    return ((total[past] - total[first]) / (past - first)).float()


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
    """Mass beyond the uniform null, in [-1, 1]; 0 for a key that is attended like any other.

    >>> import torch
    >>> mass_excess(torch.tensor([0.75, 0.5]), uniform_mass(2)).tolist()
    [0.0, 0.0]
    """
    return mass - null


def virtual_mass(pattern: Float[Tensor, "head query key"]) -> Float[Tensor, "head"]:
    """Attention that goes to no token, mean over queries, per head, in [0, 1] up to rounding.

    It is what rows of `pattern` lack to 1. Learned sinks (a score per head that takes part in the
    softmax and belongs to no token) are the reason; without them it is 0.

    >>> import torch
    >>> virtual_mass(torch.tensor([[[0.5, 0.0], [0.25, 0.5]]])).tolist()
    [0.375]
    """
    return 1 - pattern.float().sum(-1).mean(-1)


def sink_share(mass: Float[Tensor, "*layer head key"], eps: float = 0.3) -> Float[Tensor, "key"]:
    """Share of heads (and layers) whose mass on the key is greater than `eps`, in [0, 1].

    `mass` is `head_mass`, stacked over layers or of one layer. NaN where any of it is missing.
    Source: Sink^eps of Gu et al. 2024 (arXiv 2410.10781), who take eps = 0.3.

    >>> import torch
    >>> sink_share(torch.tensor([[0.9, 0.1], [0.4, 0.3], [0.2, 0.5], [0.8, 0.1]])).tolist()
    [0.75, 0.25]
    """
    flat = mass.float().reshape(-1, mass.shape[-1])
    return (flat > eps).float().where(~flat.isnan(), torch.nan).mean(0)


def mean_over_seeing(
    received: Float[Tensor, "*head key"], window: int | None, offset: int, n_queries: int
) -> Float[Tensor, "*head key"]:
    """Attention received, summed over queries -> mean over those that can see the key.

    Raises `MeasureError` where a key receives attention that no query can see.
    """
    n_keys = received.shape[-1]
    seen = seeing_queries(n_keys, window, offset=offset, n_queries=n_queries).to(received.device)
    impossible = (received.reshape(-1, n_keys) * (seen == 0)).amax(0)
    if impossible.amax() > 0:
        raise MeasureError(
            f"key {int(impossible.argmax())} receives attention, but no query from position "
            f"{offset} to {offset + n_queries - 1} can see it with window={window}; "
            "say offset= (position of the first query) and window= as they are"
        )
    return received / seen


def _seen_by(
    n_pos: int, window: int | None, offset: int, n_queries: int | None
) -> tuple[Int[Tensor, "key"], Int[Tensor, "key"]]:
    """First query that sees each key, and the one past the last; equal where there is none."""
    n_queries = n_pos - offset if n_queries is None else n_queries
    if n_pos < 1 or offset < 0 or n_queries < 1 or (window is not None and window < 1):
        raise MeasureError(
            f"expected keys and queries at positions from 0 on and a window of at least 1; got "
            f"{n_pos} keys, {n_queries} queries from position {offset} on, window={window}"
        )
    key = torch.arange(n_pos)
    past = torch.full_like(key, offset + n_queries)
    if window is not None:
        past = past.minimum(key + window)
    return key.clamp(min=offset).minimum(past), past
