"""Exact intervals over texts, for shares and medians: those that verdicts rest on.

The values of a text are first averaged, so that a text with twenty sinks counts as one observation,
whether their outcomes are independent or all the same. Texts are assumed to be independent of each
other; nothing is assumed about the distribution.

*Mean of bounded numbers* (`share_over_texts`). The mean of independent numbers in [0, 1] is smaller
in convex order than the share of successes in Bernoulli trials with the same mean (Hoeffding 1956,
1963). Its tail is therefore at most E(B - h)+ / (s - h), with B binomial, at the best h (Bentkus
2004). For texts that are all 0 or 1 this is nearly the Clopper-Pearson interval.

*Median of any numbers* (`median_over_texts`). Order statistics, which is a sign test.

With n texts no p-value is below 2^-n. The mean of unbounded numbers has no such interval (Bahadur
and Savage 1956); `statistics.descriptive` has an approximate one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from secondary_sinks.errors import MeasureError
from secondary_sinks.numbers import whole_number
from secondary_sinks.statistics.given import (
    check_bounds,
    names_of_texts,
    paired_numbers,
    within,
)

CONFIDENCE = 0.95
SHARE, DIFFERENCE = (0.0, 1.0), (-1.0, 1.0)
"""Bounds of a share of sinks, and of the difference between two shares."""

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A statistic over texts, with its interval; NaN where it is unknown."""

    value: float
    low: float
    high: float
    n: int
    """Number of values that were used: those that are not NaN."""
    n_texts: int
    approximate: bool = False
    """Whether the interval is a description only; a verdict based on it is refused."""
    cases: "Interval | None" = None
    """Of a paired share: the share of cases alone, whatever happens at their controls."""


def tail_probability(n_claims: int) -> float:
    """Error rate of each side of an interval, so that `n_claims` intervals hold together at 95 %.

    0.025 / n: Bonferroni's correction.

    >>> round(tail_probability(1), 4), round(tail_probability(10), 4)
    (0.025, 0.0025)
    """
    return (1 - CONFIDENCE) / 2 / whole_number("n_claims", n_claims, MeasureError, 1)


def claims_together(given: int | None, default: int) -> int:
    """Number of claims that intervals are corrected for: as given, or by default at least 1.

    Raises `MeasureError` for a number below 1.

    >>> claims_together(None, 0), claims_together(7, 3)
    (1, 7)
    """
    if given is None:
        return max(default, 1)
    return whole_number("n_claims", given, MeasureError, 1)


def min_texts(n_claims: int = 1) -> int:
    """Smallest number of texts that can decide against one half.

    The smallest n with 2^-n <= `tail_probability`: the p-value of n texts that all agree is 2^-n.

    >>> min_texts(1), min_texts(13)
    (6, 10)
    """
    return math.ceil(-math.log2(tail_probability(n_claims)))


def share_over_texts(
    values: ArrayLike,
    texts: Sequence[str],
    *,
    n_claims: int = 1,
    bounds: tuple[float, float] = SHARE,
) -> Interval:
    """Mean of the text means of numbers within `bounds`, with an exact interval.

    `texts` names the text of each value. Each end lies on the wrong side of the expected mean with
    a probability of at most 2.5 % / `n_claims`, for any number of texts and any dependence within a
    text. NaN values are left out. With fewer than two texts the interval is NaN. Raises
    `MeasureError` for values beyond the bounds, for which there is no such interval.
    Source: Bentkus 2004 (doi 10.1214/009117904000000360).
    """
    least, most = check_bounds(bounds)
    numbers = within("a value", np.asarray(values, dtype=float), least, most)
    means, n = text_means(numbers, texts)
    low, high, tail = math.nan, math.nan, tail_probability(n_claims)
    if len(means) >= 2:
        width = most - least
        total = float(((means - least) / width).sum())
        low = least + width * _smallest_mean(total, len(means), tail)
        high = least + width * (1 - _smallest_mean(len(means) - total, len(means), tail))
    value = float(means.mean()) if len(means) else math.nan
    return Interval(value=value, low=low, high=high, n=n, n_texts=len(means))


