"""Follow tokens that may turn out to be the primary sink, during the pass.

Alignment with the primary, and the attention paid to it, must be measured while a layer is in
memory, but the primary is known only at the end. So a few *candidates* are followed: the first
positions, and each token from the layer on at which it is among the most outlying, or the most
attended of the outlying. Candidates save time and decide nothing: the primary is chosen among all
positions (`observation.primary`), and one that was not followed is measured in a further pass.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from secondary_sinks.layerwise.visibility import sees
from secondary_sinks.measures.geometry import alignments
from secondary_sinks.types import Thresholds

FIRST = 4
AT_ONCE = 4
AT_MOST = 16
"""Maximum number of candidates, to limit memory. More cost a further pass, never a wrong result."""


class Candidates:
    """Alignments with the candidates, and the attention paid to them, by layer.

    Memory for all layers of a candidate is allocated at once: small rows that outlive a layer,
    between large tensors that do not, would fragment the heap.
    """

    def __init__(self, n_layers: int, n_pos: int) -> None:
        """Start with the first positions of a text of `n_pos` tokens."""
        self.positions = list(range(min(FIRST, n_pos)))
        self._n_layers, self._n_pos = n_layers, n_pos
        self._rows: dict[int, dict[str, Tensor]] = {}
        self._followed: dict[int, Tensor] = {}
        self._paid: dict[int, Tensor] = {}

    def measure(
        self,
        layer: int,
        resid_post: Float[Tensor, "pos d_model"],
        mlp_out: Float[Tensor, "pos d_model"],
        typical: Float[Tensor, "d_model"],
        deviation_ratio: Float[Tensor, "pos"],
        received: Float[Tensor, "pos"],
    ) -> None:
        """Add the outlying tokens of a layer, and store its alignments with each candidate."""
        outlying = deviation_ratio.cpu() >= Thresholds().outlying
        self._admit(deviation_ratio.cpu().where(outlying, 0.0))
        self._admit(received.where(outlying, 0.0))
        self.follow(layer, self.positions, resid_post, mlp_out, typical)

    def follow(
        self,
        layer: int,
        positions: Sequence[int],
        resid_post: Float[Tensor, "pos d_model"],
        mlp_out: Float[Tensor, "pos d_model"],
        typical: Float[Tensor, "d_model"],
    ) -> None:
        """Store the alignments of a layer with some positions, in the first pass or a later one."""
        states = resid_post[list(positions)]
        centred = resid_post.float() - typical.float()
        found = {
            "alignment": alignments(resid_post, states),
            "alignment_centred": alignments(centred, centred[list(positions)]),
            "mlp_alignment": alignments(mlp_out, states),
            "reference_resid": states,
        }
        for number, pos in enumerate(positions):
            self._allocate(pos, resid_post.shape[1])
            for name, values in found.items():
                self._rows[pos][name][layer] = values[number]
            self._followed[pos][layer] = True

    def store_paid(
        self,
        layer: int,
        positions: Sequence[int],
        paid: Float[Tensor, "query watched"],
        window: int | None,
    ) -> None:
        """Store the attention of the queries of a block to some keys; NaN for unseen keys."""
        for column, pos in enumerate(positions):
            if pos not in self._paid:
                self._paid[pos] = torch.full((self._n_layers, self._n_pos), torch.nan)
            seen = sees(torch.arange(self._n_pos), torch.tensor([pos]), window)[:, 0]
            self._paid[pos][layer] = paid[:, column].where(seen, torch.nan)

    def followed_layers(self, pos: int) -> Bool[Tensor, "layer"]:
        """The layers at which alignments with `pos` were stored."""
        return self._followed.get(pos, torch.zeros(self._n_layers, dtype=torch.bool))

    def rows_against(self, reference: Int[Tensor, "layer"]) -> dict[str, Tensor]:
        """The rows measured against each layer's reference; NaN if it was not followed there."""
        some = next(iter(self._rows.values()))
        found = {name: torch.full_like(rows, torch.nan) for name, rows in some.items()}
        for pos in reference.unique().tolist():
            for name, rows in self._rows.get(pos, {}).items():
                found[name][reference == pos] = rows[reference == pos]
        return found

    def attention_paid_to(self, reference: Int[Tensor, "layer"]) -> Float[Tensor, "layer query"]:
        """Attention of each query to the reference of the state that the block reads.

        For block 0, which reads the embedding, it is the reference of layer 0.
        """
        read = torch.cat([reference[:1], reference[:-1]])
        found = torch.full((self._n_layers, self._n_pos), torch.nan)
        for pos in read.unique().tolist():
            if pos in self._paid:
                found[read == pos] = self._paid[pos][read == pos]
        return found

    def first(self) -> Float[Tensor, "first layer pos"]:
        """Alignment with each of the first positions."""
        return torch.stack([self._rows[pos]["alignment"] for pos in self.positions[:FIRST]])

    def _allocate(self, pos: int, d_model: int) -> None:
        if pos not in self._rows:
            widths = dict.fromkeys(("alignment", "alignment_centred", "mlp_alignment"), self._n_pos)
            widths["reference_resid"] = d_model
            self._rows[pos] = {
                name: torch.full((self._n_layers, width), torch.nan)
                for name, width in widths.items()
            }
            self._followed[pos] = torch.zeros(self._n_layers, dtype=torch.bool)

    def _admit(self, prominence: Float[Tensor, "pos"]) -> None:
        first = prominence.topk(min(AT_ONCE, len(prominence)))
        for value, pos in zip(first.values.tolist(), first.indices.tolist(), strict=True):
            new = pos not in self.positions and len(self.positions) < AT_MOST
            if new and value > 0:
                self.positions.append(pos)
