"""The interval of sign flips: by hand, against its own test, and its error rate, exactly."""

import itertools
import math

import numpy as np
import pytest

from secondary_sinks.statistics import min_texts, sign_flip_interval, tail_probability
from secondary_sinks.statistics.permutations import ALL_SUBSETS_UP_TO

TAIL, FEWEST = tail_probability(1), min_texts()


def flipped_p(values, centre):
    """Share of sign patterns with as large a sum of deviations from a centre, all of them tried."""
    away = values - centre
    signs = np.array(list(itertools.product([1, -1], repeat=len(values))))
    return np.mean(signs @ away >= away.sum() - 1e-12)


def test_six_that_agree_are_the_fewest_that_say_anything():
    assert FEWEST == 6
    assert 2.0**-FEWEST <= TAIL < 2.0 ** -(FEWEST - 1)
    assert math.isnan(sign_flip_interval(np.arange(1.0, 6))[1])
    assert sign_flip_interval(np.array([3.0, 1, 2, np.nan, 6, 5, 4])) == (3.5, 1.0, 6.0)


@pytest.mark.parametrize("n", [6, 7, 9])
def test_it_is_the_test_of_sign_flips_turned_round(n):
    values = np.random.default_rng(n).normal(0.5, 1.0, n)
    _, low, high = sign_flip_interval(values)
    assert flipped_p(values, low - 1e-6) <= TAIL < flipped_p(values, low + 1e-6)
    assert flipped_p(-values, -(high + 1e-6)) <= TAIL < flipped_p(-values, -(high - 1e-6))


@pytest.mark.parametrize(("n", "n_claims"), [(6, 1), (7, 1), (8, 1), (10, 1), (8, 3), (10, 9)])
def test_the_error_rate_of_each_side_holds_exactly(n, n_claims):
    """Every pattern of signs of given sizes, also wild ones, is as likely under the null."""
    sizes = np.exp(np.random.default_rng(n).normal(0, 2, n))
    ends = [
        sign_flip_interval(np.array(signs) * sizes, n_claims)[1:]
        for signs in itertools.product([1, -1], repeat=n)
    ]
    low, high = np.array(ends).T
    assert 0 < np.mean(low > 0) <= TAIL / n_claims
    assert 0 < np.mean(high < 0) <= TAIL / n_claims


@pytest.mark.parametrize("n_claims", [1, 2, 3, 14])
def test_the_fewest_numbers_of_several_claims_are_those_that_can_say_anything(n_claims):
    least = min_texts(n_claims)
    assert 2.0**-least <= TAIL / n_claims < 2.0 ** -(least - 1)
    assert math.isnan(sign_flip_interval(np.arange(1.0, least), n_claims)[1])
    assert sign_flip_interval(np.arange(1.0, least + 1), n_claims)[1] == 1.0


def test_of_many_numbers_subsets_are_drawn_and_the_ends_are_close():
    values = np.random.default_rng(1).normal(1.0, 1.0, ALL_SUBSETS_UP_TO + 14)
    mean, low, high = sign_flip_interval(values)
    reach = 2.045 * values.std(ddof=1) / math.sqrt(len(values))
    assert (mean - low, high - mean) == (pytest.approx(reach, rel=0.15),) * 2
    assert sign_flip_interval(values) == (mean, low, high)
