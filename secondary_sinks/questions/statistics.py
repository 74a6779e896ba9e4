"""How sure are we? Intervals over texts, a test of trend, and when there is too little to say.

The unit is the text: sinks of one text share a model, a topic and often a cause, so a text with
twenty sinks counts as one observation. Means are not resampled: with few texts the t distribution
says what a bootstrap of three texts could not. What is no mean is (`cluster_bootstrap`), and made
wider for it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import stats

LEAST_SINKS, LEAST_TEXTS = 5, 3
"""With fewer sinks or texts a verdict is inconclusive."""
CONFIDENCE = 0.95
HALF = 0.5
SHARE, DIFFERENCE = (0.0, 1.0), (-1.0, 1.0)
"""Bounds of a share of sinks, and of the difference of two."""
PERMUTATIONS = 9_999
RESAMPLES, LEAST_TO_DRAW = 999, 6

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean over texts, with its interval; NaN where it is unknown."""

    value: float
    low: float
    high: float
    n: int
    """Numbers that went in: those that are known."""
    n_texts: int


def tail_of(n_tried: int) -> float:
    """What an interval leaves out on each side, so that `n_tried` of them hold together at 95 %.

    Bonferroni's correction.

    >>> round(tail_of(1), 4), round(tail_of(10), 4)
    (0.025, 0.0025)
    """
    return (1 - CONFIDENCE) / 2 / max(n_tried, 1)


def mean_over_texts(
    values: ArrayLike,
    texts: Sequence[str],
    *,
    n_tried: int = 1,
    bounds: tuple[float, float] | None = None,
) -> Interval:
    """Mean of the texts' means, with a t interval over texts, corrected for `n_tried`.

    Numbers that are NaN are left out. `bounds` are given where the numbers are zeros and ones, or
    differences of such: where all texts agree they show no variance, and an interval of no width
    would be a lie. One text more, at one half, is therefore counted in the interval, as Agresti
    and Coull (1998) do with trials, and the interval ends at the bounds. With fewer than two
    texts the interval is NaN.
    """
    numbers = np.asarray(values, dtype=float)
    known = ~np.isnan(numbers)
    names, rows = np.unique(np.asarray(texts, dtype=object)[known].astype(str), return_inverse=True)
    if not len(names):
        return Interval(value=math.nan, low=math.nan, high=math.nan, n=0, n_texts=0)
    means = np.bincount(rows, numbers[known]) / np.bincount(rows)
    low, high = _t_interval(np.append(means, HALF) if bounds else means, tail_of(n_tried))
    if len(names) < 2:
        low = high = math.nan
    elif bounds:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    return Interval(
        value=float(means.mean()), low=low, high=high, n=int(known.sum()), n_texts=len(names)
    )


def _t_interval(means: Values, tail: float) -> tuple[float, float]:
    n = len(means)
    if n < 2:
        return math.nan, math.nan
    reach = stats.t.ppf(1 - tail, n - 1) * means.std(ddof=1) / math.sqrt(n)
    return float(means.mean() - reach), float(means.mean() + reach)


def jackknife(
    by_text: Values, statistic: Callable[[Values], float], *, n_tried: int = 1
) -> Interval:
    """A statistic of the sum over texts, with the interval from leaving out one text at a time.

    For ratios of sums: a text counts by how much there is of it. `by_text` has one row per text;
    `statistic` takes the sum of the rows. The t distribution has n - 1 degrees of freedom (Tukey
    1958); the interval is NaN with fewer than two texts.
    """
    n, whole = len(by_text), statistic(by_text.sum(0)) if len(by_text) else math.nan
    low = high = math.nan
    if n >= 2:
        left_out = np.array([statistic(by_text.sum(0) - row) for row in by_text])
        pseudo = n * whole - (n - 1) * left_out
        reach = stats.t.ppf(1 - tail_of(n_tried), n - 1) * pseudo.std(ddof=1) / math.sqrt(n)
        low, high = float(whole - reach), float(whole + reach)
    return Interval(value=float(whole), low=low, high=high, n=n, n_texts=n)


