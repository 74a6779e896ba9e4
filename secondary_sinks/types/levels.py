"""`Levels`: groups of secondary sinks with a similar creation layer and lifetime."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from secondary_sinks.display import Displayed, count
from secondary_sinks.types.frames import tidy

if TYPE_CHECKING:
    import pandas as pd

FREQUENT = 5
"""Number of sinks from which on a cell of the heat map is frequent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One level: secondary sinks with a similar creation layer and lifetime.

    The sinks around one mode of the number of sinks by (l_start, lifetime).
    """

    level: int
    """Index from 0, in order of creation layer, then lifetime."""
    l_start: int
    """Creation layer of the most frequent pair."""
    lifetime: int
    """Lifetime of the most frequent pair."""
    l_start_low: int
    """Smallest creation layer in the level."""
    l_start_high: int
    lifetime_low: int
    """Shortest lifetime in the level."""
    lifetime_high: int
    n_sinks: int
    low: float
    """Lower end of the interval of `n_sinks` over texts; NaN with fewer than two texts."""
    high: float
    n_texts: int
    """Texts with a sink of this level."""
    jaccard: float
    """Stability: mean Jaccard overlap with the most similar level in resamples of the texts; NaN
    without resamples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelCell:
    """A pair (l_start, lifetime) that occurs: one cell of the heat map."""

    l_start: int
    lifetime: int
    count: int
    n_texts: int
    level: float
    """Level of the cell; NaN if it belongs to no level."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Levels(Displayed):
    """All levels of the secondary sinks of many texts."""

    levels: tuple[Level, ...]
    cells: tuple[LevelCell, ...]
    n_sinks: int
    """Secondary sinks, each counted once."""
    low: float
    """Lower end of the interval of `n_sinks`, over texts."""
    high: float
    n_unassigned: int
    """Number of these that belong to no level."""
    n_copies: int
    """Secondary sinks left out because they stood in an earlier text (`Sink.copy_of`)."""
    n_texts: int
    """All texts, with or without a sink."""
    same_number: float
    """Share of resamples of the texts with the same number of levels; NaN without resamples."""
    resamples: int
    confidence: float
    """Confidence of the intervals."""

    def _line(self) -> str:
        sinks = f"{count(self.n_sinks, 'sink')} in {count(self.n_texts, 'text')}"
        return f"{count(len(self.levels), 'level')} of {sinks}"

    @property
    def n_frequent(self) -> int:
        """Number of cells of the heat map with at least five sinks; several may be one level.

        The paper gives numbers of levels without the rule behind them; this count is the one that
        its heat maps suggest. It grows with the number of texts.
        """
        return sum(cell.count >= FREQUENT for cell in self.cells)

    def to_frame(self) -> "pd.DataFrame":
        """One row per level."""
        return tidy([asdict(level) for level in self.levels], Level)

    def cells_frame(self) -> "pd.DataFrame":
        """One row per pair (l_start, lifetime) that occurs."""
        return tidy([asdict(cell) for cell in self.cells], LevelCell)
