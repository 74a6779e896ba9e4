"""`Thresholds`: when a token counts as a sink."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """When a token counts as a sink at a layer; the same for every model.

    By the joint criterion, sinks are aligned, outlying and attended at once, so each single test
    can be mild. They are round numbers: an aligned token has at least twice as much along the
    primary's direction as across it, an outlying one stands three times as far from the typical
    token as tokens usually do, an attended one gets twice its even share. The numbers of the
    paper criterion (`paper_...`) are those of its authors, and judge nothing else.
    """

    aligned: float = 0.9
    """Least centred, signed cosine with the primary (the paper uses 0.9, raw and unsigned)."""
    outlying: float = 3.0
    """Least distance from the typical token, in medians of that distance over the text."""
    attended: float = 2.0
    """Least attention mass, in multiples of the uniform null and of the neighbours' median."""
    min_queries: int = 8
    """Queries that must see a key before its mass says anything; fewer is noise of single rows."""
    persists: int = 3
    """Layers in a row for which a token must be a sink; what is one more briefly is transient."""
    draws: float = 0.01
    """Least attention mass beyond what is expected, mean over such a run; less is transient."""
    primary_like: float = 0.8
    """Share of the primary's layers from which on a sink that arises with it is primary-like."""
    paper_first: int = 3
    """The primary is one of so many first positions: 3 with a chat template, 2 without."""
    paper_aligned: float = 0.9
    """|cosine| with the primary that a sink exceeds, raw."""
    paper_noise: int = 4
    """Up to so many layers are noise."""
    paper_margin: int = 15
    """A sink of at least (number of layers - 15) layers is a primary one (bos_sink)."""
    as_massive: float = 0.5
    """Share of the primary's distance from the typical token from which on a sink that stays is
    primary-like even if it arises later: another primary."""
    another_primary: float = 0.25
    """Share of the primary's attention that another token must draw to be the primary of layers
    at which the first one does not stand out."""
