"""How sure are we? Intervals over texts, a test of trend, and when there is too little to say.

Intervals that verdicts rest on are those of `detection.over_texts`: exact at every number of
texts, and corrected for all claims of one report, so that any of them is false in at most 5 % of
reports (2.5 % on each side).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import stats

from secondary_sinks.statistics.exact import (
    CONFIDENCE,
    DIFFERENCE,
    SHARE,
    Interval,
    Values,
    least_texts,
    mean_over_texts,
    median_over_texts,
    share_over_texts,
    t_reach,
    tail_of,
)

__all__ = [
    "CONFIDENCE",
    "DIFFERENCE",
    "HALF",
    "LEAST_IN_TEXT",
    "PERMUTATIONS",
    "SHARE",
    "Interval",
    "Within",
    "jackknife",
    "least_texts",
    "mean_over_texts",
    "median_over_texts",
    "outcome_of",
    "paired_over_texts",
    "rank_correlation",
    "share_over_texts",
    "tail_of",
    "too_few",
    "trend",
    "within_texts",
]

LEAST_SINKS = 5
"""With fewer sinks a verdict is inconclusive; so it is with fewer than `least_texts` texts."""
HALF = 0.5
PERMUTATIONS = 9_999
LEAST_IN_TEXT = 4
"""Sinks of a text that a partial correlation within it takes at least."""


def paired_over_texts(
    own: ArrayLike, control: ArrayLike, texts: Sequence[str], *, n_claims: int = 1
) -> Interval:
    """Share of cases in which something happens and does not happen to the case's control.

    Both are shares in [0, 1]: of several tries of a case (seeds), or 0 and 1. Above one half it
    happens to most cases, and to more of them than of their controls: what happens to cases and
    controls alike does so, one without the other, in at most half of the pairs. NaN is left out.
    """
    both = np.asarray(own, dtype=float) * (1 - np.asarray(control, dtype=float))
    return share_over_texts(both, texts, n_claims=n_claims)


def jackknife(by_text: Values, statistic: Callable[[Values], float]) -> Interval:
    """A statistic of the sum over texts, with a 95 % interval for description only.

    For ratios of sums: a text counts by how much there is of it. `by_text` has one row per text;
    `statistic` takes the sum of the rows. Texts are left out one at a time; the t distribution has
    n - 1 degrees of freedom (Tukey 1958). The interval is NaN with fewer than two texts.
    """
    n, whole = len(by_text), statistic(by_text.sum(0)) if len(by_text) else math.nan
    left_out = np.array([statistic(by_text.sum(0) - row) for row in by_text]) if n > 1 else by_text
    reach = t_reach(n * whole - (n - 1) * left_out)
    ends = {"low": float(whole - reach), "high": float(whole + reach)}
    return Interval(value=float(whole), **ends, n=n, n_texts=n, approximate=True)


def rank_correlation(doses: ArrayLike, responses: ArrayLike) -> float:
    """Spearman's, in [-1, 1]; 0 where the response is the same at all doses.

    >>> rank_correlation([1, 2, 3], [0, 5, 7]), rank_correlation([1, 2, 3], [4, 4, 4])
    (1.0, 0.0)
    """
    one, other = (stats.rankdata(values) for values in (doses, responses))
    if np.ptp(other) == 0:
        return 0.0
    return float(np.clip(np.corrcoef(one, other)[0, 1], -1.0, 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Within:
    """A correlation within texts."""

    interval: Interval
    """Its median over texts."""
    p_high: float
    """How often so high a mean over texts comes of permutations within texts."""
    p_low: float
    """How often so low a one does."""


def within_texts(
    one: ArrayLike,
    other: ArrayLike,
    given: ArrayLike,
    texts: Sequence[str],
    *,
    strata: Sequence[object] | None = None,
    n_claims: int = 1,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> "Within":
    """Partial rank correlation of `one` and `other` inside each text, `given` held fixed.

    What differs between texts has no part in it. With `strata` (such as creation layers) sinks are
    compared within a stratum of a text, and what differs between strata has no part in it either;
    a text counts with the mean over its strata, weighted by their sinks. Each p is of the mean over
    texts; the null hypothesis: within each text (each stratum of it), `one` is exchangeable. It is
    permuted there, and the real order counts among the permutations (Phipson and Smyth 2010), so p
    is exact. Texts (strata) with fewer than four sinks, or in which one of the two never differs,
    say nothing and are not counted.
    """
    columns = np.array([one, other, given], dtype=float)
    places = list(zip(texts, strata if strata is not None else [None] * len(texts), strict=True))
    generator, found, counts = torch.Generator().manual_seed(seed), {}, {}
    for place in dict.fromkeys(places):
        part = columns[:, [place == other_place for other_place in places]]
        if part.shape[1] >= LEAST_IN_TEXT:
            values = _real_and_permuted(part, permutations, generator)
            if len(values):
                found[place], counts[place] = values, part.shape[1]
    told = {
        text: np.average([found[p] for p in own], axis=0, weights=[counts[p] for p in own])
        for text in dict.fromkeys(texts)
        if (own := [place for place in found if place[0] == text])
    }
    n = sum(counts.values())
    real = [float(values[0]) for values in told.values()]
    interval = replace(median_over_texts(real, list(told), n_claims=n_claims), n=n)
    if not told:
        return Within(interval=interval, p_high=math.nan, p_low=math.nan)
    sums = np.sum(list(told.values()), axis=0)
    high, low = (sums >= sums[0] - 1e-9).mean(), (sums <= sums[0] + 1e-9).mean()
    return Within(interval=interval, p_high=float(high), p_low=float(low))


def _real_and_permuted(part: Values, permutations: int, generator: torch.Generator) -> Values:
    """Partial rank correlations of one text: the real one, then with the first row permuted.

    0 where the first follows from the third; empty where one of the two never differs, or the
    second follows from the third.
    """
    x, y, z = (row - row.mean() for row in stats.rankdata(part, axis=1))
    order = torch.rand(permutations, len(x), generator=generator).argsort(1).numpy()
    drawn, least = np.concatenate([x[None], x[order]]), 1e-6 * len(x) ** 3
    if z.any():
        y = y - z * (y @ z) / (z @ z)
        drawn = drawn - np.outer(drawn @ z, z) / (z @ z)
    if not x.any() or y @ y <= least:
        return np.zeros(0)
    size = np.sqrt((drawn**2).sum(1) * (y @ y))
    return np.divide(drawn @ y, size, out=np.zeros(len(size)), where=size > least)


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


def too_few(
    n_sinks: int, n_texts: int, left_out: Mapping[str, int] | None = None, n_claims: int = 1
) -> str:
    """Why nothing can be said of so few; empty where something can.

    >>> too_few(0, 0, {"that no MLP forms": 7, "without a control": 0})
    'no secondary sink could be asked (7 that no MLP forms), so nothing is claimed'
    """
    needed = least_texts(n_claims)
    if n_sinks >= LEAST_SINKS and n_texts >= needed:
        return ""
    reasons = [f"{number} {reason}" for reason, number in (left_out or {}).items() if number]
    if not n_sinks and reasons:
        return f"no secondary sink could be asked ({', '.join(reasons)}), so nothing is claimed"
    if not n_sinks:
        return "no secondary sink with a control was found, so nothing is claimed"
    together = f" to decide {n_claims} claims together" if n_claims > 1 else ""
    return (
        f"{n_sinks} sink(s) in {n_texts} text(s) with controls; at least {LEAST_SINKS} in "
        f"{needed} are needed{together}: if fewer texts all agree, that can still be chance"
    )


def outcome_of(interval: Interval, line: float = HALF) -> str:
    """supported where the interval lies above the line, contradicted where it lies below it.

    Raises `ValueError` for an interval that is for description only.
    """
    if interval.approximate:
        raise ValueError(
            "an interval for description only decides nothing; use share_over_texts or "
            "median_over_texts"
        )
    if interval.low > line:
        return "supported"
    return "contradicted" if interval.high < line else "inconclusive"
