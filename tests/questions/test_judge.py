"""`judge`: from an interval, or too little for one, to a verdict."""

from math import isnan, nan

import pytest

from secondary_sinks.questions.answer import judge
from secondary_sinks.statistics import Interval, outcome_of

WORDS = {"statistic": "share", "unit": "1", "controls": "twins"}


def interval(low: float, high: float, n: int = 30) -> Interval:
    return Interval(value=(low + high) / 2, low=low, high=high, n=n, n_texts=n)


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [(0.6, 0.9, "supported"), (0.1, 0.4, "contradicted"), (0.4, 0.6, "inconclusive")],
)
def test_an_interval_is_held_against_the_line(low, high, outcome):
    verdict = judge("claim", interval(low, high), lambda: "why", left_out={"odd": 2}, **WORDS)
    assert (verdict.outcome, verdict.why) == (outcome, "why")
    assert verdict.controls == "twins; left out: 2 odd"
    assert judge("claim", interval(0.6, 0.9), lambda: "", line=0.95, **WORDS).outcome != "supported"


def test_with_too_few_the_reason_is_not_asked_for():
    def refuse() -> str:
        raise AssertionError

    few = judge("claim", interval(0.6, 0.9, n=3), refuse, outcome="supported", **WORDS)
    assert few.outcome == "inconclusive"
    assert few.why.startswith("only 3 sinks in 3 texts")
    both = judge("claim", interval(0.6, 0.9, n=3), lambda: "why", always=True, **WORDS)
    assert both.why == f"why; {few.why}"
    assert (both.found, both.lacks) == ("why", few.why), "pages say once what several lack"
    enough = judge("claim", interval(0.6, 0.9), lambda: "why", **WORDS)
    assert (enough.found, enough.lacks) == ("", "")


def test_nothing_measured_is_inconclusive():
    verdict = judge("claim", None, lambda: "why", left_out={"odd": 2}, **WORDS)
    assert (verdict.outcome, verdict.n_sinks, isnan(verdict.value)) == ("inconclusive", 0, True)
    assert "(2 odd)" in verdict.why


def test_undecided_cases_may_keep_a_claim_from_being_contradicted():
    below = interval(0.1, 0.4)
    assert outcome_of(below, most=interval(0.2, 0.45)) == "contradicted"
    assert outcome_of(below, most=interval(0.3, 0.6)) == "inconclusive"
    assert outcome_of(interval(0.6, 0.9), most=interval(nan, nan)) == "supported"
