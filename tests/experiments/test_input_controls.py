"""Sinks that need the order of tokens, or their choice, and the inputs that show it."""

import pandas as pd
import pytest
import torch

from experiments import input_controls
from experiments.input_controls import BEHEADED, CHANGES, CLAIMS, RANDOM, SHUFFLED, TWICE
from secondary_sinks.testing.planted import Plant
from tests.experiments.observed import begin_alike, in_some_texts, planted
from tests.marks import exhaustive

TOKENS = torch.arange(100, 120)


def outcomes(finding):
    named = {claim: name for name, claim in CLAIMS.items()}
    return {named[verdict.claim]: verdict.outcome for verdict in finding.verdicts}


def changed(name, seed=0):
    return CHANGES[name](TOKENS, torch.Generator().manual_seed(seed), 50, 1).tolist()


def test_each_input_is_what_its_name_says():
    assert changed(SHUFFLED)[0] == 100
    assert sorted(changed(SHUFFLED)) == TOKENS.tolist() != changed(SHUFFLED)
    assert changed(RANDOM)[0] == 100
    assert max(changed(RANDOM)[1:]) < 50
    assert len(changed(RANDOM)) == 20
    assert changed(TWICE) == [*range(100, 110)] * 2
    assert changed(BEHEADED) == [*range(101, 120)]
    assert changed(RANDOM) != changed(RANDOM, seed=1)


def test_sinks_of_tokens_wherever_they_stand_need_no_first_token_and_no_order():
    plants = [Plant(pos=8, forming=(3,)), Plant(pos=14, forming=(3,))]
    finding = input_controls.run(in_some_texts(*plants, n_with=10, n_without=0))
    found = outcomes(finding)
    assert found[BEHEADED] == "inconclusive", "one is the primary now, and as much of a sink"
    assert found[SHUFFLED] == "inconclusive", "as many, as near as chance has it"
    again = finding.frame[finding.frame["input"] == TWICE]
    assert again["n_first"].sum() == again["n_again"].sum() > 0
    assert found[TWICE] == "inconclusive"


@exhaustive
def test_of_sinks_that_an_earlier_token_triggers_half_are_left_in_random_order():
    plants = [Plant(pos=20, forming=(4,), trigger=(3,), source=12)]
    frame = input_controls.run(planted(*plants, n_texts=12)).frame
    n_sinks = frame.groupby("input")["n_sinks"].sum()
    assert n_sinks["as it is"] == 12
    assert 3 <= n_sinks[SHUFFLED] <= 9, "where the other token still comes first"


def test_without_any_sink_nothing_is_said():
    finding = input_controls.run(planted(n_texts=3))
    assert finding.verdict.outcome == "inconclusive"
    assert finding.verdict.why == "no input makes a secondary sink"


def test_readings_are_compared_at_places_that_are_judged_in_both():
    class At:
        def __init__(self, pos):
            self.pos = pos

    # Of two readings of 20 tokens, eight queries must follow: places 1 to 12 count.
    at = [At(pos) for pos in (0, 1, 12, 13, 20, 21, 32, 33)]
    assert input_controls._readings(at, 40, 8) == (2, 2)


def test_the_price_is_one_pass_of_every_text_for_each_input_and_mask():
    observed = planted(Plant(pos=12, forming=(3,)), n_texts=2)
    cost = input_controls.cost(observed)
    assert (cost.recomputed, cost.tokens) == (12, 6 * sum(len(t.tokens) for t in observed.texts))


def test_draws_depend_on_the_seed_alone():
    observed = planted(Plant(pos=12, forming=(3,)), n_texts=3)
    frames = [input_controls.run(observed).frame for _ in range(2)]
    assert frames[0].equals(frames[1])


@pytest.mark.parametrize(
    ("plain", "changed", "outcome"),
    [(2, 0, "supported"), (0, 2, "contradicted"), (2, 2, "inconclusive")],
)
def test_the_verdict_is_that_of_the_counts(plain, changed, outcome):
    rows = pd.DataFrame({"text_id": [f"t{number}" for number in range(12)]})
    arms = (rows.assign(n_sinks=number, n_shared=0) for number in (plain, changed))
    verdict = input_controls._verdict(SHUFFLED, *arms)
    assert verdict.outcome == outcome
    assert verdict.n_claims == len(CLAIMS)


@exhaustive
def test_a_beginning_that_texts_share_is_counted_once_in_every_input():
    """Sinks of tokens wherever they stand: in random order all were counted, as it is one text's.

    So the shared sinks would refute the order that they do not need.
    """
    plants = [Plant(pos=8, forming=(3,)), Plant(pos=14, forming=(3,))]
    whole = in_some_texts(*plants, n_with=1, n_without=7)
    observed = begin_alike(whole, n_alike=20)
    frame = input_controls.run(observed).frame
    for name in ("as it is", SHUFFLED):
        part = frame[frame["input"] == name]
        assert part["n_sinks"].tolist()[1:] == [0] * 7, name
        assert part["n_shared"].tolist() == [0, *[2] * 7], name
    assert CHANGES[SHUFFLED](TOKENS, torch.Generator(), 50, 5).tolist()[:5] == TOKENS.tolist()[:5]
