"""What a question costs is known before it is asked, and is what it then runs."""

from dataclasses import replace

import pytest

from secondary_sinks import questions
from secondary_sinks.questions import costs
from secondary_sinks.testing.planted import Plant
from tests.marks import thinned
from tests.questions.gardens import Garden

ALL = ("necessity", "sufficiency", "norm_dose", "redistribution", "sparsity", "harm")


@pytest.fixture(scope="module")
def garden():
    return Garden(Plant(pos=12, forming=(3,)), n_texts=2)


@pytest.mark.parametrize("name", thinned(ALL, ["sufficiency", "redistribution", "sparsity"]))
def test_the_price_is_the_number_of_cells(garden, name):
    (cost,) = costs([name], garden.traces, garden.sinks, garden.model.cfg.d_mlp)
    answer = getattr(questions, name)(*garden.asked)
    formed = answer.tables.get("formed", ())
    assert cost.question == name
    assert cost.replayed + cost.recomputed == len(answer.cells) + len(formed)
    assert (cost.replayed == 0) == (name in {"redistribution", "harm"})


def test_seconds_count_both_kinds_of_cells(garden):
    replayed, recomputed = costs(["necessity", "harm"], garden.traces, garden.sinks, 10)
    assert replayed.seconds(0.5, 100.0) == replayed.replayed / 2
    n_pos = len(garden.planted.tokens)
    assert recomputed.seconds(0.5, 100.0) == recomputed.recomputed * n_pos * 100


@pytest.mark.parametrize("name", thinned(["redistribution", "harm"], ["redistribution"]))
def test_a_long_text_costs_more_and_one_without_sinks_nothing(garden, name):
    long = Garden(Plant(pos=12, forming=(3,)), n_texts=2, n_pos=192)
    (short_cost,) = costs([name], garden.traces, garden.sinks, 10)
    (long_cost,) = costs([name], long.traces, long.sinks, 10)
    assert (long_cost.recomputed, long_cost.tokens) == (
        short_cost.recomputed,
        3 * short_cost.tokens,
    )
    unknown = replace(garden.traces[0], text_id="without sinks")
    assert costs([name], [*garden.traces, unknown], garden.sinks, 10) == [short_cost]


def test_without_sinks_nothing_is_to_pay(garden):
    nobody = garden.sinks.of_kind("primary")
    assert {c.replayed + c.recomputed for c in costs(ALL, garden.traces, nobody, 10)} == {0}


@pytest.mark.parametrize("name", thinned(ALL, ["sufficiency", "norm_dose"]))
def test_claims_are_counted_before_they_are_made(garden, name):
    """A question makes at most the claims that it is counted with, and is told of all others."""
    few = {"edits": ["zero"]} if name in ("necessity", "redistribution", "harm") else {}
    counted = questions.n_claims_of([name], garden.sinks)
    verdicts = getattr(questions, name)(*garden.asked, **few).verdicts
    assert len(verdicts) <= counted
    assert {verdict.n_claims for verdict in verdicts} == {counted}
    together = questions.n_claims_of(ALL, garden.sinks)
    assert together == 15  # layers 0 to 3, formed by MLPs; then 2, 4, 1, 2 and 1
    told = getattr(questions, name)(*garden.asked, **few, n_claims=together).verdicts
    assert {verdict.n_claims for verdict in told} == {together}
