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
    """mass, key_norm or score of the primary; by_query: what a group of queries pays to it."""
    group: str
    """primary, or the queries: after or before the sink, or the same places without a sink."""
    relative: int
    """Layer less l_start; from 0 on, the secondary sink exists."""
    mean: float
    """Mean over secondary sinks (by_query: over texts), in the block that reads the layer."""
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
    n_sinks: int
    n_texts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WeakeningContrast:
    """What the first secondary sink of a text changes in the attention paid to the primary.

    Changes are of the mean over the window from l_start on, less that over the window before.
    """

    text_id: str
    pos: int
    token: str
    l_start: int
    change_before: float
    """Of the queries before the sink, which cannot see it."""
    change_after: float
    """Of the queries after it."""
    change: float
    """`change_after` less `change_before`: what late queries lose without a sink is in it too."""
    control: str
    """The text without a secondary sink there that it is compared with; empty for none."""
    n_before: int
    """Queries before the sink that are compared: those that both texts have."""
    n_after: int
    change_matched: float
    """`change` over these queries; NaN without a control."""
    change_control: float
    """The same in the control, at the same positions and layers."""
    difference: float
    """`change_matched` less `change_control`: what is judged; 0 within rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weakening:
    """Does the primary weaken as secondary sinks arise?"""

    profile: tuple[WeakeningPoint, ...]
    changes: tuple[WeakeningChange, ...]
    contrasts: tuple[WeakeningContrast, ...]
    """One for each text whose first secondary sink could be asked."""
    verdict: Verdict
    window: int
    """Layers before, and layers after, that are compared."""
    n_left_out: int
    """Secondary sinks without a whole window in the span of their primary."""

    def to_frame(self) -> "pd.DataFrame":
        """One row per measure, group and relative layer."""
        return tidy([asdict(point) for point in self.profile], WeakeningPoint)

    def changes_frame(self) -> "pd.DataFrame":
        """One row per measure."""
        return tidy([asdict(change) for change in self.changes], WeakeningChange)

    def contrasts_frame(self) -> "pd.DataFrame":
        """One row per text that was asked."""
        return tidy([asdict(one) for one in self.contrasts], WeakeningContrast)
