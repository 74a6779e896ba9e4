"""Direct effects on attention: one key is replaced; all queries and all other keys stay clean.

The attention that a later query no longer pays to the replaced key goes to its other keys, and to
its learned sink, in proportion to what they had: this follows from the softmax alone.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.layerwise.interface import LayerRun
from secondary_sinks.layerwise.visibility import sees, visible_to_queries
from secondary_sinks.measures import attention_to_replaced_key, seeing_queries
from secondary_sinks.measures.softmax import SURELY, share_and_rest
from secondary_sinks.observation import LayerView

SCORES_AT_ONCE = 1 << 22
"""Largest number of attention scores that are added up at once."""


def direct_mass(
    view: LayerView,
    keys: Float[Tensor, "cell kv_head d_head"],
    self_attention: Float[Tensor, "cell head"],
    positions: Int[Tensor, "cell"],
) -> Float[Tensor, "cell"]:
    """Attention mass of each replayed token, put in the place of the clean token.

    Later tokens keep their clean queries; the token's own query is the edited one.
    """
    n_pos, n_heads = view.queries.shape[:2]
    in_group, reach = n_heads // keys.shape[1], view.run.window or n_pos
    replaced = positions.unique().tolist()
    queries = _by_key(view.queries.transpose(0, 1), keys.shape[1])
    others = _log_others(view.run, queries, replaced)
    received = self_attention.mean(-1)
    for number, pos in enumerate(replaced):
        cells = (positions == pos).nonzero()[:, 0].to(keys.device)
        rows = slice((pos + 1) * in_group, min(n_pos, pos + reach) * in_group)
        given = keys[cells], queries[:, rows], others[:, rows, number : number + 1]
        received[cells] += _received(view.run, *given) / n_heads
    seen = seeing_queries(n_pos, view.run.window).to(received.device)
    return received / seen[positions.to(received.device)]


def _received(
    run: LayerRun,
    keys: Float[Tensor, "cell kv_head d_head"],
    queries: Float[Tensor, "kv_head row d_head"],
    log_others: Float[Tensor, "kv_head row 1"],
) -> Float[Tensor, "cell"]:
    """Attention that new keys receive from clean queries, over all heads and queries.

    `log_others` are the log denominators of the other keys. In float32 they are subtracted within
    the product, and the attention takes its place: so each score is touched twice, not five times.
    """
    keys, queries = (keys * run.scale).transpose(0, 1), queries.transpose(1, 2)
    others = log_others.transpose(1, 2)
    if run.soft_cap is None and keys.dtype == torch.float32:
        return torch.baddbmm(-others, keys, queries).sigmoid_().sum((0, 2))
    scores = run.capped(keys @ queries).float()
    return attention_to_replaced_key(scores, others).sum((0, 2))


def _by_key(
    by_head: Float[Tensor, "head query n"], n_keys: int
) -> Float[Tensor, "kv_head query_and_head n"]:
    """Rows by the key that their heads share, query after query.

    So the scores of consecutive queries on a key are one product, without a copy.
    """
    return by_head.unflatten(0, (n_keys, -1)).transpose(1, 2).flatten(1, 2)


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
    assert view.log_sums is not None
    n_pos, device = len(view.queries), view.queries.device
    positions, reach = positions.to(device), view.run.window or n_pos
    replaced, at = positions.unique(return_inverse=True)
    others = log_others(view.run, replaced.tolist())[..., at]
    after = torch.logaddexp(view.run.scores(view.queries, keys).float(), others)
    clean = view.log_sums[..., None]
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


def log_others(run: LayerRun, keys: Sequence[int]) -> Float[Tensor, "head query key"]:
    """Log softmax denominators of a clean run without one key, for several keys in turn.

    The score of the key is taken from the whole denominator. Where the key takes most of a query's
    attention, that would leave rounding errors, so the scores of the other keys are added up.
    """
    (n_pos, n_heads, _), n_keys = run.queries.shape, run.keys.shape[1]
    by_key = _log_others(run, _by_key(run.queries.transpose(0, 1), n_keys), keys)
    return by_key.unflatten(1, (n_pos, n_heads // n_keys)).transpose(1, 2).flatten(0, 1)


def _log_others(
    run: LayerRun, queries: Float[Tensor, "kv_head row d_head"], keys: Sequence[int]
) -> Float[Tensor, "kv_head row key"]:
    """The same with rows of `_by_key`, as are those of `queries`."""
    assert run.log_sums is not None
    places = torch.tensor(keys, device=run.keys.device)
    in_group = queries.shape[1] // len(run.queries)
    query = torch.arange(queries.shape[1], device=places.device) // in_group
    scores = run.capped(queries @ run.keys[places].permute(1, 2, 0) * run.scale).float()
    scores.masked_fill_(~sees(query, places, run.window), -torch.inf)
    share, others = share_and_rest(scores, _by_key(run.log_sums[..., None], len(queries)))
    groups, rows, numbers = (share > SURELY).nonzero(as_tuple=True)
    heads = groups * in_group + rows % in_group
    others[groups, rows, numbers] = _added_up(run, places[numbers], heads, query[rows])
    return others


def _added_up(
    run: LayerRun, keys: Int[Tensor, "row"], heads: Int[Tensor, "row"], queries: Int[Tensor, "row"]
) -> Float[Tensor, "row"]:
    """Log of the sum over all keys but one, which is given, for some heads of some queries."""
    n_pos, n_keys, _ = run.keys.shape
    sums = torch.full((len(heads),), -torch.inf, device=run.keys.device)
    shared = heads // (run.queries.shape[1] // n_keys)
    for group in shared.unique().tolist():
        rows = (shared == group).nonzero()[:, 0]
        for part in rows.split(max(1, SCORES_AT_ONCE // n_pos)):
            products = run.queries[queries[part], heads[part]] @ run.keys[:, group].T
            hidden = ~visible_to_queries(queries[part], n_pos, run.window)
            hidden[torch.arange(len(part), device=part.device), keys[part]] = True
            scores = run.capped(products * run.scale).float().masked_fill_(hidden, -torch.inf)
            sums[part] = scores.logsumexp(-1)
    if run.learned_sinks is None:
        return sums
    return sums.logaddexp(run.learned_sinks.float()[heads])
