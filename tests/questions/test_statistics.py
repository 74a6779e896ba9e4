"""Intervals and tests on made-up numbers: by hand, and how often they hold."""

import itertools

import numpy as np
import pytest
from scipy import stats

from secondary_sinks.questions.answer import agreed, told
from secondary_sinks.questions.statistics import (
    DIFFERENCE,
    SHARE,
    Interval,
    cluster_bootstrap,
    jackknife,
    mean_over_texts,
    outcome_of,
    partial_rank_correlation,
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


def mean_of(values):
    return lambda rows: float(np.asarray(values)[rows].mean())


def test_a_bootstrap_of_six_texts_against_all_draws_there_are():
    """Two rows a text; all 6^6 draws in turn, between the percentiles that the paper names."""
    values = np.array([1.0, 3.0, 2.0, 2.0, 8.0, 6.0, 4.0, 9.0, 0.0, 1.0, 5.0, 5.0])
    texts = np.repeat(list("abcdef"), 2).tolist()
    got = cluster_bootstrap(texts, mean_of(values), resamples=20_000)
    draws = np.array(list(itertools.product(values.reshape(6, 2).mean(1), repeat=6))).mean(1)
    tail = stats.norm.cdf(-((6 / 5) ** 0.5) * stats.t.ppf(0.975, 5))
    expected = np.quantile(draws, [tail, 1 - tail])
    assert (got.value, got.n, got.n_texts) == (values.mean(), 12, 6)
    assert [got.low, got.high] == pytest.approx(expected.tolist(), abs=0.15)


def test_a_bootstrap_draws_whole_texts():
    """Rows of one text cancel, so no draw of texts can move the mean; rows by themselves could."""
    texts = np.repeat(list("abcdefgh"), 2).tolist()
    got = cluster_bootstrap(texts, mean_of([1.0, -1.0] * 8))
    assert (got.value, got.low, got.high) == (0.0, 0.0, 0.0)


def test_a_bootstrap_of_a_mean_is_nearly_the_t_interval():
    values = np.random.default_rng(0).normal(size=12)
    got = cluster_bootstrap([str(n) for n in range(12)], mean_of(values), resamples=4000)
    reach = stats.t.ppf(0.975, 11) * values.std(ddof=1) / 12**0.5
    assert got.high - got.low == pytest.approx(2 * reach, rel=0.1)


@pytest.mark.parametrize("n_texts", [6, 10])
def test_a_bootstrap_misses_the_truth_seldom(n_texts):
    """The usual share for such intervals: a little above 5 %, with few texts; never 10 %."""
    rng, missed, runs = np.random.default_rng(1), 0, 400
    texts = np.repeat(np.arange(n_texts), 3).astype(str).tolist()
    for run in range(runs):
        values = np.repeat(rng.normal(size=n_texts), 3) + 0.3 * rng.normal(size=3 * n_texts)
        got = cluster_bootstrap(texts, mean_of(values), resamples=199, seed=run)
        missed += not got.low <= 0 <= got.high
    assert missed / runs <= 0.1


@pytest.mark.parametrize("texts", [[], list("aa"), list("abcde")])
def test_a_bootstrap_of_fewer_than_six_texts_has_no_interval(texts):
    got = cluster_bootstrap(texts, mean_of([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert np.isnan([got.low, got.high]).all()


def test_a_statistic_that_is_often_unknown_is_taken_where_it_is_known():
    def odd(rows):
        return float("nan") if len(set(rows)) < 4 else 1.0

    assert cluster_bootstrap(list("abcdef"), odd).low == 1.0
    assert np.isnan(cluster_bootstrap(list("abcdef"), lambda rows: float("nan")).low)


def test_a_partial_rank_correlation_is_the_textbook_formula():
    one, other, given = np.random.default_rng(2).normal(size=(3, 30))
    other += one + given
    r = stats.spearmanr(np.stack([one, other, given], 1)).statistic
    rest = (1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2)
    expected = (r[0, 1] - r[0, 2] * r[1, 2]) / rest**0.5
    assert partial_rank_correlation(one, other, given) == pytest.approx(expected)


def test_what_a_third_quantity_explains_is_no_partial_correlation():
    given = np.arange(40.0)
    noise = np.random.default_rng(3).normal(size=(2, 40))
    one, other = given + 3 * noise[0], given + 3 * noise[1]
    assert rank_correlation(one, other) > 0.8
    assert abs(partial_rank_correlation(one, other, given)) < 0.4


@pytest.mark.parametrize(
    ("one", "other"), [([1, 1, 1, 1], [1, 2, 3, 4]), ([1, 3, 2, 4], [2, 4, 6, 8])]
)
def test_a_partial_correlation_of_what_never_differs_or_follows_is_unknown(one, other):
    assert np.isnan(partial_rank_correlation(one, other, [1, 2, 3, 4]))


def test_a_third_quantity_that_never_differs_changes_nothing():
    one, other = [1, 4, 2, 3], [2, 4, 1, 3]
    got = partial_rank_correlation(one, other, [5, 5, 5, 5])
    assert got == pytest.approx(rank_correlation(one, other))
