"""Numbers of many sinks -> one number over texts, with an interval that keeps its promise.

The unit is the text: sinks of one text share a model, a topic and often a cause, so a text with
twenty sinks counts as one observation, whether their fates are independent or wholly shared. What
is assumed is that texts are independent of each other; nothing is assumed of the distribution.

Two statistics have such intervals at every number of texts, and verdicts rest on these alone. The
mean of bounded numbers (`share_over_texts`): the mean of independent numbers in [0, 1] lies in
convex order below a share of Bernoulli trials with the same mean (Hoeffding 1956, 1963), so its
tails are bounded by E(B - h)+ / (s - h), B binomial, at the best h (Bentkus 2004). Where texts
are 0 or 1 that is nearly the interval of Clopper and Pearson. The median of any numbers
(`median_over_texts`): order statistics, which is a sign test. With n texts no p is below 2^-n.

The mean of unbounded numbers has no such interval (Bahadur and Savage 1956). `mean_over_texts` has
one by the t distribution, for description; no verdict may rest on it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

CONFIDENCE = 0.95
SHARE, DIFFERENCE = (0.0, 1.0), (-1.0, 1.0)
"""Bounds of a share of sinks, and of the difference of two."""

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A statistic over texts, with its interval; NaN where it is unknown."""

    value: float
    low: float
    high: float
    n: int
    """Numbers that went in: those that are known."""
    n_texts: int
    approximate: bool = False
    """Whether the interval is for description only: a verdict from it is refused."""


def tail_of(n_claims: int) -> float:
    """What an interval leaves out on each side, so that `n_claims` of them hold together at 95 %.

    Bonferroni's correction.

    >>> round(tail_of(1), 4), round(tail_of(10), 4)
    (0.025, 0.0025)
    """
    return (1 - CONFIDENCE) / 2 / max(n_claims, 1)


def least_texts(n_claims: int = 1) -> int:
    """The fewest texts that can decide against one half: with n that all agree, p is 2^-n.

    >>> least_texts(1), least_texts(13)
    (6, 10)
    """
    return math.ceil(-math.log2(tail_of(n_claims)))


def share_over_texts(
    values: ArrayLike,
    texts: Sequence[str],
    *,
    n_claims: int = 1,
    bounds: tuple[float, float] = SHARE,
) -> Interval:
    """Mean of the texts' means of numbers within `bounds`, with an interval that keeps its promise.

    Each end is on the wrong side of the expected mean with a probability of at most 2.5 % /
    `n_claims`, for every number of texts and any fates within a text. NaN values are left out.
    With fewer than two texts the interval is NaN.
    """
    means, n = text_means(values, texts)
    low = high = math.nan
    if len(means) >= 2:
        least, width = bounds[0], bounds[1] - bounds[0]
        total, tail = float(((means - least) / width).sum()), tail_of(n_claims)
        low = least + width * _least_mean(total, len(means), tail)
        high = least + width * (1 - _least_mean(len(means) - total, len(means), tail))
    return Interval(value=_mean(means), low=low, high=high, n=n, n_texts=len(means))


def median_over_texts(values: ArrayLike, texts: Sequence[str], *, n_claims: int = 1) -> Interval:
    """Median of the texts' means, with the interval between two of them (a sign test).

    Each end is on the wrong side of the true median with a probability of at most 2.5 % /
    `n_claims`, whatever the distribution. NaN values are left out. With too few texts to say
    anything (`least_texts`) the interval is NaN.
    """
    means, n = text_means(values, texts)
    ordered, low, high = np.sort(means), math.nan, math.nan
    chances = special.bdtr(np.arange(len(means)), len(means), 0.5)
    outside = int((chances <= tail_of(n_claims)).sum())
    if outside:
        low, high = float(ordered[outside - 1]), float(ordered[-outside])
    value = float(np.median(means)) if len(means) else math.nan
    return Interval(value=value, low=low, high=high, n=n, n_texts=len(means))


def mean_over_texts(values: ArrayLike, texts: Sequence[str]) -> Interval:
    """Mean of the texts' means, with a t interval over texts: for description only.

    It holds where texts' means are about normal. NaN values are left out. With fewer than two
    texts the interval is NaN.
    """
    means, n = text_means(values, texts)
    reach, value = t_reach(means), _mean(means)
    ends = {"low": value - reach, "high": value + reach}
    return Interval(value=value, **ends, n=n, n_texts=len(means), approximate=True)


def t_reach(values: Values) -> float:
    """Half of the length of the 95 % t interval of a mean; NaN with fewer than two values."""
    n = len(values)
    if n < 2:
        return math.nan
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * values.std(ddof=1) / math.sqrt(n))


def text_means(values: ArrayLike, texts: Sequence[str]) -> tuple[Values, int]:
    """Mean by text, in the order of their names, and how many numbers are known.

    >>> text_means([1.0, 3.0, float("nan"), 8.0], ["a", "a", "b", "c"])
    (array([2., 8.]), 3)
    """
    numbers = np.asarray(values, dtype=float)
    known = ~np.isnan(numbers)
    names = np.asarray(texts, dtype=object)[known].astype(str)
    rows = np.unique(names, return_inverse=True)[1]
    return np.bincount(rows, numbers[known]) / np.bincount(rows), int(known.sum())


def p_of_mean(total: float, n: int, mean: float) -> float:
    """At most how often `n` numbers in [0, 1] of this expected mean add up to `total` or more.

    >>> round(p_of_mean(6, 6, 0.5) * 2**6, 9)
    1.0
    """
    beyond = special.bdtrc(np.arange(n), n, mean)[::-1].cumsum()[::-1]  # E(B - h)+, h = 0, 1, ...
    steps = np.arange(n)
    below = steps < total
    if not below.any():
        return 1.0
    return float(min(1.0, (beyond[below] / (total - steps[below])).min()))


def _least_mean(total: float, n: int, tail: float) -> float:
    """The largest expected mean at which so high a total is as rare as `tail`."""
    if total <= 0:
        return 0.0
    return float(optimize.brentq(lambda mean: p_of_mean(total, n, mean) - tail, 0.0, total / n))


def _mean(means: Values) -> float:
    return float(means.mean()) if len(means) else math.nan
