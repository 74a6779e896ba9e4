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
    n_pos, device = len(view.queries), view.queries.device
    positions = positions.to(device)
    old_keys = view.run.keys[positions]
    new, old = (view.run.scores(view.queries, k).float() for k in (keys, old_keys))
    paid = attention_to_replaced_key(new, view.denominator.without(positions, old))
    reach = view.run.window
    later = torch.arange(n_pos, device=device)[:, None] - positions
    sees = (later > 0) & (later < (reach or n_pos))
    # For a query that sees only itself `without` is undefined, and NaN.
    received = paid.mean(0).where(sees, 0.0).sum(0) + self_attention.mean(-1)
    return received / seeing_queries(n_pos, reach).to(device)[positions]


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
    after = torch.logaddexp(new, view.denominator.without(positions, old))
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
