"""Activations of a few positions, taken from the chunks of a walk as they pass."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.layerwise.protocol import Hook, HookedModel
from secondary_sinks.measures.hook_names import hook_name


class ActivationCollector:
    """What some hook points hold at some positions of one layer, and means over sets of positions.

    Each set is a row of `weights`, which a mean is taken with.
    """

    def __init__(self, positions: list[int], weights: Float[Tensor, "set pos"] | None = None):
        """Start with nothing; `positions` in ascending order."""
        self.positions = torch.tensor(positions, dtype=torch.long)
        self._weights = weights
        self._rows: dict[str, list[Tensor]] = {}
        self._means: dict[str, Tensor | float] = {}
        self._seen: dict[str, int] = {}

    def hooks(self, model: HookedModel, layer: int, *points: str) -> list[Hook]:
        """Hooks that take from those of the `points` that the model has."""
        names = [(point, hook_name(layer, point)) for point in points]

        def taking(point: str) -> Any:
            return lambda tensor, hook: self.take(point, tensor)

        return [(name, taking(point)) for point, name in names if name in model.hook_dict]

    def take(self, point: str, chunk: Float[Tensor, "1 query *rest"]) -> None:
        """Keep the wanted rows of the next chunk of queries."""
        first = self._seen.get(point, 0)
        self._seen[point] = first + chunk.shape[1]
        inside = (self.positions >= first) & (self.positions < first + chunk.shape[1])
        rows = chunk[0, (self.positions[inside] - first).to(chunk.device)]
        self._rows.setdefault(point, []).append(rows.float())
        if self._weights is not None:
            part = self._weights[:, first : first + chunk.shape[1]].to(chunk.device)
            summed = torch.tensordot(part, chunk[0].float(), dims=1)
            self._means[point] = self._means.get(point, 0.0) + summed

    def rows(self, point: str) -> Float[Tensor, "row *rest"] | None:
        """The activations at the positions, in float32; None where the model has no such point."""
        return torch.cat(self._rows[point]) if point in self._rows else None

    def means(self, point: str) -> Float[Tensor, "set *rest"]:
        """The means over the sets."""
        means = self._means[point]
        assert isinstance(means, Tensor)
        return means
