"""Attention mass of keys, and related reductions of attention patterns.

A pattern is `[head, query, key]`, after the softmax. It may be a chunk of queries: `offset` is the
position of its first query; keys start at position 0.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.errors import MeasureError
from secondary_sinks.measures.axes import expect_axes, expect_fit
from secondary_sinks.measures.patterns import check_own_keys, check_visible, check_weights
from secondary_sinks.numbers import finite_number, whole_number

MOST_POSITIONS = 1 << 27
"""More positions than any text has; counts of all of them would take gigabytes."""


def received_attention(pattern: Float[Tensor, "*batch head query key"]) -> Float[Tensor, "key"]:
    """Attention paid to each key, summed over batch and queries, mean over heads.

    It adds up over chunks of queries, unlike `attention_mass`. Rows of `pattern` sum to 1 (to less
    in models with learned sinks), so the sum over all keys is the number of rows. Raises
    `MeasureError` for anything but attention weights.

    >>> import torch
    >>> received_attention(torch.tensor([[[1.0, 0.0], [0.25, 0.75]]])).tolist()
    [1.25, 0.75]
    """
    expect_axes(pattern, "*batch head query key")
    check_weights(pattern)
    return sum_received(pattern)


def sum_received(pattern: Float[Tensor, "*batch head query key"]) -> Float[Tensor, "key"]:
    """`received_attention` of a pattern that was checked, or computed here."""
    flat = pattern.float().reshape(-1, *pattern.shape[-3:])
    return flat.sum(dim=(0, 2)).mean(dim=0)


def paid_attention(
    pattern: Float[Tensor, "head query key"], keys: Sequence[int]
) -> Float[Tensor, "query watched"]:
    """Attention that each query pays to some keys, mean over heads, in [0, 1].

    One column per position of `keys`; 0 for positions after the last key of the pattern, which a
    chunk of earlier queries does not have. Raises `MeasureError` for positions that are no whole
    numbers from 0 on, and for anything but attention weights.

    >>> import torch
    >>> paid_attention(torch.tensor([[[1.0, 0.0], [0.25, 0.75]]]), [1]).tolist()
    [[0.0], [0.75]]
    """
    expect_axes(pattern, "head query key")
    check_weights(pattern)
    return read_paid(pattern, [whole_number("a key", key, MeasureError, 0) for key in keys])


def read_paid(
    pattern: Float[Tensor, "head query key"], keys: Sequence[int]
) -> Float[Tensor, "query watched"]:
    """`paid_attention` of a pattern that was checked, or computed here."""
    at = torch.tensor(keys, dtype=torch.long, device=pattern.device)
    last = pattern.shape[-1] - 1
    return pattern[..., at.clamp(max=last)].float().mean(0).where(at <= last, 0.0)


def seeing_queries(
    n_pos: int, window: int | None = None, *, offset: int = 0, n_queries: int | None = None
) -> Int[Tensor, "key"]:
    """Number of queries that can see each key: those from its own position on, at most `window`.

    Only the `n_queries` queries from position `offset` on are counted; by default all of them.

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

    The query at the key's own position counts. With a sliding `window`, only queries within it do.
    NaN for a key that no query of the chunk can see. Raises `MeasureError` for anything but
    attention weights, if keys of queries are missing, and if a query attends to a key that it
    cannot see: then `offset` or `window` is wrong, or attention is not causal.
    Source: alpha_k of Gu et al. 2024 (arXiv 2410.10781).

    >>> import torch
    >>> head_mass(torch.tensor([[[1.0, 0.0], [0.25, 0.75]], [[1.0, 0.0], [0.5, 0.5]]])).tolist()
    [[0.625, 0.75], [0.75, 0.5]]
    >>> head_mass(torch.tensor([[[0.25, 0.75, 0.0]]]), offset=1).tolist()
    [[0.25, 0.75, nan]]
    """
    expect_axes(pattern, "head query key")
    check_weights(pattern)
    received = pattern.float().sum(-2)
    mass = mean_over_seeing_queries(received, window, offset, pattern.shape[-2])
    check_own_keys(pattern.shape[-1], pattern.shape[-2], offset)
    check_visible(pattern, window, offset)
    return mass


def attention_mass(
    pattern: Float[Tensor, "head query key"], window: int | None = None, *, offset: int = 0
) -> Float[Tensor, "key"]:
    """Mean attention paid to each key by the queries that can see it, mean over heads, in [0, 1].

    `head_mass`, averaged over heads; see there for `window`, `offset` and errors.

    >>> import torch
    >>> attention_mass(torch.tensor([[[1.0, 0.0], [0.25, 0.75]]])).tolist()
    [0.625, 0.75]
    """
    expect_axes(pattern, "head query key")
    return head_mass(pattern, window, offset=offset).mean(0)


def uniform_mass(
    n_pos: int, window: int | None = None, *, offset: int = 0, n_queries: int | None = None
) -> Float[Tensor, "key"]:
    """Mass of each key if every query spread its attention evenly over the keys it sees, in (0, 1].

    The null of `mass_excess`: mean of 1 / (number of keys that query i sees), over the queries i
    that see the key; NaN without such a query. Queries as in `seeing_queries`.

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
    """Median mass of the keys within `reach` positions of each key, in [0, 1].

    A null that accounts for recency: queries attend to close keys, and late keys are seen by close
    queries only, which the uniform null ignores.

    >>> import torch
    >>> local_mass(torch.tensor([0.1, 0.1, 0.9, 0.2, 0.2]), reach=1).tolist()[1:3]
    [0.10000000149011612, 0.20000000298023224]
    """
    expect_axes(mass, "key")
    reach = min(whole_number("reach", reach, MeasureError, 0), max(len(mass) - 1, 0))
    padded = torch.nn.functional.pad(mass.float(), (reach, reach), value=torch.nan)
    return padded.unfold(0, 2 * reach + 1, 1).nanmedian(-1).values


