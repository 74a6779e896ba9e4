"""How much attention later queries pay to each key, and how much they get for it."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.causal.controls import ever_sinks
from secondary_sinks.layerwise.protocol import Hook, HookedModel
from secondary_sinks.layerwise.submodules import heads_of
from secondary_sinks.measures import value_drain
from secondary_sinks.observation import iter_layers
from secondary_sinks.observation.layers import check_same_states
from secondary_sinks.questions.circuit.heads import LaterAttention
from secondary_sinks.types import SinkTable, Trace

EQUAL = 0.1
"""Keys have equal attention if their sum differs from the sink's by at most this share of it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Given:
    """Means over the queries after one token, over some blocks and over heads, by key."""

    attention: Float[Tensor, "key"]
    """Attention paid to the key, in [0, 1]; that of a query to itself is left out."""
    written: Float[Tensor, "key"]
    """Attention times ||W_O v||: the length of what a head writes for the key. Lengths are
    averaged, so that nothing cancels; a norm after the sublayer (Gemma, OLMo 2) is not applied."""

    def per_attention(self, keys: Sequence[int]) -> float:
        """Length that a head writes per unit of attention to the keys; NaN without attention."""
        where = list(keys)
        return float(self.written[where].sum() / self.attention[where].sum())


def given_by_keys(
    model: HookedModel, trace: Trace, blocks: Mapping[int, Sequence[int]]
) -> dict[int, Given]:
    """What the queries after each token pay to all keys in the token's `blocks`; in one pass.

    Memory grows with tokens x keys. Raises `TraceError` for a trace of another model.
    """
    n_pos = len(trace)
    sums = {pos: torch.zeros(2, n_pos, dtype=torch.float64) for pos in blocks}
    seen: dict[int, LaterAttention] = {}

    def hooks(layer: int) -> list[Hook]:
        after = [pos for pos, some in blocks.items() if layer in some]
        if after:
            seen[layer] = LaterAttention(n_pos, after=after)
        return [seen[layer].hook(layer)] if after else []

    for view in iter_layers(model, trace.tokens, received=False, hooks=hooks):
        check_same_states(view, trace)
        if view.layer in seen:
            assert view.values is not None
            written = value_drain(view.values, heads_of(model, view.layer).weights).T.cpu().double()
            for pos, paid in seen.pop(view.layer).received_after.items():
                sums[pos] += torch.stack([paid.sum(0), (paid * written).sum(0)])
        del view
    n_rows = {
        pos: len(some) * (n_pos - 1 - pos) * model.cfg.n_heads for pos, some in blocks.items()
    }
    means = {pos: total / n_rows[pos] for pos, total in sums.items()}
    return {pos: Given(attention=mean[0], written=mean[1]) for pos, mean in means.items()}


def equal_keys(
    trace: Trace, sinks: SinkTable, given: Given, pos: int, seed: int
) -> tuple[int, ...]:
    """Ordinary keys drawn at random whose attention adds up to that of the token at `pos`.

    Tokens that are a sink or a reference at some layer are never drawn. Empty if no drawn keys
    come within `EQUAL` of the attention: there is not enough at ordinary tokens.
    """
    taken = ever_sinks(trace, sinks) | {pos}
    able = [key for key in range(1, len(trace) - 1) if key not in taken]
    random.Random(f"{seed} {pos}").shuffle(able)
    wanted, total, keys = float(given.attention[pos]), 0.0, []
    for key in able:
        more = float(given.attention[key])
        if more > 0 and total + more <= (1 + EQUAL) * wanted:
            keys.append(key)
            total += more
        if total >= wanted:
            break
    return tuple(sorted(keys)) if total >= (1 - EQUAL) * wanted > 0 else ()
