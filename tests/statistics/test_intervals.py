"""Decisions, correlations and trend tests on made-up numbers: by hand, and their error rates."""

import math

import numpy as np
import pytest
from scipy import stats

from secondary_sinks.questions.answer import combine_outcomes, format_exclusions
from secondary_sinks.statistics import (
    Interval,
    holm,
    jackknife,
    left_open_by_controls,
    outcome_of,
    page_trend_test,
    paired_share_over_texts,
    partial_correlation_within_texts,
    rank_correlation,
    tail_probability,
    too_few,
)
from tests.marks import exhaustive


def allowed(share, runs):
    """A share and three standard errors of it."""
    return share + 3 * (share * (1 - share) / runs) ** 0.5


def test_a_jackknife_of_a_mean_is_the_t_interval():
    values = np.array([0.2, 0.5, 0.9, 0.4])
    got = jackknife(np.stack([values, np.ones(4)], 1), lambda sums: sums[0] / sums[1])
    reach = stats.t.ppf(0.975, 3) * values.std(ddof=1) / 2
    assert (got.low, got.high) == (
        pytest.approx(values.mean() - reach),
        pytest.approx(values.mean() + reach),
    )


def test_pairs_count_where_it_happens_to_the_case_and_not_to_its_control():
    texts = list("aabbccddeeff")
    own = [1.0, 1.0, 1.0, 0.0] * 3
    control = [0.0, 1.0, 0.0, 0.0] * 3
    assert paired_share_over_texts(own, control, texts).value == 0.5
    assert paired_share_over_texts([1.0] * 6, [1.0] * 6, list("abcdef")).value == 0.0
    seeds = paired_share_over_texts([1.0] * 6, [0.25] * 6, list("abcdef"))
    assert seeds.value == 0.75


@pytest.mark.parametrize(
    ("case", "control", "outcome", "open_"),
    [
        (1.0, 0.0, "supported", False),
        (0.0, 0.0, "contradicted", False),
        (0.0, 1.0, "contradicted", False),
        (1.0, 1.0, "inconclusive", True),
        (1.0, 0.8, "inconclusive", True),
    ],
)
def test_what_happens_at_controls_too_refutes_nothing(case, control, outcome, open_):
    found = paired_share_over_texts([case] * 20, [control] * 20, [f"t{n}" for n in range(20)])
    assert (outcome_of(found), left_open_by_controls(found)) == (outcome, open_)
    assert found.cases.value == case


def test_cases_without_a_control_are_left_out_of_the_share_of_cases_too():
    found = paired_share_over_texts([1.0, 0.0, 0.0], [0.0, np.nan, 1.0], list("abc"))
    assert (found.value, found.cases.value, found.cases.n) == (0.5, 0.5, 2)


@pytest.mark.parametrize("n", range(6, 31))
def test_what_happens_to_cases_and_controls_alike_is_no_finding(n):
    """Either the case or its control, by a coin that all pairs of a text share: the worst case."""
    false = 0.0
    for k in range(n + 1):
        own, names = [1.0] * k + [0.0] * (n - k), [str(number) for number in range(n)]
        got = paired_share_over_texts(own, [1 - one for one in own], names)
        false += stats.binom.pmf(k, n, 0.5) * (outcome_of(got) == "supported")
    assert false <= 0.025


@exhaustive
def test_no_more_than_a_few_orders_without_trend_are_called_one():
    rng = np.random.default_rng(4)
    p_values = np.array([page_trend_test(rng.random((4, 12)), seed=run) for run in range(300)])
    assert (p_values <= 0.05).mean() <= allowed(0.05, 300)
    assert (p_values <= 0.5).mean() == pytest.approx(0.5, abs=0.1)


def test_a_trend_in_each_text_is_found_and_a_falling_one_is_not():
    rising = np.tile(np.arange(12.0), (3, 1))
    assert page_trend_test(rising) == pytest.approx(1e-4)
    assert page_trend_test(-rising) == pytest.approx(1.0)
    assert page_trend_test(np.zeros((3, 12))) == 1.0
    assert np.isnan(page_trend_test(np.zeros((0, 12))))


def test_rank_correlation_with_ties_is_spearmans():
    one, other = [1, 2, 3, 4, 5, 6], [0, 0, 2, 1, 1, 9]
    assert rank_correlation(one, other) == pytest.approx(stats.spearmanr(one, other).statistic)


def test_many_that_are_tried_share_the_error():
    assert tail_probability(20) == pytest.approx(tail_probability(1) / 20)


@pytest.mark.parametrize(("sinks", "texts", "words"), [(0, 0, "no secondary"), (9, 2, "9 sink")])
def test_too_few_say_what_is_missing(sinks, texts, words):
    assert words in too_few(sinks, texts)
    assert too_few(5, 6) == ""
    assert "at least 5 sinks in 6 texts are needed" in too_few(5, 5)
    assert "at least 5 sinks in 10 texts are needed to decide 13 claims" in too_few(
        50, 9, n_claims=13
    )


