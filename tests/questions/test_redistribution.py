"""Redistribution: freed attention goes where the softmax of the planted model must send it."""

import numpy as np
import pytest

from secondary_sinks import redistribution
from secondary_sinks.models.planted import Plant
from secondary_sinks.questions.redistribution import CLAIM
from tests.questions.gardens import Garden, outcomes, three
from tests.questions.test_necessity import ATTENTION

TRUTHS = {
    # One sink at a time: the primary is nearly all that is left to attend to.
    "the primary alone": ([Plant(pos=20, forming=(3,))], 6, "supported"),
    # Three sinks: of what one leaves, two others take as much as the primary.
    "other sinks": (three(forming=(3,)), 4, "contradicted"),
    "attention formed them": (ATTENTION, 4, "inconclusive"),
    "no sinks": ([], 4, "inconclusive"),
    "too few texts": (three(forming=(3,)), 2, "inconclusive"),
}


@pytest.mark.parametrize("name", TRUTHS)
def test_the_verdicts_are_what_was_planted(name):
    plants, n_texts, outcome = TRUTHS[name]
    answer = redistribution(*Garden(*plants, n_texts=n_texts).asked)
    assert outcomes(answer) == {CLAIM: outcome}


def test_all_that_is_freed_is_found_again():
    cells = redistribution(*Garden(*three(forming=(3,))).asked).cells
    gained = cells[["primary", "others", "rest"]].sum(axis=1)
    assert gained.to_numpy() == pytest.approx(cells["freed"].to_numpy())
    sinks = cells[cells["role"] == "sink"]
    assert (sinks["freed"] > 10).all()
    assert cells[cells["role"] == "control"]["freed"].to_numpy() == pytest.approx(0, abs=1e-3)


def test_shares_by_hand():
    """Planted queries are alike: what is freed goes to keys by the weights that they have."""
    garden = Garden(Plant(pos=20, forming=(3,)), n_texts=1)
    answer = redistribution(*garden.asked, edits=["zero"])
    mass = garden.traces[0].mass.double().numpy()
    share = answer.effects.set_index("receiver")["share"]
    # A token that none plants has weight 1 (score 0); the primary's weight follows from masses.
    at = np.arange(20, 64)
    last = mass[4, 63]
    weight = {pos: mass_weight(garden, pos) for pos in (0, 20)}
    rest = at - 1  # keys that are neither, seen by the query
    left = weight[0] + rest + 1 - 1
    expected = sum(
        (paid := weight[20] / (weight[20] + one + 1)) * weight[0] / (one + 1) for one in left
    ) / sum(weight[20] / (weight[20] + one + 1) for one in left)
    assert last > 0
    assert paid > 0
    assert share["primary"] == pytest.approx(expected, abs=0.03)
    assert share.sum() == pytest.approx(1.0)


def mass_weight(garden, pos):
    """exp of the score of a planted token, against 1 for others, from the last query's pattern."""
    _, cache = garden.model.run_with_cache(garden.traces[0].tokens[None])
    row = cache["blocks.5.attn.hook_pattern"][0, 0, 63]
    return float(row[pos] / row[40])


def test_ways_that_disagree_are_said(monkeypatch):
    garden = Garden(*three(forming=(3,)), n_texts=4)
    answer = redistribution(*garden.asked, edits=["zero", "mean"])
    assert "zero and mean agree" in answer.verdicts[0].why
    assert set(answer.effects["edit"]) == {"zero", "mean"}
