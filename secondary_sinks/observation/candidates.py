"""Which position is the primary sink? Found while the pass goes on, never assumed.

Alignment needs the primary's residual at the moment when a layer is in memory, but which token
is the primary is certain only at the end. So a few *candidates* are followed: the first
positions, and from the layer on at which it first stands out, any token among the farthest from
the typical one, or among the most attended that stand out. At the end one of them is chosen.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.measures import alignment, centred_alignment
from secondary_sinks.types import Thresholds, read_by_next

FIRST = 4
AT_ONCE = 4
AT_MOST = 32


class Candidates:
    """Alignments with every position that may turn out to be the primary."""

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
        self._layers.append(
            {
                pos: {
                    "alignment": alignment(resid_post, resid_post[pos]).cpu(),
                    "alignment_centred": centred_alignment(
                        resid_post, resid_post[pos], typical
                    ).cpu(),
                    "mlp_alignment": alignment(mlp_out, resid_post[pos]).cpu(),
                    "primary_resid": resid_post[pos]
                    .float()
                    .cpu()
                    .clone(),  # a view keeps the layer
                }
                for pos in self.positions
            }
        )

    def of(self, pos: int) -> dict[str, Tensor]:
        """Everything measured against `pos`, by layer; NaN where it was no candidate yet."""
        known = next(layer[pos] for layer in self._layers if pos in layer)
        missing = {name: torch.full_like(value, torch.nan) for name, value in known.items()}
        rows = [layer.get(pos, missing) for layer in self._layers]
        return {name: torch.stack([row[name] for row in rows]) for name in known}

    def first(self) -> Float[Tensor, "first layer pos"]:
        """Alignment with each of the first positions."""
        positions = self.positions[:FIRST]
        return torch.stack([self.of(pos)["alignment"] for pos in sorted(positions)])

    def _admit(self, standing: Float[Tensor, "pos"]) -> None:
        first = standing.topk(min(AT_ONCE, len(standing)))
        for value, pos in zip(first.values.tolist(), first.indices.tolist(), strict=True):
            new = pos not in self.positions and len(self.positions) < AT_MOST
            if new and value > 0:
                self.positions.append(pos)


def choose_primary(
    candidates: list[int],
    deviation_ratio: Float[Tensor, "layer pos"],
    mass_excess: Float[Tensor, "layer pos"],
    queries: Int[Tensor, "layer pos"],
) -> int:
    """The candidate that draws most attention at its best layer, of those where it stands out.

    The excess over the uniform null, summed over queries; not over layers, since a secondary
    sink may outlive the primary. The first position where nothing stands out and is attended
    (`detect` then finds no active primary).
    """
    limits = Thresholds()
    drawn = read_by_next(mass_excess * queries).nan_to_num(0.0).clamp(min=0)
    counts = (deviation_ratio >= limits.outlying) & (queries >= limits.min_queries)
    score = (drawn * counts).amax(0)
    return max(sorted(candidates), key=lambda pos: float(score[pos]))
