"""`Thresholds`: the limits of the criteria for sinks."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from secondary_sinks.errors import DetectionError, expected_one_of
from secondary_sinks.numbers import finite_number, whole_number

LEAST = {"aligned": -1, "paper_first": 1}
"""Smallest limits where it is not 0: at -1 every token passes the test of a signed cosine."""
MOST = {"aligned": 1, "paper_aligned": 1, "primary_like": 1, "persists": 1_000}
"""Largest limits: above that of a cosine or share no token passes; no model has more layers."""
MOST_COUNTED = 1_000_000
"""Largest limit where things are counted: more queries than any text has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """When a token counts as a sink at a layer; the same for every model.

    A sink of the joint criterion is aligned, outlying and attended at once, so each single test can
    be mild. The limits are round numbers: an aligned token has at least twice as much along the
    primary's direction as perpendicular to it; an outlying token is three times as far from the
    typical token as the median token; an attended token gets twice its even share of attention.
    Those of the paper criterion (`paper_...`) are its authors', and have no other use. Raises
    `DetectionError` for a limit that is not a finite number of at least 0 (-1 for a signed cosine),
    for a cosine or share above 1, or for what is not a whole number where things are counted.
    """

    aligned: float = 0.9
    """Minimum centred, signed cosine with the primary (the paper: 0.9, raw and unsigned)."""
    outlying: float = 3.0
    """Minimum distance from the typical token, in medians of that distance over the text."""
    attended: float = 2.0
    """Minimum attention mass, in multiples of the uniform null and of the neighbours' median."""
    min_queries: int = 8
    """Minimum number of queries that see a key; with fewer, its mass is noise of single rows."""
    persists: int = 3
    """Minimum number of layers in a row at which a token is a sink; with fewer it is transient."""
    draws: float = 0.01
    """Minimum attention mass beyond the expected one, mean over such a run; with less it is
    transient."""
    primary_like: float = 0.8
    """Minimum share of the primary's layers at which a primary-like sink is a sink."""
    paper_first: int = 3
    """The primary is among this many first positions: 3 with a chat template, 2 without."""
    paper_aligned: float = 0.9
    """A sink has a raw |cosine| with the primary above this."""
    paper_noise: int = 4
    """A lifetime of up to this many layers is noise."""
    paper_margin: int = 15
    """A sink with a lifetime of at least (number of layers - 15) is a bos_sink."""
    as_massive: float = 0.5
    """A sink that lasts is primary-like, even if created later, from this share of the primary's
    distance from the typical token on."""
    another_primary: float = 0.25
    """Minimum share of the primary's attention that another token must draw, to be the reference of
    layers at which the primary does not stand out."""

    def __post_init__(self) -> None:
        for item in fields(self):
            whole = isinstance(item.default, int)
            check: Callable[..., int | float] = whole_number if whole else finite_number
            least, name = LEAST.get(item.name, 0), f"threshold {item.name!r}"
            value = check(name, getattr(self, item.name), DetectionError, least)
            most = MOST.get(item.name, MOST_COUNTED if whole else math.inf)
            if value > most:
                raise DetectionError(f"{name} is {value}", f"expected a number of at most {most:,}")
            object.__setattr__(self, item.name, value)

    def but(self, **limits: float) -> "Thresholds":
        """These limits with some changed. Raises `DetectionError` for an unknown one, and as above.

        >>> Thresholds().but(aligned=0.8).aligned
        0.8
        """
        for name in limits:
            if name not in asdict(self):
                remedy = expected_one_of(asdict(self), name)
                raise DetectionError(f"unknown threshold {name!r}", remedy)
        changed: dict[str, Any] = dict(limits)
        return replace(self, **changed)


def as_thresholds(given: Any) -> Thresholds:
    """The limits as given, or the defaults for None. Raises `DetectionError` for anything else."""
    if given is not None and not isinstance(given, Thresholds):
        raise DetectionError(
            f"thresholds is {given!r:.60}", "expected Thresholds(...), or None for the defaults"
        )
    return Thresholds() if given is None else given