def test_an_interval_on_the_line_says_nothing():
    assert outcome_of(Interval(value=0.6, low=0.5, high=0.7, n=5, n_texts=3)) == "inconclusive"
    assert outcome_of(Interval(value=0.2, low=0.1, high=0.3, n=5, n_texts=3)) == "contradicted"


def test_a_lonely_edit_says_so_and_nothing_left_out_says_nothing():
    assert combine_outcomes({"mean": "contradicted"}) == (
        "contradicted",
        "mean was the only edit tried",
    )
    assert format_exclusions({"copies": 0}) == ""


def between(rng, n_texts=8, size=5):
    """Numbers that differ between texts together, and within texts by chance."""
    texts = np.repeat(np.arange(n_texts), size)
    level = 5 * rng.normal(size=n_texts)
    x, y = level[texts] + rng.normal(size=(2, len(texts)))
    return x, y, rng.normal(size=len(texts)), texts.astype(str).tolist()


def test_differences_between_texts_are_no_correlation_within_them():
    """p of permutations within texts is at most 2.5 % in 2.5 % of runs; pooled, in nearly all."""
    rng, runs, false, pooled = np.random.default_rng(1), 200, 0, 0
    for run in range(runs):
        x, y, z, texts = between(rng)
        got = partial_correlation_within_texts(x, y, z, texts, permutations=399, seed=run)
        false += got.p_high <= 0.025
        pooled += stats.spearmanr(x, y).pvalue <= 0.05
    assert false / runs <= allowed(0.025, runs)
    assert pooled / runs > 0.9


def test_p_within_texts_is_uniform_where_lengths_can_be_exchanged():
    """All p there are of one text of four: 24 orders of the lengths, each as likely."""
    y, z = [0.3, 1.2, 0.9, 2.0], [2.0, 1.0, 4.0, 3.0]
    rng, p_values = np.random.default_rng(2), []
    for _ in range(200):
        got = partial_correlation_within_texts(
            rng.permutation(4), y, z, list("aaaa"), permutations=399, seed=0
        )
        p_values.append(got.p_high)
    for level in (0.1, 0.25, 0.5):
        assert np.mean(np.array(p_values) <= level) <= allowed(level, 200)


def test_a_correlation_within_texts_is_found():
    rng = np.random.default_rng(3)
    texts = np.repeat(np.arange(8), 6)
    x = rng.normal(size=48)
    y = x + 0.2 * rng.normal(size=48) - 9 * texts  # between texts it falls
    got = partial_correlation_within_texts(x, y, rng.normal(size=48), texts.astype(str).tolist())
    assert got.p_high < 0.001
    assert got.p_low > 0.99
    assert got.interval.low > 0
    assert (got.interval.n, got.interval.n_texts) == (48, 8)


def partial(one, other, given):
    """Within one text."""
    return partial_correlation_within_texts(
        one, other, given, ["a"] * len(one), permutations=999
    ).interval.value


def test_a_partial_rank_correlation_is_the_textbook_formula():
    one, other, given = np.random.default_rng(2).normal(size=(3, 30))
    other += one + given
    r = stats.spearmanr(np.stack([one, other, given], 1)).statistic
    rest = (1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2)
    expected = (r[0, 1] - r[0, 2] * r[1, 2]) / rest**0.5
    assert partial(one, other, given) == pytest.approx(expected)


def test_what_a_third_quantity_explains_is_no_partial_correlation():
    given = np.arange(40.0)
    noise = np.random.default_rng(3).normal(size=(2, 40))
    one, other = given + 3 * noise[0], given + 3 * noise[1]
    assert rank_correlation(one, other) > 0.8
    assert abs(partial(one, other, given)) < 0.4


@pytest.mark.parametrize(
    ("one", "other", "given", "expected"),
    [
        ([1, 1, 1, 1], [1, 2, 3, 4], [1, 2, 3, 4], None),
        ([1, 3, 2, 4], [2, 4, 6, 8], [1, 2, 3, 4], None),
        ([1, 2, 3, 4], [1, 3, 2, 4], [1, 2, 3, 4], 0.0),
        ([1, 2, 3], [1, 3, 2], [1, 1, 1], None),
        ([1, 4, 2, 3], [2, 4, 1, 3], [5, 5, 5, 5], 0.8),
    ],
    ids=["never differs", "follows from the third", "as the third", "three sinks", "no third"],
)
def test_texts_that_say_nothing_are_not_counted(one, other, given, expected):
    got = partial_correlation_within_texts(one, other, given, ["a"] * len(one), permutations=999)
    if expected is None:
        assert got.interval.n_texts == got.interval.n == 0
        assert np.isnan([got.interval.value, got.p_high, got.p_low]).all()
    else:
        assert got.interval.value == pytest.approx(expected)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.02, math.nan])[0] == 0.02
