"""Twins in other texts: no text has a part in the outcomes of two, so intervals hold."""

import random
from collections import Counter

import numpy as np
import pytest

from secondary_sinks import detect, observe, roles, trigger
from secondary_sinks.questions.role_tests import match_homes, sinks_with_twins
from secondary_sinks.questions.writers import NO_TWIN
from secondary_sinks.statistics import outcome_of, share_over_texts
from secondary_sinks.testing.planted import Plant
from tests.questions.gardens import Garden

POS, SHORT = 20, 13
TWINS = [3, 4]


def texts(own=0, without=0, free=0):
    """A model, traces and sinks: texts with a sink and its twins, without twins, and only twins."""
    garden = Garden(Plant(pos=POS, forming=(3,)), twins=0, n_texts=own + without + free)
    tokens = [trace.tokens.clone() for trace in garden.traces]
    for one in [*tokens[:own], *tokens[own + without :]]:
        one[TWINS] = int(one[POS])
    ends = [None] * (own + without) + [SHORT] * free
    traces = [
        observe(garden.model, one[:end], text_id=f"t{number:02}")
        for number, (one, end) in enumerate(zip(tokens, ends, strict=True))
    ]
    return garden.model, traces, detect(traces)


def homes_of(traces, sinks):
    """The text with the twins of each text's sink; None where there is none."""
    asked, _ = sinks_with_twins(traces, sinks)
    return {one.trace.text_id: one.home.text_id if one.twins else None for one in asked}


def test_a_text_serves_one_other_at_most_and_none_if_it_is_tested_itself():
    _, traces, sinks = texts(own=3, without=9)
    found = homes_of(traces, sinks)
    assert [found[f"t{n:02}"] for n in range(3)] == ["t00", "t01", "t02"]
    assert [found[f"t{n:02}"] for n in range(3, 12)] == [None] * 9
    assert homes_of(traces[::-1], sinks) == found


def test_sinks_without_a_home_are_counted():
    model, traces, sinks = texts(own=1, without=3, free=2)
    used = Counter(homes_of(traces, sinks).values())
    assert used == {"t00": 1, "t04": 1, "t05": 1, None: 1}
    for answer in (roles(model, traces, sinks), trigger(model, traces, sinks)):
        table = answer.tables["triggers"] if answer.question == "trigger" else answer.cells
        assert table.groupby("text_id")["n_donors"].max().tolist() == [2, 2, 2, 0]
        for verdict in answer.verdicts:
            assert f"1 {NO_TWIN}" in verdict.why + verdict.controls


def test_a_true_null_is_seldom_supported_where_every_text_borrows():
    """Twins become sinks in half of the texts, whatever is put into them: a share of one half.

    If all ten texts had the twins of one, their outcomes would be one, and all alike.
    """
    _, traces, sinks = texts(without=10, free=10)
    homes, chance = homes_of(traces, sinks), np.random.default_rng(0)
    outcomes = Counter()
    for _ in range(400):
        susceptible = dict(zip(sorted({*homes.values()}), chance.integers(0, 2, 10), strict=False))
        created = np.array([float(susceptible[home]) for home in homes.values()])
        outcomes[outcome_of(share_over_texts(created, [*homes]))] += 1
    assert outcomes["supported"] <= 0.025 * 400
    assert outcomes["contradicted"] <= 0.025 * 400


def test_twins_in_a_beginning_that_an_earlier_text_has_too_are_the_same_measurement():
    garden = Garden(Plant(pos=POS, forming=(3,)), twins=0, n_texts=1)
    tokens = garden.traces[0].tokens.clone()
    tokens[TWINS] = int(tokens[POS])
    other = tokens.clone()
    other[10:POS] = other[10:POS].roll(1)
    late = other.clone()
    late[12], late[POS + 2] = tokens[13], tokens[POS]
    given = {"first": tokens, "second": other, "third": late}
    traces = [observe(garden.model, one, text_id=name) for name, one in given.items()]
    asked, _ = sinks_with_twins(traces, detect(traces))
    assert {one.trace.text_id: one.twins for one in asked} == {
        "first": (4, 3),
        "second": (),
        "third": (POS + 2,),
    }


def drawn(seed):
    """Token ids of the sinks of some texts, and the places of their twins in all texts."""
    chance = random.Random(seed)
    names = [f"text {number}" for number in range(chance.randint(1, 12))]
    ids = range(chance.randint(1, 5))
    asked = chance.sample(names, chance.randint(0, len(names)))
    wanted = {name: set(chance.sample(ids, chance.randint(1, len(ids)))) for name in asked}
    often = chance.random()
    twins = {
        name: {one: [1] * chance.randint(1, 4) for one in ids if chance.random() < often}
        for name in names
    }
    return chance, wanted, twins


@pytest.mark.parametrize("seed", range(200))
def test_texts_are_matched_one_to_one_in_whatever_order_they_are_given(seed):
    chance, wanted, twins = drawn(seed)
    found = match_homes(wanted, twins)
    assert all(one in twins[home] and one in wanted[text] for (text, one), home in found.items())
    for text, ids in wanted.items():
        assert all(found[text, one] == text for one in ids if one in twins[text])
    parts = {text: {text} for text, _ in found}
    for (text, _), home in found.items():
        parts[text].add(home)
    assert not [n for n in Counter(t for part in parts.values() for t in part).values() if n > 1]
    free = {*twins} - {text for part in parts.values() for text in part}
    for text in (one for one in wanted if one in parts or one in free):
        lacking = {one for one in wanted[text] if (text, one) not in found}
        assert not any(twins[home].keys() & lacking for home in free - {text})
    for _ in range(3):
        order = chance.sample([*twins], len(twins))
        again = {text: wanted[text] for text in order if text in wanted}
        assert match_homes(again, {text: twins[text] for text in order}) == found
