"""What is measured of every token that may turn out to be a primary sink, while the pass goes on.

Alignment needs the primary's residual at the moment when a layer is in memory, and so does what
each query pays to it; but which token is the primary is certain only at the end. So a few
*candidates* are followed: the first positions, and from the layer on at which it first stands out,
any token among the farthest from the typical one, or among the most attended that stand out. They
save time and decide nothing: the primary is chosen among all positions (`observation.primaries`),
and where a chosen one was not followed, a further pass follows it.
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
    """Alignments with the candidates, and what queries pay to them, by layer.

    Room for all layers of a candidate is taken at once: small rows that outlive each layer would
    lie between the large ones that don't, and leave the heap full of holes.
    """

    def __init__(self, n_layers: int, n_pos: int) -> None:
        """Start with the first positions of a text of `n_pos` tokens."""
        self.positions = list(range(min(FIRST, n_pos)))
        self._n_layers, self._n_pos = n_layers, n_pos
        self._rows: dict[int, dict[str, Tensor]] = {}
        self._known: dict[int, Tensor] = {}
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
        """Admit what stands out at this layer, and keep the layer's alignments with each."""
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
        """Keep the alignments of a layer with some positions, in the first pass or a later one."""
        for pos in positions:
            self._make_room(pos, resid_post.shape[1])
            rows, state = self._rows[pos], resid_post[pos]
            rows["alignment"][layer] = alignment(resid_post, state)
            rows["alignment_centred"][layer] = centred_alignment(resid_post, state, typical)
            rows["mlp_alignment"][layer] = alignment(mlp_out, state)
            rows["reference_resid"][layer] = state
            self._known[pos][layer] = True

    def keep_paid(
        self,
        layer: int,
        positions: Sequence[int],
        paid: Float[Tensor, "query watched"],
        window: int | None,
    ) -> None:
        """Keep what the queries of block `layer` pay to some keys; NaN where one can't see it."""
        for column, pos in enumerate(positions):
            if pos not in self._paid:
                self._paid[pos] = torch.full((self._n_layers, self._n_pos), torch.nan)
            behind = torch.arange(self._n_pos) - pos
            sees = (behind >= 0) & (behind < (window or self._n_pos))
            self._paid[pos][layer] = paid[:, column].where(sees, torch.nan)

    def known(self, pos: int) -> Bool[Tensor, "layer"]:
        """The layers at which alignments with `pos` were kept."""
        return self._known.get(pos, torch.zeros(self._n_layers, dtype=torch.bool))

    def of(self, reference: Int[Tensor, "layer"]) -> dict[str, Tensor]:
        """Everything measured against the reference of each layer; NaN where it wasn't kept."""
        some = next(iter(self._rows.values()))
        found = {name: torch.full_like(rows, torch.nan) for name, rows in some.items()}
        for pos in reference.unique().tolist():
            for name, rows in self._rows.get(pos, {}).items():
                found[name][reference == pos] = rows[reference == pos]
        return found

    def paid_to(self, reference: Int[Tensor, "layer"]) -> Float[Tensor, "layer query"]:
        """What queries pay to the reference of the state that each block reads.

        Block 0 reads no state of a layer: there it is the reference of layer 0.
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

    def _make_room(self, pos: int, d_model: int) -> None:
        if pos not in self._rows:
            widths = dict.fromkeys(("alignment", "alignment_centred", "mlp_alignment"), self._n_pos)
            widths["reference_resid"] = d_model
            self._rows[pos] = {
                name: torch.full((self._n_layers, width), torch.nan)
                for name, width in widths.items()
            }
            self._known[pos] = torch.zeros(self._n_layers, dtype=torch.bool)

    def _admit(self, standing: Float[Tensor, "pos"]) -> None:
        first = standing.topk(min(AT_ONCE, len(standing)))
        for value, pos in zip(first.values.tolist(), first.indices.tolist(), strict=True):
            new = pos not in self.positions and len(self.positions) < AT_MOST
            if new and value > 0:
                self.positions.append(pos)
