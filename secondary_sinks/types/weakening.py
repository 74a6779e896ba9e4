"""`Weakening`: the primary sink, aligned to the layers at which secondary sinks arise."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from secondary_sinks.types.effects import Verdict
from secondary_sinks.types.frames import tidy

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class WeakeningPoint:
    """One measure of the primary, so many layers before or after a secondary sink arises."""

    measure: str
    """mass, key_norm or score."""
    relative: int
    """Layer less l_start; from 0 on, the secondary sink exists."""
    mean: float
    """Mean over secondary sinks, in the block that reads the layer's state."""
    low: float
    """Lower end of the interval over texts; NaN with fewer than two texts."""
    high: float
    n_sinks: int
    """Secondary sinks for which the primary has such a layer."""
    n_texts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WeakeningChange:
    """How one measure of the primary changes when secondary sinks arise."""

    measure: str
    before: float
    """Mean over the window before l_start, over sinks."""
    after: float
    """Mean over the window from l_start on."""
    change: float
    """`after` less `before`; negative is weaker."""
    low: float
    """Lower end of the interval of `change`, over texts."""
    high: float
    p: float
    """Share of arrangements of creation layers with as low a change; NaN if there is none."""
    p_adjusted: float
    """The same, corrected for the number of measures (Holm 1979)."""
    n_sinks: int
    n_texts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Weakening:
    """Does the primary weaken as secondary sinks arise?"""

    profile: tuple[WeakeningPoint, ...]
    changes: tuple[WeakeningChange, ...]
    verdict: Verdict
    window: int
    """Layers before, and layers after, that are compared."""
    n_blocks: int
    """Groups of creation layers that were moved on their own."""
    n_arrangements: float
    """Different arrangements that there are; the smallest p is one over it."""
    n_left_out: int
    """Secondary sinks without a whole window in the span of their primary."""

    def to_frame(self) -> "pd.DataFrame":
        """One row per measure and relative layer."""
        return tidy([asdict(point) for point in self.profile], WeakeningPoint)

    def changes_frame(self) -> "pd.DataFrame":
        """One row per measure."""
        return tidy([asdict(change) for change in self.changes], WeakeningChange)
