"""The result of `replay`."""

from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from secondary_sinks.causal.states import STATES
from secondary_sinks.types import Cell


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Replay:
    """The edited token by layer and cell; layers below its first edit hold the clean values."""

    cells: tuple[Cell, ...]
    positions: tuple[int, ...]
    """Position of the token that each cell edits."""
    norm: Float[Tensor, "layer cell"]
    deviation_ratio: Float[Tensor, "layer cell"]
    alignment: Float[Tensor, "layer cell"]
    alignment_centred: Float[Tensor, "layer cell"]
    key_norm: Float[Tensor, "layer cell"]
    mass: Float[Tensor, "layer cell"]
    """Direct effect: attention mass of the token in block l, with the clean queries of later
    tokens; NaN with `attention=False`."""
    watch: tuple[int, ...]
    """Other positions whose mass is measured."""
    watched: Float[Tensor, "layer cell watch"]
    """Direct effect on these positions: their attention mass when only the key of the edited token
    is replaced, and every later query's softmax is normalised again. NaN for the edited token."""
    kl: Float[Tensor, "cell"]
    """KL(clean || edited) in nats of the prediction at the token; NaN unless `kl=True`."""

    def part(self, begin: int, end: int) -> "Replay":
        """The cells from `begin` up to but not including `end`."""
        columns = {name: getattr(self, name)[:, begin:end] for name in (*STATES, "mass", "watched")}
        cells, positions = self.cells[begin:end], self.positions[begin:end]
        return replace(self, cells=cells, positions=positions, kl=self.kl[begin:end], **columns)
