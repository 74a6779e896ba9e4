"""Means, totals and ratios over texts, with approximate intervals: for descriptions and figures.

Their intervals are t intervals. They hold where text means are about normal, which is not known, so
no verdict rests on them: each `Interval` is marked `approximate`.

`mean_over_texts` and `pooled_mean` differ in their weights. On the values 1, 1, 1 in one text and 0
in another, the first is 0.5 (each text weighs the same), the second 0.75 (each value does).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from secondary_sinks.errors import MeasureError
from secondary_sinks.numbers import whole_number
from secondary_sinks.statistics.given import paired_numbers
from secondary_sinks.statistics.over_texts import (
    CONFIDENCE,
    Interval,
    Values,
    text_means,
    text_sums,
)

MOST_TEXTS = 10_000_000
"""More texts than anyone counts over; resampling them would take hours."""


def mean_over_texts(values: ArrayLike, texts: Sequence[str]) -> Interval:
    """Mean of the text means, with an approximate t interval: each text weighs the same.

    `texts` names the text of each value. NaN values are left out. With fewer than two texts the
    interval is NaN.
    """
    means, n = text_means(values, texts)
    value = float(means.mean()) if len(means) else math.nan
    return _approximate(value, half_width(means), n=n, n_texts=len(means))


def pooled_mean(values: ArrayLike, texts: Sequence[str]) -> Interval:
    """Mean of all values, with an approximate interval over texts: each value weighs the same.

    A text with more values thus weighs more. The interval is a jackknife over texts (`jackknife`).
    NaN values are left out. With fewer than two texts the interval is NaN.

    >>> values, texts = [1.0, 1.0, 1.0, 0.0], ["a", "a", "a", "b"]
    >>> pooled_mean(values, texts).value, mean_over_texts(values, texts).value
    (0.75, 0.5)
    """
    sums, sizes = text_sums(values, texts)
    found = jackknife(np.stack([sums, sizes], axis=1), lambda total: float(total[0] / total[1]))
    return replace(found, n=int(sizes.sum()))


def total_over_texts(counts: ArrayLike, n_texts: int) -> Interval:
    """Sum of counts over `n_texts` texts, with an approximate interval that ends at 0 or above.

    `counts` has one number per text; texts that are not in it count 0. The interval is the t
    interval of the mean per text, times the number of texts; NaN with fewer than two texts.

    >>> found = total_over_texts([2.0, 1.0], n_texts=4)
    >>> found.value, round(found.low, 2), round(found.high, 2)
    (3.0, 0.0, 9.09)
    """
    (given,) = paired_numbers(counts=counts)
    n_texts = whole_number("n_texts", n_texts, MeasureError, 0)
    if not len(given) <= n_texts <= MOST_TEXTS:
        raise MeasureError(
            f"n_texts is {n_texts} for the counts of {len(given)} texts",
            f"expected the number of all texts, at most {MOST_TEXTS}",
        )
    by_text = np.concatenate([given, np.zeros(n_texts - len(given))])
    reach = n_texts * half_width(by_text)
    found = _approximate(float(by_text.sum()), reach, n=n_texts, n_texts=n_texts)
    return replace(found, low=float(np.maximum(0.0, found.low)))


def jackknife(by_text: Values, statistic: Callable[[Values], float]) -> Interval:
    """A statistic of a sum over texts, with an approximate 95 % interval.

    For ratios of sums, in which a text weighs by its size. `by_text` has one row per text;
    `statistic` takes the sum of the rows. Pseudo-values from leaving out one text at a time, and
    the t distribution with n - 1 degrees of freedom. With fewer than two texts the interval is NaN.
    Source: Tukey 1958, Annals of Mathematical Statistics 29, 614.
    """
    n, whole = len(by_text), statistic(by_text.sum(0)) if len(by_text) else math.nan
    without = np.array([statistic(by_text.sum(0) - row) for row in by_text] if n > 1 else [])
    pseudo_values = n * whole - (n - 1) * without
    return _approximate(float(whole), half_width(pseudo_values), n=n, n_texts=n)


def mean_and_percentiles(values: ArrayLike) -> dict[str, float]:
    """Mean (`value`), and 10th and 90th percentile (`low`, `high`), of values over tokens.

    The percentiles describe how tokens differ; they are not an interval of the mean. NaN values are
    left out; all three are NaN without values.

    >>> mean_and_percentiles([0.0, 5.0, 10.0])
    {'value': 5.0, 'low': 1.0, 'high': 9.0}
    """
    numbers = np.asarray(values, dtype=float)
    known = numbers[~np.isnan(numbers)]
    if not len(known):
        return dict.fromkeys(("value", "low", "high"), math.nan)
    low, high = np.quantile(known, (0.1, 0.9))
    return {"value": float(known.mean()), "low": float(low), "high": float(high)}


def half_width(values: Values) -> float:
    """Half of the length of the 95 % t interval of a mean; NaN with fewer than two values.

    t(0.975, n - 1) x standard deviation / sqrt(n).
    """
    n = len(values)
    if n < 2:
        return math.nan
    return float(special.stdtrit(n - 1, (1 + CONFIDENCE) / 2) * values.std(ddof=1) / math.sqrt(n))


def effective_texts(values: Values, weights: Values) -> float:
    """Effective number of texts behind a weighted sum over texts; 0 where the sum is not positive.

    (sum w x)^2 / sum w x^2, after each value is cut down to the median of the positive values, so
    that one long text counts no more than a usual one. `weights` says how often each text is drawn.
    Source: Kish 1965, Survey Sampling.

    >>> effective_texts(np.array([1.0, 1.0, 50.0]), np.ones(3))
    3.0
    >>> effective_texts(np.array([1.0, -2.0]), np.ones(2))
    0.0
    """
    if not (values > 0).any():
        return 0.0
    capped = np.minimum(values, np.median(values[values > 0]))
    total = float(weights @ capped)
    return total**2 / float(weights @ capped**2) if total > 0 else 0.0


def _approximate(value: float, reach: float, *, n: int, n_texts: int) -> Interval:
    return Interval(
        value=value,
        low=value - reach,
        high=value + reach,
        n=n,
        n_texts=n_texts,
        approximate=True,
    )
