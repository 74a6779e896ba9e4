"""Approximate intervals: by hand, how often they cover, and that no verdict rests on them."""

import math

import numpy as np
import pytest

from secondary_sinks.statistics import (
    effective_texts,
    jackknife,
    mean_over_texts,
    outcome_of,
    pooled_mean,
    total_over_texts,
)


def _ends(interval):
    return interval.low, interval.high


def test_means_weigh_texts_or_values_as_their_names_say():
    """The same data, two statistics: three ones in one text, a zero in another."""
    values, texts = [1.0, 1.0, 1.0, 0.0], list("aaab")
    assert mean_over_texts(values, texts).value == 0.5
    assert pooled_mean(values, texts).value == 0.75
    for found in (mean_over_texts(values, texts), pooled_mean(values, texts)):
        assert (found.n, found.n_texts) == (4, 2)


@pytest.mark.parametrize(
    "found",
    [
        mean_over_texts([0.9, 0.8, 0.9], list("abc")),
        pooled_mean([0.9, 0.8, 0.9], list("abc")),
        total_over_texts([3.0, 4.0], 3),
        jackknife(np.ones((3, 2)), lambda sums: float(sums[0] / sums[1])),
    ],
)
def test_no_verdict_rests_on_an_approximate_interval(found):
    with pytest.raises(ValueError, match="description only"):
        outcome_of(found)


def test_the_pooled_mean_by_hand():
    """Texts with means 1 and 3, of 1 and 3 values: mean 2.5, pseudo-values 2 and 4."""
    values, texts = [1.0, 3.0, 3.0, 3.0, math.nan], list("abbbb")
    found = pooled_mean(values, texts)
    assert (found.value, found.n, found.n_texts) == (2.5, 4, 2)
    assert (found.high - found.low) / 2 == pytest.approx(
        12.706 * np.std([2, 4], ddof=1) / math.sqrt(2), rel=1e-3
    )
    assert math.isnan(pooled_mean(values[:1], texts[:1]).low)
    assert math.isnan(pooled_mean(values[4:], texts[4:]).value)


def test_the_interval_of_a_total_by_hand():
    """Three texts with 4, 2 and 0 sinks: sum 6, deviation 2, t(0.975, 2) = 4.303, times sqrt 3."""
    found = total_over_texts([4.0, 2.0], 3)
    assert (found.value, found.low) == (6, 0)
    assert found.high == pytest.approx(6 + 4.303 * 2 * math.sqrt(3), abs=0.01)
    assert all(math.isnan(end) for end in _ends(total_over_texts([4.0], 1)))


@pytest.mark.parametrize("n_texts", [10, 40])
def test_the_interval_of_a_total_covers_though_sinks_of_one_text_come_together(n_texts):
    """Texts differ in their rate (gamma), so sinks are no independent events."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(400):
        counts = rng.poisson(rng.gamma(2.0, 3.0, n_texts)).astype(float)
        low, high = _ends(total_over_texts(counts[counts > 0], n_texts))
        held += low <= 6.0 * n_texts <= high
    assert held / 400 > 0.9


def test_the_effective_number_of_texts_by_hand():
    ones = np.ones(4)
    assert effective_texts(np.array([2.0, 2, 2, 2]), ones) == 4
    assert effective_texts(np.array([3.0, 1, 0, 0]), ones) == 9 / 5, "3 is cut down to 2"
    assert effective_texts(np.array([1.0, 1, 0, 0]), np.array([2.0, 1, 1, 1])) == 3
    assert effective_texts(np.array([1.0, 1, 1, -2]), ones) == 1 / 7
    assert effective_texts(np.zeros(4), ones) == effective_texts(-ones, ones) == 0
