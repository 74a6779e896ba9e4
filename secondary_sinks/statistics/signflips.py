"""Exact intervals over texts: sign flips, turned into an interval.

If each number is as likely to lie so far above as so far below a centre, then so is the mean of
every subset of them (Hartigan 1969, doi 10.1080/01621459.1969.10501057). So the centre lies below
the k-th smallest of the means of all 2^n - 1 subsets in exactly k of 2^n cases, and no
distribution is assumed. This is the test that flips signs, for every centre at once.
"""

import math

import numpy as np
from numpy.typing import NDArray

TAIL = 0.025
"""Error rate of each side of an interval: at most this, for every number of texts."""
LEAST = 6
"""With fewer numbers no subset mean is rare enough: all of five agree in 1 of 32 cases."""
EXACT = 16
"""Up to so many numbers all subsets are taken; of more, as many are drawn, with a fixed seed."""

Values = NDArray[np.float64]


def least_numbers(n_claims: int = 1) -> int:
    """Fewest numbers that can give an interval when so many claims must hold together.

    >>> least_numbers(), least_numbers(10)
    (6, 9)
    """
    return math.ceil(math.log2(n_claims / TAIL))


def sign_flip_interval(values: Values, n_claims: int = 1) -> tuple[float, float, float]:
    """Mean, and the interval for the centre: each end is wrong in at most 2.5 % of cases.

    With `n_claims` that rate holds for so many intervals together. Numbers that are NaN are left
    out; the interval is NaN with fewer than `least_numbers(n_claims)`.

    >>> sign_flip_interval(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
    (3.5, 1.0, 6.0)
    """
    known = values[~np.isnan(values)]
    mean = float(known.mean()) if len(known) else math.nan
    if len(known) < least_numbers(n_claims):
        return mean, math.nan, math.nan
    members = _subsets(len(known))
    sizes, sums = members.sum(1), members @ known
    means = np.divide(sums, sizes, out=np.full(len(sizes), np.nan), where=sizes > 0)
    rank = math.floor(TAIL / n_claims * (len(members) + 1))
    low = np.sort(np.nan_to_num(means, nan=-np.inf))[rank - 1]
    high = np.sort(np.nan_to_num(means, nan=np.inf))[-rank]
    return mean, float(low), float(high)


def _subsets(n: int) -> NDArray[np.int64]:
    """Members of subsets [subset, number]: all that are not empty, or some drawn at random."""
    if n <= EXACT:
        return (np.arange(1, 2**n)[:, None] >> np.arange(n)) & 1
    return np.random.default_rng(0).integers(0, 2, (2**EXACT - 1, n))
