"""What `replay` gives."""

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
    """The token that each cell edits."""
    norm: Float[Tensor, "layer cell"]
    deviation_ratio: Float[Tensor, "layer cell"]
    alignment: Float[Tensor, "layer cell"]
    alignment_centred: Float[Tensor, "layer cell"]
    key_norm: Float[Tensor, "layer cell"]
    mass: Float[Tensor, "layer cell"]
    """Direct effect: attention mass of the token with the queries of later tokens frozen; NaN
    where it was not asked for."""
    watch: tuple[int, ...]
    """Other positions whose mass is kept."""
    watched: Float[Tensor, "layer cell watch"]
    """Direct effect on them: their attention mass where the edited token's key alone is another
    one, so that every later query's softmax shares out anew what it paid to that key. NaN for the
    edited token itself."""
    kl: Float[Tensor, "cell"]
    """Divergence (nats) of the edited prediction at the token from the clean one, KL(clean ||
    edited); NaN where it was not asked for."""

    def part(self, begin: int, end: int) -> "Replay":
        """The cells from `begin` up to `end`, without it."""
        columns = {name: getattr(self, name)[:, begin:end] for name in (*STATES, "mass", "watched")}
        cells, positions = self.cells[begin:end], self.positions[begin:end]
        return replace(self, cells=cells, positions=positions, kl=self.kl[begin:end], **columns)
