"""Direct effects on attention: one key is replaced; all queries and all other keys stay clean.

The attention that a later query no longer pays to the replaced key goes to its other keys, and to
its learned sink, in proportion to what they had: this follows from the softmax alone.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.measures import attention_to_replaced_key, seeing_queries
from secondary_sinks.observation import LayerView


def direct_mass(
    view: LayerView,
    keys: Float[Tensor, "cell kv_head d_head"],
    self_attention: Float[Tensor, "cell head"],
    positions: Int[Tensor, "cell"],
) -> Float[Tensor, "cell"]:
    """Attention mass of each replayed token, put in the place of the clean token.

    Later tokens keep their clean queries; the token's own query is the edited one.
    """
    assert view.denominator is not None
    n_pos, reach = len(view.queries), view.run.window
    received = self_attention.mean(-1)
    for pos in positions.unique().tolist():
        cells = (positions == pos).nonzero()[:, 0].to(keys.device)
        later = slice(pos + 1, n_pos if reach is None else pos + reach)
        received[cells] += _received_later(view, keys[cells], pos, later)
    seen = seeing_queries(n_pos, reach).to(received.device)
    return received / seen[positions.to(received.device)]


def _received_later(
    view: LayerView, keys: Float[Tensor, "cell kv_head d_head"], pos: int, later: slice
) -> Float[Tensor, "cell"]:
    """Attention that some later queries pay to new keys at `pos`: mean over heads, summed."""
    assert view.denominator is not None
    old_and_new = torch.cat([view.run.keys[[pos]], keys])  # in one product, as each has a price
    scores = view.run.scores(view.queries[later], old_and_new).float()
    rest = view.denominator.of_queries(later).without(scores[..., :1])
    return attention_to_replaced_key(scores[..., 1:], rest).sum(1).mean(0)


def direct_masses(
    view: LayerView,
    keys: Float[Tensor, "cell kv_head d_head"],
    paid: Float[Tensor, "cell watch"],
    positions: Int[Tensor, "cell"],
    watch: Sequence[int],
) -> Float[Tensor, "cell watch"]:
    """Attention mass of other tokens, with each replayed token in the place of the clean token.

    Queries of later tokens, and all keys but one, are those of the clean run: attention that a
    later query no longer pays to the replaced key goes to its other keys in proportion. `paid` is
    the attention that the replayed token itself pays to the watched tokens.
    """
    assert view.denominator is not None
    n_pos, device = len(view.queries), view.queries.device
    positions, reach = positions.to(device), view.run.window or n_pos
    new, old = (view.run.scores(view.queries, k).float() for k in (keys, view.run.keys[positions]))
    after = torch.logaddexp(new, view.denominator.without(old))
    clean = view.denominator.log_sum[..., None]
    query = torch.arange(n_pos, device=device)[:, None]
    later, itself = query - positions, query == positions
    sums = torch.where((later > 0) & (later < reach), after, clean)
    masses = []
    for number, key in enumerate(watch):
        score = view.run.scores(view.queries, view.run.keys[[key]]).float()
        received = (score - sums).exp().mean(0).where(~itself, paid[:, number].to(device))
        seen = (query >= key) & (query - key < reach)
        masses.append(received.where(seen, 0.0).sum(0) / seen.sum())
    return torch.stack(masses, dim=1)
