"""Sparsity: the planted neuron, two of them, or four."""

import json
import sys

import pytest

from secondary_sinks import sparsity
from secondary_sinks.questions.sparsity import ENOUGH, NEEDED, NO_NEURONS
from secondary_sinks.testing.planted import Plant
from tests.marks import exhaustive, thinned
from tests.questions.gardens import Garden, outcomes, three
from tests.questions.test_necessity import garden_of

PLACES = (12, 24, 36)
FOUR = [Plant(pos=pos, forming=(3,), strength=12.0) for pos in PLACES for _ in range(4)]
EXPECTED = {
    "one MLP": ("supported", "supported"),
    # One neuron of each layer: with either alone it is no sink, and draws more than half.
    "two that are needed each": ("contradicted", "contradicted"),
    "two of which one is enough": ("contradicted", "supported"),
    # The first neuron of a chain writes nothing along the direction, and comes late.
    "a chain": ("supported", "contradicted"),
    "attention": ("contradicted", "inconclusive"),  # they survive with any neurons
    "nothing": ("inconclusive", "inconclusive"),
    "norm without direction": ("inconclusive", "inconclusive"),
    "four neurons together": ("contradicted", "contradicted"),
}


@pytest.mark.parametrize("name", thinned(list(EXPECTED), list(EXPECTED)[:1]))
def test_the_verdicts_are_what_was_planted(name):
    garden = Garden(*FOUR) if name == "four neurons together" else garden_of(name)
    needed, enough = EXPECTED[name]
    answer = sparsity(*garden.asked)
    assert outcomes(answer) == {NEEDED: needed, ENOUGH: enough}


@exhaustive
def test_sinks_that_no_mlp_forms_count_as_failures():
    plants = [Plant(pos=12, forming=(3,))]
    plants += [Plant(pos=pos, forming=(pos // 6,), by="attention") for pos in (24, 36)]
    needed, _ = sparsity(*Garden(*plants, n_texts=12).asked).verdicts
    assert needed.outcome != "supported", needed.why
    assert needed.n_sinks == 36


@exhaustive
def test_neurons_that_no_attention_follows_end_no_sink():
    """Heads attend to marks: without the neuron a sink has no norm, but all of its attention."""
    needed, enough = sparsity(*Garden(*three(forming=(3,)), n_texts=10, by_marks=True).asked)
    assert (needed.outcome, enough.outcome) == ("contradicted", "inconclusive")


def test_the_planted_neuron_comes_first_and_is_all_there_is():
    garden = Garden(*three(forming=(3,)), n_texts=2)
    answer = sparsity(*garden.asked)
    top = answer.cells[(answer.cells["neurons"] == "top") & (answer.cells["k"] == 1)]
    without = top[top["test"] == "without"].set_index("sink_pos")["edits"]
    # Neurons are in the order of the plants; the first is the primary's.
    for number, pos in enumerate(PLACES, start=1):
        for cell in without[pos]:
            assert [(e["layer"], e["units"]) for e in json.loads(cell)] == [(3, [number])]
    smallest = answer.tables["smallest"]
    assert (smallest["needed"] == 1).all()
    assert (smallest["enough"] == 1).all()
    assert (smallest["n_neurons"] == garden.model.cfg.d_mlp).all()


def test_four_neurons_need_as_many_as_the_criterion_says():
    """Each writes 12. Above 19 it is a sink: three of four must go, or two stay."""
    smallest = sparsity(*Garden(*FOUR, n_texts=1).asked, few=0.2).tables["smallest"]
    assert set(smallest["needed"]) == {4.0}  # of 1, 2, 4, 5, ...; three would do
    assert set(smallest["enough"]) == {2.0}


def test_top_neurons_do_nothing_at_controls():
    cells = sparsity(*Garden(*three(forming=(3,)), n_texts=1).asked).cells
    control = cells[cells["neurons"] == "control"]
    assert not control["is_sink"].any()
    assert control[control["k"] == 1]["mass_edited"].to_numpy() == pytest.approx(
        control[control["k"] == 1]["mass_clean"].to_numpy()
    )


def test_a_neuron_as_active_at_the_same_token_elsewhere_does_not_carry_the_sink():
    """It writes most, at the sink and at its twins; what only the sink has is written by others.

    Zeroing it leaves too little for a sink, and would say that this neuron is needed.
    """
    plants = [Plant(pos=pos, forming=(3,), strength=s) for pos in PLACES for s in (12.0, 12.0)]
    tokens = Garden(*plants, n_texts=1).planted.tokens

    def read_the_token(model):
        """The first neuron of each place reads which token it is, not where it stands."""
        positions, embed = model.pos_embed.W_pos.data, model.embed.W_E.data
        for number, pos in enumerate(PLACES):
            marker = int(model.blocks[3].mlp.W_in[:, 2 + 2 * number].argmax())
            embed[tokens[pos], marker] = positions[pos, marker]
            positions[pos, marker] = 0.0

    answer = sparsity(*Garden(*plants, change=read_the_token, twins=2).asked)
    few = answer.cells[answer.cells["few"] & (answer.cells["neurons"] == "top")]
    stay = few[few["test"] == "without"].groupby("edit")["is_sink"].mean()
    assert (stay["zero"], stay["mean:twins"]) == (0.0, 1.0)
    assert outcomes(answer)[NEEDED] == "inconclusive"


def test_as_many_random_neurons_are_ablated():
    cells = sparsity(*Garden(*three(forming=(2, 3), strength=24.0), n_texts=1).asked).cells
    for row in cells.to_dict("records"):
        zeroed = sum(len(edit["units"]) for edit in json.loads(row["edits"]))
        assert zeroed == (row["k"] if row["test"] == "without" else row["n_neurons"] - row["k"])
    assert set(cells[cells["neurons"] == "random"]["seed"]) == {0, 1, 2}


@exhaustive
def test_gated_mlps_with_grouped_queries_too():
    garden = Garden(*three(forming=(3,)), gated=True, n_kv_heads=2, n_texts=7)
    assert outcomes(sparsity(*garden.asked)) == {NEEDED: "supported", ENOUGH: "supported"}


def test_a_mixture_of_experts_is_left_out_and_counted(monkeypatch):
    module = sys.modules["secondary_sinks.attribution.formation"]
    monkeypatch.setattr(module, "neurons_of", lambda *_: None)
    answer = sparsity(*Garden(*three(forming=(3,)), n_texts=2).asked)
    assert answer.left_out[NO_NEURONS] == 6
    assert set(outcomes(answer).values()) == {"inconclusive"}
    assert f"6 {NO_NEURONS}" in answer.verdicts[0].why
