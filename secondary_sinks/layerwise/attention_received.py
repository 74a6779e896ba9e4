"""What a run of a layer learns of its attention, chunk by chunk: no pattern is kept."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.layerwise.protocol import Hook
from secondary_sinks.measures import Denominator, paid_attention, received_attention
from secondary_sinks.measures.hook_names import hook_name


class Attended:
    """Attention received by each key and, on demand, the softmax denominators of the queries.

    And what each query pays to some watched keys.
    """

    def __init__(self, n_pos: int, *, denominators: bool, watch: Sequence[int] = ()) -> None:
        """Nothing is received yet; `denominators` says whether these are wanted."""
        self.received = torch.zeros(n_pos)
        self.watch = tuple(watch)
        self._paid: list[Tensor] = []
        self._chunks: list[Denominator] | None = [] if denominators else None

    @property
    def wants_scores(self) -> bool:
        """Whether scores before the softmax are wanted too."""
        return self._chunks is not None

    def add(self, received: Tensor) -> None:
        """Add what some queries pay to the first keys, summed over queries, mean over heads."""
        self.received[: len(received)] += received.float().cpu()

    def add_paid(self, paid: Float[Tensor, "query watch"]) -> None:
        """Add what the next queries pay to the watched keys, mean over heads."""
        self._paid.append(paid.cpu())

    @property
    def paid(self) -> Float[Tensor, "query watch"]:
        """What all queries so far pay to the watched keys, mean over heads."""
        return torch.cat(self._paid) if self._paid else torch.zeros(0, len(self.watch))

    def add_denominator(self, chunk: Denominator) -> None:
        """Add the denominators of the next chunk of queries."""
        assert self._chunks is not None
        self._chunks.append(chunk)

    def denominator(self, learned_sinks: Tensor | None) -> Denominator | None:
        """Of all queries; None where none was wanted."""
        if self._chunks is None:
            return None
        whole = Denominator.join(self._chunks)
        return whole if learned_sinks is None else whole.with_extra(learned_sinks)

    def hooks(self, layer: int) -> list[Hook]:
        """Hooks that take all this from patterns and scores."""

        def on_pattern(pattern: Tensor, hook: Any) -> None:
            self.add(received_attention(pattern))
            self.add_paid(paid_attention(pattern[0], self.watch))

        def on_scores(scores: Tensor, hook: Any) -> None:
            invisible = scores[0] <= torch.finfo(scores.dtype).min / 2  # as Hugging Face masks
            self.add_denominator(Denominator.of(scores[0].masked_fill(invisible, -torch.inf)))

        notes: list[Hook] = [(hook_name(layer, "pattern"), on_pattern)]
        return notes + [(hook_name(layer, "attn_scores"), on_scores)] * self.wants_scores
