"""Alignments with every token that may turn out to be a primary sink, while the pass goes on.

Alignment needs the primary's residual at the moment when a layer is in memory, but which token
is the primary is certain only at the end. So a few *candidates* are followed: the first
positions, and from the layer on at which it first stands out, any token among the farthest from
the typical one, or among the most attended that stand out. They save time and decide nothing:
the primary is chosen among all positions (`observation.primaries`), and where a chosen one was
not followed, a further pass follows it.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from secondary_sinks.measures import alignment, centred_alignment
from secondary_sinks.types import Thresholds

FIRST = 4
AT_ONCE = 4
AT_MOST = 16
"""Candidates followed at once: bounds memory. More cost a further pass, never a wrong answer."""


class Candidates:
    """Alignments with the candidates, by layer."""

    def __init__(self, n_pos: int) -> None:
        """Start with the first positions of a text of `n_pos` tokens."""
        self.positions = list(range(min(FIRST, n_pos)))
        self._layers: list[dict[int, dict[str, Tensor]]] = []

    def measure(
        self,
        resid_post: Float[Tensor, "pos d_model"],
        mlp_out: Float[Tensor, "pos d_model"],
        typical: Float[Tensor, "d_model"],
        deviation_ratio: Float[Tensor, "pos"],
        received: Float[Tensor, "pos"],
    ) -> None:
        """Admit what stands out at this layer, and keep the layer's alignments with each."""
        outlying = deviation_ratio.cpu() >= Thresholds().outlying
        self._admit(deviation_ratio.cpu().where(outlying, 0.0))
        self._admit(received.where(outlying, 0.0))
        self._layers.append({})
        self.follow(len(self._layers) - 1, self.positions, resid_post, mlp_out, typical)

    def follow(
        self,
        layer: int,
        positions: Sequence[int],
        resid_post: Float[Tensor, "pos d_model"],
        mlp_out: Float[Tensor, "pos d_model"],
        typical: Float[Tensor, "d_model"],
    ) -> None:
        """Keep the alignments of a layer with some positions, in the first pass or a later one."""
        for pos in positions:
            self._layers[layer][pos] = {
                "alignment": alignment(resid_post, resid_post[pos]).cpu(),
                "alignment_centred": centred_alignment(resid_post, resid_post[pos], typical).cpu(),
                "mlp_alignment": alignment(mlp_out, resid_post[pos]).cpu(),
                "primary_resid": resid_post[pos].float().cpu().clone(),  # a view keeps the layer
            }

    def known(self, pos: int) -> Bool[Tensor, "layer"]:
        """The layers at which alignments with `pos` were kept."""
        return torch.tensor([pos in layer for layer in self._layers])

    def of(self, reference: Int[Tensor, "layer"]) -> dict[str, Tensor]:
        """Everything measured against the reference of each layer; NaN where it wasn't kept."""
        some = next(iter(self._layers[0].values()))
        missing = {name: torch.full_like(value, torch.nan) for name, value in some.items()}
        pairs = zip(self._layers, reference.tolist(), strict=True)
        rows = [layer.get(pos, missing) for layer, pos in pairs]
        return {name: torch.stack([row[name] for row in rows]) for name in some}

    def first(self) -> Float[Tensor, "first layer pos"]:
        """Alignment with each of the first positions."""
        n_layers = len(self._layers)
        ones = [torch.full((n_layers,), pos) for pos in sorted(self.positions[:FIRST])]
        return torch.stack([self.of(one)["alignment"] for one in ones])

    def _admit(self, standing: Float[Tensor, "pos"]) -> None:
        first = standing.topk(min(AT_ONCE, len(standing)))
        for value, pos in zip(first.values.tolist(), first.indices.tolist(), strict=True):
            new = pos not in self.positions and len(self.positions) < AT_MOST
            if new and value > 0:
                self.positions.append(pos)
