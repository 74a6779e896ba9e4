"""From an interval to the outcome of a claim, and when there are too few sinks or texts for one."""

from collections.abc import Mapping

from secondary_sinks.display import count
from secondary_sinks.statistics.over_texts import Interval, min_texts

MIN_SINKS = 5
"""With fewer sinks a verdict is inconclusive; so it is with fewer than `min_texts` texts."""
HALF = 0.5


def outcome_of(
    interval: Interval,
    line: float = HALF,
    most: Interval | None = None,
    least: Interval | None = None,
) -> str:
    """supported if the interval lies above the line, contradicted if below, else inconclusive.

    To be supported, `least` must lie above the line too, if it is given: the interval of what holds
    in any case, such as the effect at sinks with nothing subtracted. A difference from controls is
    no support if it comes from what the controls do.

    To be contradicted, two further intervals must lie below the line if they are known: `most`, the
    interval if all undecided cases counted in favour of the claim; and, for a paired share, that of
    the cases alone (`Interval.cases`): if the effect happens at controls as well, the claim is not
    shown, but not refuted either. Raises `ValueError` for an approximate interval.
    """
    if interval.approximate:
        raise ValueError(
            "expected an exact interval for a verdict, got an approximate one; use "
            "share_over_texts or median_over_texts"
        )
    if all(one.low > line for one in (interval, least) if one is not None):
        return "supported"
    bounds = (interval, interval.cases, most)
    below = all(one.high < line for one in bounds if one is not None)
    return "contradicted" if below else "inconclusive"


def left_open_by_controls(interval: Interval, line: float = HALF) -> bool:
    """Whether a paired share lies below the line only because it happens at controls as well."""
    return interval.cases is not None and interval.high < line <= interval.cases.high


def too_few(
    n_sinks: int,
    n_texts: int,
    left_out: Mapping[str, int] | None = None,
    n_claims: int = 1,
    *,
    controlled: bool = True,
    counted: str = "sink",
    grouped: str = "text",
) -> str:
    """Why there are too few sinks or texts for a verdict; empty where there are enough.

    `left_out` counts the sinks that were left out, by reason; `controlled` says whether only sinks
    with a control count. `counted` and `grouped` are nouns, where other things than sinks and texts
    are counted.

    >>> too_few(0, 0, {"not formed by any MLP": 7, "without a control": 0})
    'no secondary sink could be tested (7 not formed by any MLP), so no claim is made'
    >>> too_few(0, 0, controlled=False, counted="token")
    'no token was found, so no claim is made'
    """
    needed = min_texts(n_claims)
    if n_sinks >= MIN_SINKS and n_texts >= needed:
        return ""
    reasons = [f"{number} {reason}" for reason, number in (left_out or {}).items() if number]
    kind = "secondary sink" if counted == "sink" else counted
    if not n_sinks and reasons:
        return f"no {kind} could be tested ({', '.join(reasons)}), so no claim is made"
    if not n_sinks:
        which = " with a control" if controlled else ""
        return f"no {kind}{which} was found, so no claim is made"
    together = f" to decide {n_claims} claims together" if n_claims > 1 else ""
    where = " with controls" if controlled else ""
    few = f"only {count(n_sinks, counted)} in" if n_sinks < MIN_SINKS else ""
    found = f"{few or f'{count(n_sinks, counted)} in only'} {count(n_texts, grouped)}{where}"
    return (
        f"{found}; at least {MIN_SINKS} {counted}s in {needed} {grouped}s are needed{together}, "
        f"since fewer {grouped}s can all agree by chance"
    )
