"""`judge`: from an interval, or too little for one, to a verdict."""

from dataclasses import asdict
from math import isnan, nan

import pytest

from experiments.pages import numbers_of
from experiments.written import in_words
from secondary_sinks.cli.show import verdict_line
from secondary_sinks.questions.answer import judge
from secondary_sinks.report.claims import claims
from secondary_sinks.statistics import Interval, outcome_of
from secondary_sinks.types import Verdict

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


def test_what_is_counted_has_its_own_nouns_wherever_a_verdict_is_shown():
    nouns = {"counted": "edited token", "grouped": "question", "controlled": False}
    few = judge("claim", interval(0.6, 0.9, n=3), "why", n_claims=4, **nouns, **WORDS)
    assert few.lacks == (
        "only 3 edited tokens in 3 questions; at least 5 edited tokens in 8 questions are needed "
        "to decide 4 claims together, since fewer questions can all agree by chance"
    )
    none = judge("claim", None, "why", **nouns, **WORDS)
    assert none.lacks == "no edited token was found, so no claim is made"
    row = asdict(judge("claim", interval(0.6, 0.9), "why", **nouns, **WORDS))
    assert numbers_of(row).endswith("; 30 edited tokens, 30 questions")
    assert numbers_of(row | {"grouped": "<b>"}).endswith(r", 30 \<b\>s")
    assert in_words(Verdict(**row)).endswith("; 30 edited tokens, 30 questions)")
    assert verdict_line(row).endswith("; 30 edited tokens, 30 questions)")
    assert "30 edited tokens in 30 questions" in Verdict(**row)._repr_html_()
    (claim,) = claims({"writers": [row]}, {})
    assert claim.sample == "30 edited tokens in 30 questions"
