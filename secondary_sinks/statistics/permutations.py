"""Permutation tests within texts, rank correlations, and Holm's correction.

Values are permuted inside each text only, so what differs between texts plays no part. The observed
order counts among the permutations, so each p-value is exact (Phipson and Smyth 2010,
doi 10.2202/1544-6115.1585).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from secondary_sinks.errors import MeasureError
from secondary_sinks.statistics.given import paired_numbers, within
from secondary_sinks.statistics.over_texts import Interval, Values, median_over_texts

PERMUTATIONS = 9_999
MIN_IN_TEXT = 4
"""Smallest number of sinks of a text for a partial correlation within it."""
ROUNDING = 1e-9
"""Permuted statistics this close to the observed one count as equal to it."""


def rank_correlation(doses: ArrayLike, responses: ArrayLike) -> float:
    """Spearman's rank correlation, in [-1, 1]; 0 where all responses are the same.

    NaN without numbers, or with a missing one. Raises `MeasureError` for lists of other lengths.

    >>> rank_correlation([1, 2, 3], [0, 5, 7]), rank_correlation([1, 2, 3], [4, 4, 4])
    (1.0, 0.0)
    """
    numbers = paired_numbers(doses=doses, responses=responses)
    if not len(numbers[0]):
        return math.nan
    dose_ranks, response_ranks = (_ranks(values) for values in numbers)
    if np.ptp(response_ranks) == 0:
        return 0.0
    return float(np.clip(np.corrcoef(dose_ranks, response_ranks)[0, 1], -1.0, 1.0))


def _ranks(values: ArrayLike, axis: int | None = None) -> Values:
    """Ranks from 1, ties at their mean, along an axis or of all values."""
    from scipy import stats  # importing it takes long, and most commands rank nothing

    return np.asarray(stats.rankdata(values, axis=axis))


def page_trend_test(responses: Values, seed: int = 0) -> float:
    """Permutation p-value of Page's trend test: do responses rise with the dose?

    `responses` is `[text, dose]`, with doses in ascending order. The statistic is the sum over
    texts of the rank correlation of dose and response, ties included. Null hypothesis: the doses of
    each text are exchangeable. One-sided, by `PERMUTATIONS` permutations within texts. NaN without
    a text, or with a missing response.
    Source: Page 1963 (doi 10.1080/01621459.1963.10500843).
    """
    responses = np.asarray(responses, dtype=float)
    if not len(responses) or bool(np.isnan(responses).any()):
        return math.nan
    if responses.ndim != 2:
        raise MeasureError(f"responses have shape {list(responses.shape)}", "expected [text, dose]")
    ranks = _ranks(responses, axis=1)
    centred = ranks - ranks.mean(1, keepdims=True)
    length = np.sqrt((centred**2).sum(1, keepdims=True))
    scaled = np.divide(centred, length, out=np.zeros_like(centred), where=length > 0)
    doses = np.arange(responses.shape[1]) - (responses.shape[1] - 1) / 2
    observed = float((scaled @ doses).sum())
    generator = torch.Generator().manual_seed(seed)
    permuted = np.zeros(PERMUTATIONS)
    for row in scaled:
        order = torch.rand(PERMUTATIONS, len(doses), generator=generator).argsort(1).numpy()
        permuted += row[order] @ doses
    return (int((permuted >= observed - ROUNDING).sum()) + 1) / (PERMUTATIONS + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class WithinTexts:
    """A correlation within texts, with its permutation test."""

    interval: Interval
    """Median of the correlation over texts, with its exact interval."""
    p_high: float
    """One-sided p-value of so high a mean over texts."""
    p_low: float
    """One-sided p-value of so low a mean over texts."""


def partial_correlation_within_texts(
    x: ArrayLike,
    y: ArrayLike,
    given: ArrayLike,
    texts: Sequence[str],
    *,
    strata: Sequence[object] | None = None,
    n_claims: int = 1,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> WithinTexts:
    """Partial rank correlation of `x` and `y` inside each text, with `given` held fixed.

    With `strata` (such as creation layers) sinks are compared inside one stratum of a text, and the
    text counts with the mean over its strata, weighted by their sinks. The interval is that of the
    median over texts; the p-values are those of the mean over texts. Null hypothesis: within each
    text (each stratum of it), the values of `x` are exchangeable. Left out are texts (strata) with
    fewer than `MIN_IN_TEXT` sinks, and those in which `x` or `y` does not vary.
    """
    columns = np.stack(paired_numbers(x=x, y=y, given=given))
    for name, one in (("texts", texts), ("strata", strata)):
        if one is not None and len(one) != columns.shape[1]:
            raise MeasureError(
                f"got {len(one)} {name} of {columns.shape[1]} sinks", "expected one of each sink"
            )
    groups = list(zip(texts, [None] * len(texts) if strata is None else strata, strict=True))
    generator = torch.Generator().manual_seed(seed)
    by_group: dict[tuple[str, object], Values] = {}
    for group in dict.fromkeys(groups):
        part = columns[:, [one == group for one in groups]]
        if part.shape[1] >= MIN_IN_TEXT:
            found = _observed_and_permuted(part, permutations, generator)
            by_group |= {group: found} if len(found) else {}
    sizes = {group: groups.count(group) for group in by_group}
    by_text = {text: _mean_of_strata(text, by_group, sizes) for text, _ in by_group}
    n = sum(sizes.values())
    observed = [float(values[0]) for values in by_text.values()]
    interval = replace(median_over_texts(observed, list(by_text), n_claims=n_claims), n=n)
    if not by_text:
        return WithinTexts(interval=interval, p_high=math.nan, p_low=math.nan)
    sums = np.sum(list(by_text.values()), axis=0)
    high, low = (sums >= sums[0] - ROUNDING).mean(), (sums <= sums[0] + ROUNDING).mean()
    return WithinTexts(interval=interval, p_high=float(high), p_low=float(low))


def _mean_of_strata(
    text: str, by_group: Mapping[tuple[str, object], Values], sizes: Mapping[Any, int]
) -> Values:
    """Correlations of a text: the mean over its strata, weighted by their numbers of sinks."""
    own = [group for group in by_group if group[0] == text]
    return np.average(
        [by_group[group] for group in own], axis=0, weights=[sizes[group] for group in own]
    )


def _observed_and_permuted(part: Values, permutations: int, generator: torch.Generator) -> Values:
    """Partial rank correlations of one text: as observed, then with `x` (the first row) permuted.

    0 where `given` determines `x`; empty where `x` or `y` does not vary, or `given` determines `y`.
    """
    x, y, given = (row - row.mean() for row in _ranks(part, axis=1))
    order = torch.rand(permutations, len(x), generator=generator).argsort(1).numpy()
    drawn, negligible = np.concatenate([x[None], x[order]]), 1e-6 * len(x) ** 3
    if given.any():
        y = y - given * (y @ given) / (given @ given)
        drawn = drawn - np.outer(drawn @ given, given) / (given @ given)
    if not x.any() or y @ y <= negligible:
        return np.zeros(0)
    size = np.sqrt((drawn**2).sum(1) * (y @ y))
    return np.divide(drawn @ y, size, out=np.zeros(len(size)), where=size > negligible)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number; NaN stays NaN and is not counted.

    Raises `MeasureError` for what is no probability.
    Source: Holm 1979, Scandinavian Journal of Statistics 6, 65.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    within("a p-value", np.asarray(p_values, dtype=float), 0.0, 1.0)
    tested = sorted((p, index) for index, p in enumerate(p_values) if not math.isnan(p))
    adjusted, largest = [math.nan] * len(p_values), 0.0
    for rank, (p, index) in enumerate(tested):
        largest = max(largest, min(1.0, p * (len(tested) - rank)))
        adjusted[index] = largest
    return adjusted
