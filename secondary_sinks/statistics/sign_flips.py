"""The sign-flip interval: exact for the centre of symmetric numbers.

If each number is as likely to lie a distance above the centre as the same distance below it, then
so is the mean of every subset of them. The centre then lies below the k-th smallest of the means of
all 2^n - 1 non-empty subsets in exactly k of 2^n cases. This inverts the test that flips signs, and
assumes no distribution beyond symmetry.
Source: Hartigan 1969 (doi 10.1080/01621459.1969.10501057).
"""

import math

import numpy as np
from numpy.typing import NDArray

from secondary_sinks.statistics.over_texts import Values, min_texts, tail_probability

ALL_SUBSETS_UP_TO = 16
"""With more numbers than this, 2^16 - 1 subsets are drawn at random, with a fixed seed."""


def sign_flip_interval(values: Values, n_claims: int = 1) -> tuple[float, float, float]:
    """Mean of numbers (one per text), and the 95 % interval of their centre: (mean, low, high).

    Each end is wrong with a probability of at most 2.5 %, so that `n_claims` intervals hold
    together at 95 %; exact for up to 16 numbers. NaN values are left out; the interval is NaN with
    fewer than `min_texts(n_claims)` numbers: six for one claim.

    >>> sign_flip_interval(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
    (3.5, 1.0, 6.0)
    """
    known = values[~np.isnan(values)]
    mean = float(known.mean()) if len(known) else math.nan
    if len(known) < min_texts(n_claims):
        return mean, math.nan, math.nan
    members = _subsets(len(known))
    sizes, sums = members.sum(1), members @ known
    means = np.divide(sums, sizes, out=np.full(len(sizes), np.nan), where=sizes > 0)
    rank = math.floor(tail_probability(n_claims) * (len(members) + 1))
    low = np.sort(np.nan_to_num(means, nan=-np.inf))[rank - 1]
    high = np.sort(np.nan_to_num(means, nan=np.inf))[-rank]
    return mean, float(low), float(high)


def _subsets(n: int) -> NDArray[np.int64]:
    """Members of subsets `[subset, number]`: all non-empty ones, or a random draw."""
    if n <= ALL_SUBSETS_UP_TO:
        return (np.arange(1, 2**n)[:, None] >> np.arange(n)) & 1
    return np.random.default_rng(0).integers(0, 2, (2**ALL_SUBSETS_UP_TO - 1, n))