def cluster_bootstrap(
    texts: Sequence[str],
    statistic: Callable[[NDArray[np.int64]], float],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """A statistic of rows, with the interval from drawing whole texts anew, with replacement.

    For statistics that are no mean, as rank correlations. `statistic` takes the numbers of the
    rows (a row of a text that was drawn twice is there twice). The interval goes between
    percentiles, moved outwards as far as the t distribution of n - 1 texts is wider than the normal
    (the expanded percentile interval of Hesterberg 2015, arXiv 1411.5279): plain percentiles are
    too narrow with few texts. Resamples in which the statistic is NaN don't count. NaN with fewer
    than six texts: no draw goes beyond what single texts say, and the truth lies beyond all n of
    them in 2 of 2^n cases, with five texts more often than 5 %.
    """
    names, owner = np.unique(np.asarray(texts, dtype=object).astype(str), return_inverse=True)
    n = len(names)
    value = statistic(np.arange(len(owner))) if n else math.nan
    low = high = math.nan
    if n >= LEAST_TO_DRAW:
        members = [np.flatnonzero(owner == index) for index in range(n)]
        generator = torch.Generator().manual_seed(seed)
        draws = torch.randint(n, (resamples, n), generator=generator).tolist()
        found = [statistic(np.concatenate([members[one] for one in draw])) for draw in draws]
        tail = float(stats.norm.cdf(math.sqrt(n / (n - 1)) * stats.t.ppf(tail_of(1), n - 1)))
        if not np.isnan(found).all():
            low, high = (float(one) for one in np.nanquantile(found, [tail, 1 - tail]))
    return Interval(value=float(value), low=low, high=high, n=len(owner), n_texts=n)


def rank_correlation(doses: ArrayLike, responses: ArrayLike) -> float:
    """Spearman's, in [-1, 1]; 0 where the response is the same at all doses.

    >>> rank_correlation([1, 2, 3], [0, 5, 7]), rank_correlation([1, 2, 3], [4, 4, 4])
    (1.0, 0.0)
    """
    one, other = (stats.rankdata(values) for values in (doses, responses))
    if np.ptp(other) == 0:
        return 0.0
    return float(np.clip(np.corrcoef(one, other)[0, 1], -1.0, 1.0))


def partial_rank_correlation(one: ArrayLike, other: ArrayLike, given: ArrayLike) -> float:
    """Spearman's, with the ranks of a third quantity held fixed, in [-1, 1].

    NaN where one of the two never differs, or follows from the third.

    >>> round(partial_rank_correlation([1, 2, 3, 4], [2, 1, 4, 3], [1, 4, 3, 2]), 3)
    0.667
    """
    ranks = np.stack([stats.rankdata(values) for values in (one, other, given)])
    x, y, z = ranks - ranks.mean(1, keepdims=True)
    if z.any():
        x, y = (one - z * (one @ z) / (z @ z) for one in (x, y))
    size = np.sqrt((x @ x) * (y @ y))
    return float(np.clip(x @ y / size, -1, 1)) if size > 1e-6 * len(x) ** 3 else math.nan


def trend(responses: Values, seed: int = 0) -> float:
    """How often are the doses of no consequence and the responses as much in their order? p.

    `responses` is `[text, dose]`, in ascending order of doses. Page's test (1963), with ties:
    the statistic is the sum over texts of the rank correlation of dose and response; under the
    null hypothesis the doses of each text are exchangeable, so they are permuted within texts.
    One-sided; the real order counts among the permutations (Phipson and Smyth 2010). NaN without
    a text.
    """
    if not len(responses):
        return math.nan
    ranks = stats.rankdata(responses, axis=1)
    centred = ranks - ranks.mean(1, keepdims=True)
    length = np.sqrt((centred**2).sum(1, keepdims=True))
    scaled = np.divide(centred, length, out=np.zeros_like(centred), where=length > 0)
    doses = np.arange(responses.shape[1]) - (responses.shape[1] - 1) / 2
    real = float((scaled @ doses).sum())
    generator = torch.Generator().manual_seed(seed)
    null = np.zeros(PERMUTATIONS)
    for row in scaled:
        order = torch.rand(PERMUTATIONS, len(doses), generator=generator).argsort(1).numpy()
        null += row[order] @ doses
    return (int((null >= real - 1e-9).sum()) + 1) / (PERMUTATIONS + 1)


def too_few(n_sinks: int, n_texts: int, left_out: Mapping[str, int] | None = None) -> str:
    """Why nothing can be said of so few; empty where something can.

    >>> too_few(0, 0, {"that no MLP forms": 7, "without a control": 0})
    'no secondary sink could be asked (7 that no MLP forms), so nothing is claimed'
    """
    if n_sinks >= LEAST_SINKS and n_texts >= LEAST_TEXTS:
        return ""
    reasons = [f"{number} {reason}" for reason, number in (left_out or {}).items() if number]
    if not n_sinks and reasons:
        return f"no secondary sink could be asked ({', '.join(reasons)}), so nothing is claimed"
    if not n_sinks:
        return "no secondary sink with a control was found, so nothing is claimed"
    return (
        f"{n_sinks} sink(s) in {n_texts} text(s) with controls; at least {LEAST_SINKS} in "
        f"{LEAST_TEXTS} are needed"
    )


def outcome_of(interval: Interval, line: float = HALF) -> str:
    """supported where the interval lies above the line, contradicted where it lies below it."""
    if interval.low > line:
        return "supported"
    return "contradicted" if interval.high < line else "inconclusive"
