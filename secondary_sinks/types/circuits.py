"""The edges of one circuit: of one sink, or the means over the sinks of one level."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from secondary_sinks.display import Displayed, count

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class SinkCircuit(Displayed):
    """What triggers, writes and reads one sink or the sinks of one level; `.plot()` draws it."""

    name: str
    """The token and its place, or the level."""
    edges: "pd.DataFrame"
    """One row per edge."""
    n_layers: int
    life: tuple[int, int] | None = None
    """First and last layer of the sink; None for a level."""

    def __len__(self) -> int:
        """Number of edges."""
        return len(self.edges)

    def to_frame(self) -> "pd.DataFrame":
        """The edges."""
        return self.edges

    def _line(self) -> str:
        return f"{self.name}: {count(len(self), 'edge')}"