def mass_excess(
    mass: Float[Tensor, "*layer key"], null: Float[Tensor, "*#layer key"]
) -> Float[Tensor, "*layer key"]:
    """Mass minus its null, in [-1, 1]; 0 for a key with its even share of attention.

    >>> import torch
    >>> mass_excess(torch.tensor([0.75, 0.5]), uniform_mass(2)).tolist()
    [0.0, 0.0]
    """
    expect_fit(mass=(mass, "*layer key"), null=(null, "*#layer key"))
    return mass - null


def virtual_mass(pattern: Float[Tensor, "head query key"]) -> Float[Tensor, "head"]:
    """Attention that no token receives, per head: mean over queries, in [0, 1] up to rounding.

    1 minus the row sums of `pattern`. It is 0 except in models with learned sinks: a score per head
    that takes part in the softmax and belongs to no token.

    >>> import torch
    >>> virtual_mass(torch.tensor([[[0.5, 0.0], [0.25, 0.5]]])).tolist()
    [0.375]
    """
    expect_axes(pattern, "head query key")
    check_weights(pattern)
    return 1 - pattern.float().sum(-1).mean(-1)


def sink_share(mass: Float[Tensor, "*layer head key"], eps: float = 0.3) -> Float[Tensor, "key"]:
    """Share of heads (and layers) whose mass on the key is above `eps`, in [0, 1].

    `mass` is `head_mass`, of one layer or stacked over layers. NaN for a key with a missing mass.
    Source: Sink^eps of Gu et al. 2024 (arXiv 2410.10781), who take eps = 0.3.

    >>> import torch
    >>> sink_share(torch.tensor([[0.9, 0.1], [0.4, 0.3], [0.2, 0.5], [0.8, 0.1]])).tolist()
    [0.75, 0.25]
    """
    expect_axes(mass, "*layer head key")
    eps = finite_number("eps", eps, MeasureError)
    flat = mass.float().reshape(-1, mass.shape[-1])
    return (flat > eps).float().where(~flat.isnan(), torch.nan).mean(0)


def mean_over_seeing_queries(
    received: Float[Tensor, "*head key"], window: int | None, offset: int, n_queries: int
) -> Float[Tensor, "*head key"]:
    """Attention summed over queries, divided by the number of queries that can see the key."""
    n_keys = received.shape[-1]
    seen = seeing_queries(n_keys, window, offset=offset, n_queries=n_queries).to(received.device)
    return received / seen


def _seen_by(
    n_pos: Any, window: Any, offset: Any, n_queries: Any
) -> tuple[Int[Tensor, "key"], Int[Tensor, "key"]]:
    """First query that sees each key, and the one after the last; equal without such a query."""
    n_pos, offset = (
        whole_number(name, given, MeasureError)
        for name, given in (("n_pos", n_pos), ("offset", offset))
    )
    window = None if window is None else whole_number("window", window, MeasureError)
    n_queries = n_pos - offset if n_queries is None else n_queries
    n_queries = whole_number("n_queries", n_queries, MeasureError)
    if max(n_pos, offset + n_queries) > MOST_POSITIONS:
        raise MeasureError(
            f"got {n_pos} keys, {n_queries} queries from position {offset} on",
            f"expected at most {MOST_POSITIONS} positions: give those of one text",
        )
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
