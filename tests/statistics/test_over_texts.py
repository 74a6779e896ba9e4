"""Error rates of intervals over texts, computed and not simulated, for every n from 3 to 30."""

from fractions import Fraction
from math import comb, nan

import numpy as np
import pytest
from scipy import stats

from secondary_sinks.statistics import (
    DIFFERENCE,
    mean_over_texts,
    median_over_texts,
    min_texts,
    share_over_texts,
    tail_probability,
)
from secondary_sinks.statistics.over_texts import p_of_mean
from tests.marks import thinned

PROMISE = 0.025
EVERY_N = range(3, 31)


def named(n):
    return [str(number) for number in range(n)]


def said(totals, n, line=0.5, n_claims=1):
    """Where a mean of `n` texts that adds up to each of `totals` is said to lie above the line."""
    shares = [[total / n] * n for total in totals]
    return np.array(
        [share_over_texts(one, named(n), n_claims=n_claims).low > line for one in shares]
    )


def test_the_interval_follows_from_the_sum_of_the_texts_alone():
    mixed = share_over_texts([1.0, 0.5, 1.0, 0.0, 0.5, 0.6], named(6))
    even = share_over_texts([0.6] * 6, named(6))
    assert (mixed.low, mixed.high) == (pytest.approx(even.low), pytest.approx(even.high))


@pytest.mark.parametrize("n", EVERY_N)
@pytest.mark.parametrize("n_claims", [1, 13])
def test_shares_are_falsely_said_to_be_more_than_half_no_more_often_than_promised(n, n_claims):
    """All sinks of a text share one fate, which is a coin: the worst case, in exact numbers."""
    above = said(range(n + 1), n, n_claims=n_claims)
    false = Fraction(sum(comb(n, k) for k in np.flatnonzero(above)), 2**n)
    assert false <= Fraction(tail_probability(n_claims))
    assert above.any() == (n >= min_texts(n_claims))
    # No valid test can say it of a smaller number of texts that agree; ours lags by one at most.
    needed = next((k for k in range(n + 1) if stats.binom.sf(k - 1, n, 0.5) <= PROMISE), None)
    if n_claims == 1 and needed is not None:
        assert int(above.argmax()) - needed in (0, 1)


def total_of(per_text, n):
    """Chances of what `n` texts add up to, from the chances of one text's number of sinks."""
    total = np.ones(1)
    for _ in range(n):
        total = np.convolve(total, per_text)
    return total


@pytest.mark.parametrize("n", EVERY_N)
@pytest.mark.parametrize("shared", thinned([0.0, 0.3, 0.7, 1.0], [0.3, 1.0]))
def test_fates_within_a_text_may_be_shared_by_any_degree(n, shared):
    """Four sinks a text: with chance `shared` one fate for all, else each its own; half of all."""
    independent = stats.binom.pmf(np.arange(5), 4, 0.5)
    together = np.array([0.5, 0, 0, 0, 0.5])
    chances = total_of(shared * together + (1 - shared) * independent, n)
    false = chances[said(np.arange(4 * n + 1) / 4, n)].sum()
    assert false <= PROMISE


@pytest.mark.parametrize("n", EVERY_N)
@pytest.mark.parametrize("line", [0.1, 0.5, 0.8])
def test_texts_of_odd_shapes_keep_the_promise_too(n, line):
    """Mostly a little above the line and seldom none at all: a t interval is wrong most times."""
    share = min(1.0, line * 1.05)
    chance = line / share
    chances = stats.binom.pmf(np.arange(n + 1), n, chance)
    assert chances[said(share * np.arange(n + 1), n, line)].sum() <= PROMISE


@pytest.mark.parametrize("n", EVERY_N)
def test_differences_without_a_truth_support_nothing(n):
    """Own and control fate are coins, shared within the text: -1, 0 or 1 by text."""
    chances = total_of(np.array([0.25, 0.5, 0.25]), n)
    lows = [
        share_over_texts([total / n] * n, named(n), bounds=DIFFERENCE).low
        for total in range(-n, n + 1)
    ]
    assert chances[np.array(lows) > 0].sum() <= PROMISE


