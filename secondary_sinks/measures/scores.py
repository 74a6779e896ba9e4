"""Attention scores before the softmax."""

import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.errors import MeasureError
from secondary_sinks.measures.attention import seeing_queries
from secondary_sinks.measures.axes import expect_fit, expect_groups
from secondary_sinks.measures.precision import in_float64
from secondary_sinks.numbers import finite_number


def mean_score(
    queries: Float[Tensor, "pos head d_head"],
    keys: Float[Tensor, "pos kv_head d_head"],
    scale: float,
    window: int | None = None,
) -> Float[Tensor, "pos"]:
    """Mean attention score q.k x `scale` of each key, over heads and the queries that can see it.

    Before soft-cap, mask and softmax; any real number, of which only differences between keys
    matter. Queries and keys are those that enter the scores, after q/k norms and rotation. With
    grouped-query attention, each run of head / kv_head consecutive heads shares a key. Scores are
    linear in q, so it is computed exactly from sums of queries, without any matrix of scores.

    >>> import torch
    >>> queries, keys = torch.tensor([[[1.0]], [[3.0]]]), torch.tensor([[[2.0]], [[5.0]]])
    >>> mean_score(queries, keys, scale=0.5).tolist()
    [2.0, 7.5]
    """
    expect_fit(queries=(queries, "pos head d_head"), keys=(keys, "pos kv_head d_head"))
    scale = finite_number("scale", scale, MeasureError)
    n_pos, n_heads, _ = queries.shape
    expect_groups(n_heads, keys.shape[1], "key")
    groups = reduce(queries, "pos (kv group) d -> pos kv d", "sum", kv=keys.shape[1])
    exact = in_float64(keys)
    seen = seeing_queries(n_pos, window).to(exact.device)
    # Sums of the queries that see each key, as differences of cumulative sums.
    vectors = in_float64(groups)
    upto = torch.nn.functional.pad(vectors.cumsum(0), (0, 0, 0, 0, 1, 0))
    first = torch.arange(len(vectors), device=vectors.device)
    total = upto[first + seen] - upto[:-1]
    mean = (total * exact).sum((1, 2)) * (scale / n_heads) / seen
    return mean.float().to(keys.device)
