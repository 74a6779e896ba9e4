"""Sums over an attention pattern, added up chunk by chunk so that no pattern is kept."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.layerwise.protocol import Hook
from secondary_sinks.measures import Denominator, paid_attention, received_attention
from secondary_sinks.measures.hook_names import hook_name


class AttentionTotals:
    """Attention received by each key, and attention that each query pays to the watched keys.

    On demand, the softmax denominators of the queries too.
    """

    def __init__(self, n_pos: int, *, denominators: bool, watch: Sequence[int] = ()) -> None:
        """Start at zero, for a text of `n_pos` tokens; `watch` are positions of keys."""
        self.received = torch.zeros(n_pos)
        self.watch = tuple(watch)
        self._paid: list[Tensor] = []
        self._denominators: list[Denominator] | None = [] if denominators else None

    @property
    def needs_scores(self) -> bool:
        """Whether scores before the softmax are needed, for the denominators."""
        return self._denominators is not None

    def add_received(self, received: Tensor) -> None:
        """Add attention received by the first keys: summed over queries, mean over heads."""
        self.received[: len(received)] += received.float().cpu()

    def add_paid(self, paid: Float[Tensor, "query watch"]) -> None:
        """Append attention that the next queries pay to the watched keys, mean over heads."""
        self._paid.append(paid.cpu())

    @property
    def paid(self) -> Float[Tensor, "query watch"]:
        """Attention that all queries so far pay to the watched keys, mean over heads."""
        return torch.cat(self._paid) if self._paid else torch.zeros(0, len(self.watch))

    def add_denominator(self, chunk: Denominator) -> None:
        """Append the denominators of the next chunk of queries."""
        assert self._denominators is not None
        self._denominators.append(chunk)

    def denominator(self, learned_sinks: Tensor | None) -> Denominator | None:
        """Softmax denominators of all queries; None if they were not asked for."""
        if self._denominators is None:
            return None
        joined = Denominator.join(self._denominators)
        return joined if learned_sinks is None else joined.with_extra(learned_sinks)

    def hooks(self, layer: int) -> list[Hook]:
        """Hooks that add up the patterns and scores of a layer."""

        def on_pattern(pattern: Tensor, hook: Any) -> None:
            self.add_received(received_attention(pattern))
            self.add_paid(paid_attention(pattern[0], self.watch))

        def on_scores(scores: Tensor, hook: Any) -> None:
            masked = scores[0] <= torch.finfo(scores.dtype).min / 2  # as Hugging Face masks
            self.add_denominator(Denominator.of(scores[0].masked_fill(masked, -torch.inf)))

        hooks: list[Hook] = [(hook_name(layer, "pattern"), on_pattern)]
        return hooks + [(hook_name(layer, "attn_scores"), on_scores)] * self.needs_scores
