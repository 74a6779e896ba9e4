"""Sufficiency: what the planted MLP writes makes a twin a sink; what others write does not."""

from dataclasses import replace

import pytest

from secondary_sinks import necessity, sufficiency
from secondary_sinks.errors import DetectionError
from secondary_sinks.questions.answer import AT_CONTROLS
from secondary_sinks.questions.forming import by_place, forming_mlps
from secondary_sinks.questions.held_out import other_layers
from secondary_sinks.questions.matched_pairs import match_pairs
from secondary_sinks.questions.sufficiency import DENOISING, NOISING
from tests.marks import exhaustive, thinned
from tests.questions.gardens import Garden, outcomes, three
from tests.questions.test_necessity import FORMED, TRUTHS, garden_of

OUTCOMES = {
    "one MLP": "supported",
    "two that are needed each": "supported",
    "two of which one is enough": "supported",
    "a chain": "supported",
    "attention": "contradicted",
    "nothing": "inconclusive",
    "norm without direction": "inconclusive",
}


ALONE = OUTCOMES | {"two that are needed each": "contradicted"}
"""Whether the MLP of the creation layer alone is enough."""


@pytest.mark.parametrize(
    "name",
    thinned(list(TRUTHS), ["two of which one is enough", "attention", "norm without direction"]),
)
def test_the_verdicts_are_what_was_planted(name):
    answer = sufficiency(*garden_of(name).asked)
    assert outcomes(answer) == {DENOISING: ALONE[name], NOISING: OUTCOMES[name]}


def test_twins_become_sinks_by_the_output_of_the_forming_layer_only():
    answer = sufficiency(*Garden(*three(forming=(3,), dies=6), n_texts=3).asked)
    made = answer.effects[answer.effects["patch"] == "denoising"]
    forming = made[made["where"] == "creation"].set_index("donor")
    # What ends the sink at layer 6 reads its mark, which the twin has not.
    assert forming.loc["sink", ["sink", "lifetime"]].tolist() == [1.0, 5.0]
    assert forming.loc["ordinary", ["sink", "lifetime"]].tolist() == [0.0, 0.0]
    single = made[made["where"] == "layer"].set_index("layers")["sink"].to_dict()
    assert single == {(layer,): float(layer == 3) for layer in range(8)}


def test_that_all_mlps_together_make_a_sink_says_nothing_of_one():
    """Two MLPs write half each. Both together make every twin a sink; naively, that is enough."""
    garden = Garden(*three(forming=(2, 3), strength=24.0), n_texts=12)
    answer = sufficiency(*garden.asked)
    made = answer.cells[(answer.cells["patch"] == "denoising") & (answer.cells["donor"] == "sink")]
    shares = made[made["text_id"] != "t0"].groupby("where")["is_sink"].mean()
    assert (shares["forming"], shares["creation"]) == (1.0, 0.0)
    verdict = answer.verdicts[0]
    assert (verdict.claim, verdict.outcome) == (DENOISING, "contradicted")
    assert "with all forming MLPs' outputs, 92% do" in verdict.why


def test_one_of_two_redundant_mlps_is_enough():
    answer = sufficiency(*Garden(*three(forming=(2, 4), strength=90.0), n_texts=3).asked)
    made = answer.effects[answer.effects["patch"] == "denoising"]
    single = made[made["where"] == "layer"].set_index("layers")["sink"]
    assert single[single == 1].index.tolist() == [(2,), (4,)]
    ended = answer.effects[answer.effects["patch"] == "noising"]
    single = ended[ended["where"] == "layer"].set_index("layers")["sink"]
    assert (single.dropna() == 1).all()
    # Created at layer 2: from layer 5 on, three layers of it stand, and no patch can end it.
    assert single.index[single.isna()].tolist() == [(layer,) for layer in range(5, 8)]
    # The first text is asked with the MLP of the creation layer alone, the others with both.
    forming = ended[ended["where"] == "forming"].set_index("layers")
    assert forming["sink"].to_dict() == {(2,): 1.0, (2, 4): 0.0}
    assert forming["n_sinks"].to_dict() == {(2,): 3, (2, 4): 6}


@exhaustive
def test_attention_that_forms_a_sink_is_said():
    answer = sufficiency(*Garden(*TRUTHS["attention"][0]).asked)
    assert all("24 of 24 sinks have no forming MLP" in verdict.why for verdict in answer.verdicts)


@exhaustive
def test_neighbours_stand_in_where_there_are_no_twins():
    answer = sufficiency(*Garden(*three(forming=(3,)), twins=False).asked)
    assert set(answer.cells["control"]) == {"neighbour"}
    assert "0 of 24 control tokens are token twins" in answer.verdicts[0].why
    assert answer.verdicts[0].outcome == "supported"


ENABLED = {sufficiency: NOISING, necessity: FORMED}


@pytest.mark.parametrize("ask", thinned(list(ENABLED), [sufficiency]))
def test_sinks_that_end_without_other_mlps_too_are_undecided(ask):
    """MLP 4 writes what MLP 3 has triggered: without either there is no sink.

    MLP 3 is the control of MLP 4, so that no sink ends by MLP 4 alone. Naively that refutes it.
    """
    garden = Garden(*three(forming=(3, 4), chain=True))
    writer = [replace(one, layers=(4,), how="one") for one in forming_mlps(*garden.asked)]
    answer = ask(*garden.asked, forming=writer)
    verdict = next(one for one in answer.verdicts if one.claim == ENABLED[ask])
    assert verdict.outcome == "inconclusive"
    assert verdict.value < verdict.high < 0.5
    assert verdict.why.endswith(AT_CONTROLS)


def test_layers_of_interest_are_the_ones_tried():
    answer = sufficiency(*Garden(*three(forming=(3,)), n_texts=1).asked, layers=[2, 5])
    single = answer.cells[answer.cells["where"] == "layer"]
    assert set(single["layers"]) == {(2,), (5,)}


@exhaustive
def test_forming_mlps_that_are_given_are_taken_and_must_be_of_all_sinks():
    garden = Garden(*three(forming=(3,)), n_texts=2)
    found = forming_mlps(*garden.asked)
    given = sufficiency(*garden.asked, forming=found)
    assert given.cells.equals(sufficiency(*garden.asked).cells)
    assert necessity(*garden.asked, forming=found).tables["forming"]["pos"].tolist() == [
        one.pos for one in found
    ]
    with pytest.raises(DetectionError, match="sink at"):
        by_place(garden.model, match_pairs(garden.traces, garden.sinks), garden.sinks, found[1:])


def test_other_layers_are_near_and_could_have_ended_the_sink():
    sink = Garden(*three(forming=(3,)), n_texts=1).sinks.of_kind("secondary").sinks[0]
    assert other_layers(sink, (3,)) == (2,)
    assert other_layers(sink, (1, 3)) == (0, 2)
    assert other_layers(sink, (0, 1, 2, 3)) == other_layers(sink, (1, 2, 3)) == ()


def test_noising_ends_no_sink_that_keeps_its_attention():
    garden = Garden(*three(forming=(3,)), n_texts=10, by_marks=True)
    _, noising = sufficiency(*garden.asked, layers=[3]).verdicts
    assert noising.outcome == "contradicted", noising.why


@exhaustive
def test_noising_at_all_mlps_that_there_are_shows_nothing_of_them():
    garden = Garden(*three(forming=(1, 2), strength=24.0), n_texts=12)
    _, noising = sufficiency(*garden.asked, layers=[2]).verdicts
    assert noising.outcome == "inconclusive", noising.why
    assert "92% of the sinks end" in noising.why
