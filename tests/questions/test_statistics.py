"""Intervals and tests on made-up numbers: by hand, and how often they hold."""

import numpy as np
import pytest
from scipy import stats

from secondary_sinks.questions.answer import agreed, told
from secondary_sinks.questions.statistics import (
    DIFFERENCE,
    SHARE,
    Interval,
    jackknife,
    mean_over_texts,
    outcome_of,
    rank_correlation,
    tail_of,
    too_few,
    trend,
)

RUNS = 1000


def allowed(share, runs=RUNS):
    """A share and three standard errors of it."""
    return share + 3 * (share * (1 - share) / runs) ** 0.5


def test_a_mean_by_hand_in_which_texts_weigh_the_same():
    got = mean_over_texts([1.0, 3.0, 5.0, np.nan, 8.0], ["a", "a", "b", "b", "c"])
    reach = stats.t.ppf(0.975, 2) * 3.0 / 3**0.5
    assert (got.value, got.n, got.n_texts) == (5.0, 4, 3)
    assert (got.low, got.high) == (pytest.approx(5 - reach), pytest.approx(5 + reach))


def test_a_share_by_hand_counts_one_text_at_one_half_more():
    got = mean_over_texts([1.0, 1.0, 1.0], ["a", "b", "c"], bounds=SHARE)
    values = np.array([1.0, 1.0, 1.0, 0.5])
    reach = stats.t.ppf(0.975, 3) * values.std(ddof=1) / 2
    assert got.value == 1.0
    assert got.low == pytest.approx(values.mean() - reach)
    assert got.high == 1.0


@pytest.mark.parametrize("values", [[], [np.nan], [0.5, 0.7]])
def test_fewer_than_two_texts_have_no_interval(values):
    got = mean_over_texts(values, ["a"] * len(values), bounds=SHARE)
    assert np.isnan([got.low, got.high]).all()
    assert outcome_of(got) == "inconclusive"


def test_a_jackknife_of_a_mean_is_the_t_interval():
    values = np.array([0.2, 0.5, 0.9, 0.4])
    got = jackknife(np.stack([values, np.ones(4)], 1), lambda sums: sums[0] / sums[1], n_tried=3)
    reach = stats.t.ppf(1 - 0.025 / 3, 3) * values.std(ddof=1) / 2
    assert (got.low, got.high) == (
        pytest.approx(values.mean() - reach),
        pytest.approx(values.mean() + reach),
    )


@pytest.mark.parametrize("n_texts", [3, 5, 10])
@pytest.mark.parametrize("n_tried", [1, 8])
def test_intervals_of_means_hold_as_often_as_promised(n_texts, n_tried):
    """All of `n_tried` together miss it in at most 5 % of runs; sinks of a text are alike."""
    rng, missed = np.random.default_rng(1), 0
    for _ in range(RUNS // 2):
        wrong = False
        for _ in range(n_tried):
            of_text = rng.normal(0.4, 0.3, n_texts)
            sizes = rng.integers(1, 6, n_texts)
            texts = np.repeat(np.arange(n_texts), sizes)
            got = mean_over_texts(of_text[texts], texts.astype(str).tolist(), n_tried=n_tried)
            wrong |= not got.low <= 0.4 <= got.high
        missed += wrong
    assert missed / (RUNS // 2) <= allowed(0.05, RUNS // 2)


@pytest.mark.parametrize("n_texts", [3, 5, 10])
@pytest.mark.parametrize("chance", [0.3, 0.5])
@pytest.mark.parametrize("alike", [False, True])
def test_a_share_of_at_most_half_is_seldom_said_to_be_more(n_texts, chance, alike):
    """False claims in at most 2.5 % of runs, however alike the sinks of a text are."""
    rng, false = np.random.default_rng(2), 0
    texts = np.repeat(np.arange(n_texts), 4)
    for _ in range(RUNS):
        ends = rng.random(n_texts)[texts] if alike else rng.random(len(texts))
        got = mean_over_texts(ends < chance, texts.astype(str).tolist(), bounds=SHARE)
        false += outcome_of(got) == "supported"
    assert false / RUNS <= allowed(0.025)


@pytest.mark.parametrize("n_texts", [3, 5, 10])
def test_differences_without_a_truth_support_nothing(n_texts):
    rng, false = np.random.default_rng(3), 0
    texts = np.repeat(np.arange(n_texts), 4)
    for _ in range(RUNS):
        sinks, controls = (rng.random((2, n_texts)) < 0.5).astype(float)[:, texts]
        got = mean_over_texts(sinks - controls, texts.astype(str).tolist(), bounds=DIFFERENCE)
        false += outcome_of(got, 0.0) == "supported"
    assert false / RUNS <= allowed(0.05)


def test_no_more_than_a_few_orders_without_trend_are_called_one():
    rng = np.random.default_rng(4)
    p_values = np.array([trend(rng.random((4, 12)), seed=run) for run in range(300)])
    assert (p_values <= 0.05).mean() <= allowed(0.05, 300)
    assert (p_values <= 0.5).mean() == pytest.approx(0.5, abs=0.1)


def test_a_trend_in_each_text_is_found_and_a_falling_one_is_not():
    rising = np.tile(np.arange(12.0), (3, 1))
    assert trend(rising) == pytest.approx(1e-4)
    assert trend(-rising) == pytest.approx(1.0)
    assert trend(np.zeros((3, 12))) == 1.0
    assert np.isnan(trend(np.zeros((0, 12))))


def test_rank_correlation_with_ties_is_spearmans():
    one, other = [1, 2, 3, 4, 5, 6], [0, 0, 2, 1, 1, 9]
    assert rank_correlation(one, other) == pytest.approx(stats.spearmanr(one, other).statistic)


def test_many_that_are_tried_share_the_error():
    assert tail_of(20) == pytest.approx(tail_of(1) / 20)


@pytest.mark.parametrize(("sinks", "texts", "words"), [(0, 0, "no secondary"), (9, 2, "9 sink")])
def test_too_few_say_what_is_missing(sinks, texts, words):
    assert words in too_few(sinks, texts)
    assert too_few(5, 3) == ""


def test_an_interval_on_the_line_says_nothing():
    assert outcome_of(Interval(value=0.6, low=0.5, high=0.7, n=5, n_texts=3)) == "inconclusive"
    assert outcome_of(Interval(value=0.2, low=0.1, high=0.3, n=5, n_texts=3)) == "contradicted"


def test_a_lonely_edit_says_so_and_nothing_left_out_says_nothing():
    assert agreed({"mean": "contradicted"}) == ("contradicted", "mean was the only edit tried")
    assert told({"copies": 0}) == ""