def paired_share_over_texts(
    case: ArrayLike, control: ArrayLike, texts: Sequence[str], *, n_claims: int = 1
) -> Interval:
    """Share of cases in which something happens that does not happen at the matched control.

    `share_over_texts` of case x (1 - control). Both are shares in [0, 1]: 0 or 1, or the share of
    several seeds. A value above one half means that it happens at most cases, and at more cases
    than controls: what happens at both alike does so, at one without the other, in at most half of
    the pairs. A value below one half may be due to the controls; `Interval.cases` tells, which is
    the share of the same cases alone. Pairs with NaN are left out.
    """
    alone, at_control = (
        within(f"a {name}", numbers, *SHARE)
        for name, numbers in zip(
            ("case", "control"), paired_numbers(case=case, control=control), strict=True
        )
    )
    paired = share_over_texts(alone * (1 - at_control), texts, n_claims=n_claims)
    known = np.where(np.isnan(at_control), np.nan, alone)
    return replace(paired, cases=share_over_texts(known, texts, n_claims=n_claims))


def median_over_texts(values: ArrayLike, texts: Sequence[str], *, n_claims: int = 1) -> Interval:
    """Median of the text means, with an exact interval between two of them (a sign test).

    Each end lies on the wrong side of the true median with a probability of at most 2.5 % /
    `n_claims`, for any distribution. NaN values are left out. With fewer than `min_texts` texts
    the interval is NaN.
    """
    means, n = text_means(values, texts)
    ordered, low, high = np.sort(means), math.nan, math.nan
    tails = special.bdtr(np.arange(len(means)), len(means), 0.5)
    outside = int((tails <= tail_probability(n_claims)).sum())
    if outside:
        low, high = float(ordered[outside - 1]), float(ordered[-outside])
    value = float(np.median(means)) if len(means) else math.nan
    return Interval(value=value, low=low, high=high, n=n, n_texts=len(means))


def text_means(values: ArrayLike, texts: Sequence[str]) -> tuple[Values, int]:
    """Mean by text, ordered by the texts' names, and the number of values that are not NaN.

    >>> text_means([1.0, 3.0, float("nan"), 8.0], ["a", "a", "b", "c"])
    (array([2., 8.]), 3)
    """
    sums, sizes = text_sums(values, texts)
    return sums / sizes, int(sizes.sum())


def text_sums(values: ArrayLike, texts: Sequence[str]) -> tuple[Values, NDArray[np.int64]]:
    """Sum and number of values by text, ordered by the texts' names; NaN values are left out.

    Raises `MeasureError` unless each value has the name of its text.
    """
    (numbers,) = paired_numbers(values=values)
    known = ~np.isnan(numbers)
    names = np.asarray(names_of_texts(texts, len(numbers)), dtype=str)[known]
    rows = np.unique(names, return_inverse=True)[1]
    return np.bincount(rows, numbers[known]).astype(np.float64), np.bincount(rows)


def p_of_mean(total: float, n: int, mean: float) -> float:
    """Upper bound of the probability that `n` numbers in [0, 1] add up to `total` or more.

    The numbers are independent, and their expected mean is `mean`.

    >>> round(p_of_mean(6, 6, 0.5) * 2**6, 9)
    1.0
    """
    beyond = special.bdtrc(np.arange(n), n, mean)[::-1].cumsum()[::-1]  # E(B - h)+, h = 0, 1, ...
    steps = np.arange(n)
    below = steps < total
    if not below.any():
        return 1.0
    return float(min(1.0, (beyond[below] / (total - steps[below])).min()))


def _smallest_mean(total: float, n: int, tail: float) -> float:
    """Lower end: the expected mean at which a sum of `total` or more has probability `tail`."""
    if total <= 0:
        return 0.0
    return float(optimize.brentq(lambda mean: p_of_mean(total, n, mean) - tail, 0.0, total / n))
