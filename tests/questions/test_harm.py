"""Harm: a model that needs its sinks, one that does not, and what is counted."""

import pytest
import torch

from secondary_sinks import detect, harm, observe
from secondary_sinks.questions.harm import CLAIM
from secondary_sinks.questions.matched_pairs import matched_draw
from secondary_sinks.testing.planted import Plant
from tests.marks import exhaustive
from tests.questions.gardens import Garden, outcomes, three
from tests.questions.test_necessity import ATTENTION

NEVER = 15
"""A token that stands in no text."""


def needy(garden):
    """Make the model predict `NEVER` where heads find little of the sink direction to attend to.

    A head of the last layer writes how much of it they find to an axis of its own.
    """
    model, axis, last = garden.model, 1, garden.model.blocks[-1].attn
    with torch.no_grad():
        last.W_V[0, 0, 0], last.W_O[0, 0] = 1.0, 0.0
        last.W_O[0, 0, axis] = 0.5
        clean = model.run_with_cache(garden.traces[0].tokens[None])[1]["ln_final.hook_normalized"]
        usual = clean[0, 40:, axis].mean()
        model.unembed.W_U[axis] = 0.0
        model.unembed.W_U[axis, NEVER] = -40.0
        model.unembed.b_U[NEVER] = 40.0 * usual
    garden.traces = [observe(model, t.tokens, text_id=t.text_id) for t in garden.traces]
    garden.sinks = detect(garden.traces)
    return garden


def test_a_model_that_needs_its_sinks_is_harmed():
    answer = harm(*needy(Garden(*three(forming=(3,), strength=120.0))).asked)
    assert outcomes(answer) == {CLAIM: "supported"}
    assert (answer.effects["controls"].abs() < 0.01).all()


@pytest.mark.parametrize(
    ("plants", "n_texts", "words"),
    [
        ([], 4, "no secondary sink"),
        pytest.param(ATTENTION, 4, "12 not formed by any MLP", marks=exhaustive),
        (three(forming=(3,)), 2, "6 sinks in only 2 texts"),
        pytest.param([Plant(pos=20, forming=(3,))], 4, "4 sinks in 4 texts", marks=exhaustive),
    ],
)
def test_too_little_claims_nothing(plants, n_texts, words):
    (verdict,) = harm(*Garden(*plants, n_texts=n_texts).asked).verdicts
    assert verdict.outcome == "inconclusive"
    assert words in verdict.why


def test_cells_of_a_text_count_the_same_positions_and_as_many_edits():
    cells = harm(*Garden(*three(forming=(3,)), n_texts=2).asked, draws=4).cells
    assert set(cells["n_edited"]) == {3}
    assert (cells.groupby("text_id")["n_counted"].nunique() == 1).all()
    assert (cells.groupby(["text_id", "edit", "role"]).size().unstack()["controls"] == 4).all()
    assert (cells.groupby("text_id")["loss_clean"].nunique() == 1).all()


def test_token_twins_are_among_the_edits_of_sinks_and_of_ordinary_tokens_that_have_some():
    cells = harm(*Garden(*three(forming=(3,)), n_texts=2).asked, draws=2).cells
    twins = cells[cells["edit"] == "mean:twins"]
    assert twins.groupby(["text_id", "role"])["draw"].count().unstack().to_numpy().tolist() == [
        [2, 1],
        [2, 1],
    ]
    assert set(twins["n_edited"]) == {3}
    none = harm(*Garden(*three(forming=(3,)), twins=0, n_texts=1).asked, draws=1).cells
    assert "mean:twins" not in set(none["edit"])


def test_draws_are_ordinary_tokens_that_differ():
    garden = Garden(*three(forming=(3,)), n_texts=1)
    trace, targets = garden.traces[0], garden.sinks.of_kind("secondary").sinks
    draws = [matched_draw(trace, garden.sinks, targets, seed) for seed in range(6)]
    for draw in draws:
        assert set(draw) == {12, 24, 36}
        assert len(set(draw.values())) == 3
        assert not set(draw.values()) & {0, 12, 24, 36}
        assert all(trace.norm[2, pos] < 12 for pos in draw.values())
        assert all(abs(pos - sink) <= 24 for sink, pos in draw.items())
    assert len({tuple(draw.values()) for draw in draws}) > 1
    assert draws[0] == matched_draw(trace, garden.sinks, targets, 0)


def indifferent(garden):
    """Predictions hang on nothing, so that no edit can raise the loss."""
    with torch.no_grad():
        garden.model.unembed.W_U.zero_()
    return garden


@exhaustive
def test_sinks_that_stay_leave_it_open_whether_their_removal_harms():
    """Of four sinks per text attention writes three, and no MLP edit removes these."""
    garden = indifferent(Garden(Plant(pos=44, forming=(3,)), *ATTENTION, n_texts=8))
    (verdict,) = (answer := harm(*garden.asked, draws=2)).verdicts
    cells = answer.cells[answer.cells["role"] == "sinks"]
    assert set(zip(cells["n_edited"], cells["n_sinks"], cells["n_ended"], strict=True)) == {
        (1, 4, 1)
    }
    assert (answer.cells[answer.cells["role"] == "controls"]["n_ended"] == 0).all()
    assert answer.effects["ended"].tolist() == [0.25] * len(answer.effects)
    assert verdict.high < 0.01
    assert verdict.outcome == "inconclusive"
    assert "24 of 32 sinks were not removed by zero" in verdict.why


def test_a_model_whose_predictions_hang_on_nothing_is_not_harmed():
    garden = indifferent(Garden(*three(forming=(3,)), n_texts=8))
    answer = harm(*garden.asked, draws=1)
    assert outcomes(answer) == {CLAIM: "contradicted"}
    assert (answer.effects["beyond"] == 0).all()
    assert (answer.effects["ended"] == 1).all()
    assert "not removed" not in answer.verdicts[0].why


@exhaustive
def test_sinks_that_keep_their_attention_were_not_removed():
    """Heads attend to marks, whatever the MLP writes: the edit takes the norm alone."""
    (verdict,) = harm(*Garden(*three(forming=(3,)), n_texts=8, by_marks=True).asked).verdicts
    assert verdict.outcome == "inconclusive", verdict.why
    assert "24 of 24 sinks were not removed" in verdict.why
