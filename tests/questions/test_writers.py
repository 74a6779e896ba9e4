"""Naming the writer by the sinks that judge it: how often that is false, in exact numbers."""

from fractions import Fraction
from itertools import product
from math import comb, factorial, prod

import pandas as pd
import pytest

from secondary_sinks.questions.writers import NAMING, writer_verdicts
from secondary_sinks.statistics.over_texts import (
    p_of_mean,
    share_over_texts,
    tail_probability,
)

PROMISE = Fraction(tail_probability(1))


def table(writers, per_text=2):
    """Roles of sinks created at layer 2: one text per entry, its sinks written by these layers."""
    rows = [
        {
            **{"text_id": f"t{text}", "pos": pos, "kind": "secondary", "level": 0.0},
            **{"layer": layer, "role": "writer" if layer in group else "neither"},
            **{"why": "", "n_donors": 2},
        }
        for text, group in enumerate(writers)
        for pos in range(per_text)
        for layer in range(3)
    ]
    return pd.DataFrame(rows)


def outcomes(writers):
    return {(v.layer, v.outcome) for v in writer_verdicts(table(writers))}


def least(n):
    """The fewest of n texts whose writer is said to be that of most sinks."""
    texts = [str(number) for number in range(n)]
    said = [
        share_over_texts([1.0] * k + [0.0] * (n - k), texts, n_claims=NAMING).low > 0.5
        for k in range(n + 1)
    ]
    return said.index(True) if True in said else n + 1


def test_the_writer_in_most_texts_is_named_not_that_of_one_long_text():
    many = pd.concat([table([(2,)] * 19), table([(1,)], per_text=60).assign(text_id="long")])
    (verdict,) = writer_verdicts(many)
    assert (verdict.layer, verdict.outcome) == (2, "supported")
    assert verdict.value == pytest.approx(0.95)


def test_another_mlp_that_may_write_them_all_leaves_the_claim_open():
    """Named is the only MLP that surely writes some; another one is undecided at all sinks."""
    some = table([(1,)] * 2 + [()] * 28)
    (verdict,) = writer_verdicts(some)
    assert (verdict.layer, verdict.outcome) == (1, "contradicted")
    undecided = (some["layer"] == 2) & (some["role"] == "neither")
    (verdict,) = writer_verdicts(some.assign(role=some["role"].mask(undecided, "undecided")))
    assert (verdict.layer, verdict.outcome) == (1, "inconclusive")


@pytest.mark.parametrize("n", range(3, 31))
def test_two_mlps_that_write_half_of_the_sinks_each_are_named_as_seldom_as_promised(n):
    """The worst case, in exact numbers; corrected for one claim it would be up to twice as much."""
    k = least(n)
    one = Fraction(sum(comb(n, one) for one in range(k, n + 1)), 2**n)
    assert 2 * one <= PROMISE


@pytest.mark.parametrize("parts", [3, 4])
@pytest.mark.parametrize("n", [8, 12])
def test_more_mlps_are_named_more_seldom(n, parts):
    """All ways in which n texts fall to so many writers of equal shares, counted."""
    k, false = least(n), 0
    for counts in product(range(n + 1), repeat=parts):
        if sum(counts) == n and max(counts) >= k:
            false += factorial(n) // prod(factorial(count) for count in counts)
    assert Fraction(false, parts**n) <= PROMISE


@pytest.mark.parametrize("n", [6, 10, 30])
def test_the_bound_at_a_share_is_at_most_in_proportion_to_the_bound_at_one_half(n):
    """The step of the proof: shares that add up to 1 have twice that bound together, at most."""
    for total in (n * 0.6, n * 0.8, n - 0.5, float(n)):
        half = p_of_mean(total, n, 0.5)
        for share in (0.05, 0.1, 0.2, 1 / 3, 0.45):
            assert p_of_mean(total, n, share) <= 2 * share * half * (1 + 1e-9)


def test_a_null_level_whose_texts_differ_in_their_writer_names_none():
    """Half of the texts' sinks are written by MLP 0, half by MLP 2: one of the two always leads."""
    for n_zero in range(3, 8):
        named = outcomes([(0,)] * n_zero + [(2,)] * (10 - n_zero))
        assert "supported" not in {outcome for _, outcome in named}
    assert outcomes([(2,)] * 10) == {(2, "supported")}


def test_without_the_factor_seven_texts_of_two_equal_writers_would_break_the_promise():
    n = 6
    one_claim = Fraction(2, 2**n)  # either of the two writes all six
    assert one_claim > PROMISE
    assert outcomes([(2,)] * n) == {(2, "inconclusive")}


def test_mlps_that_write_together_are_one_group_and_each_is_named():
    assert outcomes([(1, 2)] * 8) == {(1, "supported"), (2, "supported")}
    found = writer_verdicts(table([(1, 2)] * 8))
    assert found[0].why == "writer: MLP 1 together with MLP 2 (16 of 16 sinks in 8 texts)"
    # Alone in some texts, together in others: two groups, and neither writes most.
    assert {o for _, o in outcomes([(1, 2)] * 5 + [(2,)] * 5)} == {"inconclusive"}


def test_claims_of_the_whole_report_are_taken():
    (alone,) = writer_verdicts(table([(2,)] * 8))
    (among,) = writer_verdicts(table([(2,)] * 8), n_claims=12)
    assert (alone.n_claims, alone.outcome) == (NAMING, "supported")
    assert (among.n_claims, among.outcome) == (12, "inconclusive")
