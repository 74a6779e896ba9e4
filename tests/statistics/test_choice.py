"""Choices before a text leave its interval exact; choices on all other texts do not."""

from fractions import Fraction
from itertools import product
from math import comb

import numpy as np
import pytest

from secondary_sinks.statistics.choice import chosen_before
from secondary_sinks.statistics.over_texts import median_over_texts, share_over_texts

COINS = list(product((0.0, 1.0), repeat=2))
"""What two candidates may do in a text: each succeeds or not, with chances of one half."""


def before(text, candidates=2):
    """The candidates' successes, each in the place that the earlier texts chose."""
    scores = [dict(enumerate(one)) for one in text]
    chosen = chosen_before(scores, [range(candidates)] * len(text))
    return [one[choice] for one, choice in zip(text, chosen, strict=True)]


def on_the_others(text):
    """The same with the choice that did best in all other texts."""
    totals = np.sum(text, axis=0)
    return [one[int(np.argmax(totals - np.array(one)))] for one in text]


def chances(judge, n):
    """How many of all 4^n outcomes have each number of successes."""
    counts = [0] * (n + 1)
    for text in product(COINS, repeat=n):
        counts[int(sum(judge(text)))] += 1
    return [Fraction(count, 4**n) for count in counts]


@pytest.mark.parametrize("n", [2, 3, 5])
def test_successes_of_earlier_choices_are_coins_and_those_of_other_choices_are_not(n):
    """All outcomes of two fair candidates, counted: the promise is 2^-n that all texts succeed."""
    assert chances(before, n) == [Fraction(comb(n, k), 2**n) for k in range(n + 1)]
    assert chances(on_the_others, n)[n] > Fraction(1, 2**n)


@pytest.mark.parametrize("n", range(3, 31))
def test_the_promise_is_kept_at_every_number_of_texts(n):
    """By the states that a choice hangs on: which candidate leads by how much, and successes."""
    states = {(0, 0): 1.0}
    for _ in range(n):
        following = {}
        for (lead, successes), chance in states.items():
            for first, second in COINS:
                won = first if lead >= 0 else second
                key = lead + first - second, successes + int(won)
                following[key] = following.get(key, 0.0) + chance / 4
        states = following
    texts = [str(number) for number in range(n)]
    for over in (share_over_texts, median_over_texts):
        ends = [over([1.0] * k + [0.0] * (n - k), texts).low > 0.5 for k in range(n + 1)]
        false = sum(chance for (_, successes), chance in states.items() if ends[successes])
        assert false <= 0.025


def test_by_hand():
    scores = [{"a": 2.0, "b": 0.0}, {"a": 0.0, "b": 3.0}, {"a": 9.0}]
    assert chosen_before(scores, [["b", "a"]] * 3) == ["b", "a", "b"]
    assert chosen_before(scores, [["b"], ["b"], ["a"]]) == ["b", "b", "a"]
    assert chosen_before([], []) == []
