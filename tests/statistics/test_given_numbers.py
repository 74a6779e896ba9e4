"""Statistics refuse numbers without their partners, or beyond their bounds, by name."""

import math
from inspect import unwrap

import numpy as np
import pytest

from secondary_sinks.errors import MeasureError
from secondary_sinks.statistics import (
    chosen_before,
    holm,
    median_over_texts,
    page_trend_test,
    paired_share_over_texts,
    partial_correlation_within_texts,
    rank_correlation,
    share_over_texts,
    tail_probability,
    total_over_texts,
)
from secondary_sinks.statistics.given import names_of_texts

NAN, TEXTS = float("nan"), ["a", "b", "c"]


@pytest.mark.parametrize(
    ("ask", "match"),
    [
        (lambda: paired_share_over_texts([1, 1, 1], [0], TEXTS), r"control has shape \[1\]"),
        (lambda: paired_share_over_texts([1, 2, 1], [0, 0, 0], TEXTS), "a case is 2"),
        (lambda: paired_share_over_texts([1, 1, 1], [0, -1, 0], TEXTS), "a control is -1"),
        (lambda: share_over_texts([0.5, 2.0, -3.0], TEXTS), "a value is 2; expected .* 0 to 1"),
        (lambda: share_over_texts([0, 1, 1], TEXTS, bounds=(1.0, 0.0)), "bounds are 1 and 0"),
        (lambda: share_over_texts([0, 1, 1], TEXTS, bounds=(0.0, NAN)), "bounds are 0 and nan"),
        (lambda: share_over_texts([0, 1], TEXTS), "2 values of 3 texts"),
        (lambda: median_over_texts([[0, 1, 1]], TEXTS), r"values has shape \[1, 3\]"),
        (lambda: names_of_texts(["1", 1, "2"], 3), "'1' and 1, written alike"),
        (lambda: names_of_texts(["1", NAN, "2"], 3), "texts have the names nan"),
        (lambda: tail_probability(0), "n_claims is 0; expected a whole number of at least 1"),
        (lambda: share_over_texts([1], ["a"], n_claims=-5), "n_claims is -5"),
        (lambda: total_over_texts([1.0, 2.0], 1), "n_texts is 1 for the counts of 2 texts"),
        (lambda: total_over_texts([1.0], 10**12), "at most 10000000"),
        (lambda: rank_correlation([1, 2, 3], [5]), r"responses has shape \[1\]"),
        (lambda: unwrap(page_trend_test)([1.0, 2.0]), r"responses have shape \[2\]"),
        (lambda: holm([2.0]), "a p-value is 2; expected numbers from 0 to 1"),
        (lambda: holm([0.1, -1.0]), "a p-value is -1"),
        (lambda: chosen_before([{"a": NAN}], [["a"]]), "score of 'a' in text 0 is nan"),
        (lambda: chosen_before([{}], [["a"], ["a"]]), "scores of 1 texts and the choices of 2"),
        (lambda: chosen_before([{}], [[]]), "text 0 has no choice"),
        (
            lambda: partial_correlation_within_texts([1, 2], [1, 2], [1, 2], TEXTS),
            "got 3 texts of 2 sinks",
        ),
    ],
)
def test_what_no_statistic_is_true_of_is_refused(ask, match):
    with pytest.raises(MeasureError, match=match):
        ask()


def test_a_share_that_rounding_carried_beyond_its_bound_is_that_bound():
    found = share_over_texts([1 + 1e-12, 1.0, 1.0], TEXTS)
    assert found == share_over_texts([1.0, 1.0, 1.0], TEXTS)


def test_what_is_missing_has_no_trend_and_no_rank_correlation():
    """The p-value was 1."""
    assert math.isnan(page_trend_test(np.array([[1.0, NAN, 3.0], [1.0, 2.0, 3.0]])))
    assert math.isnan(rank_correlation([1, 2, 3], [1, NAN, 3]))
    assert math.isnan(rank_correlation([], []))
    assert holm([NAN, 1.0, 0.0]) == [pytest.approx(NAN, nan_ok=True), 1.0, 0.0]


def test_numbers_name_texts_as_well_as_words_do():
    assert names_of_texts([1, 2, 2], 3) == ["1", "2", "2"]
