"""Numbers and counts in words."""

import math
from collections.abc import Mapping

from secondary_sinks.display import count
from secondary_sinks.plots.labels import MISSING, format_number, make_visible
from secondary_sinks.types.lists import join_words

__all__ = [
    "MISSING",
    "count",
    "format_number",
    "list_counts",
    "percent",
    "plain",
    "quoted",
    "shown",
]


def percent(share: float) -> str:
    """A share in per cent, with one decimal below ten; a dash for NaN.

    >>> percent(0.432), percent(0.0152), percent(float("nan"))
    ('43%', '1.5%', '–')
    """
    if math.isnan(share):
        return MISSING
    return f"{share:.0%}" if abs(share) >= 0.0995 else f"{share:.1%}"


def plain(number: float) -> str:
    """A number without exponent, with as many decimals as matter; a dash for NaN.

    >>> plain(0.0), plain(0.85), plain(3.4), plain(12345.0)
    ('0', '0.85', '3.4', '12,345')
    """
    size = abs(number) or 10
    return format_number(number, ",.0f" if size >= 10 else ".1f" if size >= 1 else ".2f")


def list_counts(counts: Mapping[str, int], most: int = 3) -> str:
    """The most frequent entries with their counts, then how many other entries, with their count.

    >>> list_counts({"layer 2": 70, "layer 5": 8, "layer 6": 1, "layer 9": 1}, most=2)
    'layer 2 (70), layer 5 (8) and 2 others (2)'
    """
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    words = [f"{name} ({n:,})" for name, n in ranked[:most]]
    if len(ranked) > most:
        rest = sum(n for _, n in ranked[most:])
        return ", ".join(words) + f" and {count(len(ranked) - most, 'other')} ({rest:,})"
    return join_words(words)


def quoted(text: str) -> str:
    """A token in quotes."""
    return f"“{make_visible(text, most=20)}”"


def shown(value: object) -> str:
    """Any value as text, with all characters visible except ordinary spaces and line breaks."""
    return make_visible(str(value), keep=" \n")
