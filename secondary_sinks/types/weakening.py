"""`Weakening`: the primary sink around the layers at which secondary sinks are created."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from secondary_sinks.display import Displayed
from secondary_sinks.types.effects import Verdict
from secondary_sinks.types.frames import tidy

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class WeakeningPoint:
    """One measure of the primary, at a number of layers before or after a sink's creation."""

    measure: str
    """mass, key_norm or score of the primary; by_query: attention of a group of queries to it."""
    group: str
    """primary, or the queries: after or before the sink, or at the same places without a sink."""
    relative: int
    """Layer minus l_start; the secondary sink exists from 0 on."""
    mean: float
    """Mean over secondary sinks (by_query: over texts), in the block that reads the layer."""
    low: float
    """Lower end of the interval over texts; NaN with fewer than two texts."""
    high: float
    n_sinks: int
    """Number of secondary sinks whose primary is active at that layer."""
    n_texts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WeakeningChange:
    """Change of one measure of the primary when secondary sinks are created."""

    measure: str
    before: float
    """Mean over the layers of the window before l_start, and over sinks."""
    after: float
    """The same for the window from l_start on."""
    change: float
    """`after` minus `before`; negative means weaker."""
    low: float
    """Lower end of the interval of `change`, over texts."""
    high: float
    n_sinks: int
    n_texts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WeakeningContrast:
    """Change of the attention paid to the primary at the first secondary sink of a text.

    A change is the mean over the window from l_start on, minus the mean over the window before.
    """

    text_id: str
    pos: int
    token: str
    l_start: int
    change_before: float
    """Change for the queries before the sink, which cannot see it."""
    change_after: float
    """Change for the queries after the sink."""
    change: float
    """`change_after` minus `change_before`; includes what late queries lose without a sink."""
    control: str
    """Id of the text without a secondary sink there that it is compared with; empty without one."""
    n_repeated: int
    """Number of tokens, from the first on, that a text of an earlier pair has too. Queries among
    them are not compared again, unless both texts of this pair share their tokens, so that they
    cancel. Without a control: tokens that a text of any pair has."""
    n_before: int
    """Number of compared queries before the sink. Without a control: number of its own that no
    pair repeats."""
    n_after: int
    change_matched: float
    """`change` for the compared queries; NaN without a control."""
    change_control: float
    """The same in the control text, at the same positions and layers."""
    difference: float
    """`change_matched` minus `change_control`, which the verdict is about; 0 within rounding."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Weakening(Displayed):
    """Whether the primary gets less attention when secondary sinks are created.

    The verdict rests on `contrasts`; `profile` and `changes` are descriptive.
    """

    profile: tuple[WeakeningPoint, ...]
    changes: tuple[WeakeningChange, ...]
    contrasts: tuple[WeakeningContrast, ...]
    """One for each text whose first secondary sink could be compared."""
    verdict: Verdict
    window: int
    """Number of layers before, and of layers after, that are compared."""
    n_left_out: int
    """Number of secondary sinks without a whole window in the span of their primary."""

    def _line(self) -> str:
        return self.verdict._line()

    def _html(self) -> str:
        return self.verdict._html()

    def _drawn(self) -> Verdict:
        return self.verdict

    def to_frame(self) -> "pd.DataFrame":
        """One row per measure, group and relative layer."""
        return tidy([asdict(point) for point in self.profile], WeakeningPoint)

    def changes_frame(self) -> "pd.DataFrame":
        """One row per measure."""
        return tidy([asdict(change) for change in self.changes], WeakeningChange)

    def contrasts_frame(self) -> "pd.DataFrame":
        """One row per text that was compared."""
        return tidy([asdict(one) for one in self.contrasts], WeakeningContrast)