@pytest.mark.parametrize("n", EVERY_N)
@pytest.mark.parametrize("n_claims", [1, 6])
def test_a_median_is_wrong_no_more_often_than_promised(n, n_claims):
    """Texts lie above the true median 0 with chance one half: all signs there are, counted."""
    false = Fraction(0)
    for k in range(n + 1):  # k texts above
        got = median_over_texts([1.0] * k + [-1.0] * (n - k), named(n), n_claims=n_claims)
        false += Fraction(comb(n, k), 2**n) * bool(got.low > 0)
        assert np.isnan(got.low) == (n < min_texts(n_claims))
    assert false <= Fraction(tail_probability(n_claims))


@pytest.mark.parametrize("n", thinned([6, 12, 30], [12]))
def test_the_bound_is_that_of_the_best_hinge_by_hand(n):
    for total in (1.0, n / 2 + 0.3, n - 1.5, float(n)):
        for mean in (0.2, 0.5):
            bounds = [1.0]
            for h in range(n):
                if h < total:
                    over = sum(
                        (k - h) * comb(n, k) * mean**k * (1 - mean) ** (n - k)
                        for k in range(h + 1, n + 1)
                    )
                    bounds.append(over / (total - h))
            assert p_of_mean(total, n, mean) == pytest.approx(min(bounds))


@pytest.mark.parametrize("values", [[1.0] * 7, [0.9, 0.4, 0.7, 1.0, 0.2, 0.6, 0.8], [0.0] * 7])
def test_each_end_is_the_mean_at_which_the_numbers_are_as_rare_as_the_tail(values):
    got, n = share_over_texts(values, named(7)), 7
    total = sum(values)
    if total:
        assert p_of_mean(total, n, got.low) == pytest.approx(PROMISE, rel=1e-6)
    else:
        assert got.low == 0.0
    if total < n:
        assert p_of_mean(n - total, n, 1 - got.high) == pytest.approx(PROMISE, rel=1e-6)
    else:
        assert got.high == 1.0
    assert got.low <= got.value <= got.high


def test_the_unit_is_the_text():
    one = share_over_texts([1.0, 0.0, 1.0, 1.0], list("abcd"))
    many = share_over_texts(np.repeat([1.0, 0.0, 1.0, 1.0], 20), np.repeat(list("abcd"), 20))
    assert (one.low, one.high) == (many.low, many.high)
    assert (one.n, many.n, many.n_texts) == (4, 80, 4)


@pytest.mark.parametrize("values", [[], [nan], [0.5, 0.7]])
def test_fewer_than_two_texts_have_no_interval(values):
    for over in (share_over_texts, median_over_texts, mean_over_texts):
        got = over(values, ["a"] * len(values))
        assert np.isnan([got.low, got.high]).all()


def test_a_median_by_hand():
    values = [3.0, 1.0, 2.0, nan, 9.0, 5.0, 4.0, 7.0, 8.0, 6.0]
    got = median_over_texts(values, named(10))
    assert (got.value, got.n, got.n_texts) == (5.0, 9, 9)
    assert (got.low, got.high) == (2.0, 8.0)  # of nine, 1 and 10 heads are 2 x 10 in 512


def test_a_mean_by_hand_in_which_texts_weigh_the_same():
    got = mean_over_texts([1.0, 3.0, 5.0, nan, 8.0], ["a", "a", "b", "b", "c"])
    reach = stats.t.ppf(0.975, 2) * 3.0 / 3**0.5
    assert (got.value, got.n, got.n_texts) == (5.0, 4, 3)
    assert (got.low, got.high) == (pytest.approx(5 - reach), pytest.approx(5 + reach))
    assert got.approximate
