"""What triggers each sink: every verdict is what was planted, in both directions."""

import pytest

from experiments import triggers
from secondary_sinks.questions import trigger_cost
from secondary_sinks.testing.planted import Plant
from tests.experiments.observed import planted
from tests.marks import thinned

YES, NO, OPEN = "supported", "contradicted", "inconclusive"
READ = Plant(pos=20, forming=(5,), trigger=(3,), source=7)
TRUTHS = {
    "a head": (READ, {"twins": 2}, (YES,) * 4, [(3, 8, 8)]),
    "nothing read": (Plant(pos=20, forming=(3,)), {"twins": 2}, (NO,) * 4, []),
    "one twin": (READ, {}, (OPEN, YES, YES, YES), [(3, 8, 8)]),
    "no twins": (READ, {"twins": 0}, (OPEN,) * 4, []),
}
"""A plant, options, outcomes, and (layer, sinks that need it, sinks for which it is enough)."""


@pytest.mark.parametrize("name", thinned(list(TRUTHS), ["a head", "nothing read"]))
def test_the_verdicts_and_layers_are_what_was_planted(name):
    one, options, outcomes, layers = TRUTHS[name]
    observed = planted(one, **options)
    finding = triggers.run(observed)
    assert tuple(verdict.outcome for verdict in finding.verdicts) == outcomes
    assert finding.verdict.claim == triggers.CLAIM
    assert {verdict.n_claims for verdict in finding.verdicts} == {6}
    at = finding.frame[(finding.frame["n_needed"] > 0) | (finding.frame["n_enough"] > 0)]
    found = at[["layer", "n_needed", "n_enough"]].itertuples(index=False, name=None)
    assert list(found) == layers
    assert set(finding.frame.columns) == set(finding.columns)
    assert len(finding.tables["sinks"]) == 8


def test_the_price_is_that_of_the_question():
    observed = planted(READ, n_texts=2)
    assert triggers.cost(observed) == trigger_cost(observed.traces, observed.sinks)
    assert triggers.cost(observed).tokens == 2 * 4 * 64


def test_without_sinks_the_finding_says_so():
    finding = triggers.run(planted(n_texts=2))
    assert (finding.verdict.outcome, finding.verdict.claim) == (OPEN, triggers.CLAIM)
