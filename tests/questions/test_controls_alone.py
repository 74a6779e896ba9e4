"""What an edit does at the controls alone is no effect on sinks, in any question.

In each planted model the edit moves the controls the other way and leaves the sinks as they are, so
the difference from controls alone would support the claim.
"""

import pandas as pd
import pytest
import torch

from secondary_sinks import detect, harm, necessity, norm_dose, observe, redistribution, restoration
from secondary_sinks.questions import later_verdict
from secondary_sinks.questions.answer import NOT_AT_SINKS
from secondary_sinks.questions.circuit.eviction_verdicts import CACHES, eviction_verdicts
from secondary_sinks.questions.dose_verdicts import GAIN, _gain
from secondary_sinks.questions.restoration import STAYED
from secondary_sinks.testing import Plant, plant
from tests.questions.gardens import PRIMARY, Garden, texts, three
from tests.questions.test_harm import needy

PLACES = (12, 24, 36)
MARK, DIM = 1, 4
"""A coordinate that only controls have, and the dimension of keys that reads it."""
SUPPORTED = "supported"


def with_twins(*decoys, change=None, n_texts=8, strength=50.0, **more):
    """Sinks that MLP 3 writes, between two token twins; the lower of these is the control."""
    plants = [Plant(pos=pos, forming=(3,), strength=strength) for pos in PLACES]
    planted = plant([PRIMARY, *plants, *decoys], twins=0, **more)
    for pos in PLACES:
        planted.tokens[[pos - 1, pos + 1]] = int(planted.tokens[pos])
    if change:
        with torch.no_grad():
            change(planted.model, len(planted.plants))
    traces = [
        observe(planted.model, tokens, text_id=f"t{number}")
        for number, tokens in enumerate(texts(planted, n_texts))
    ]
    return planted.model, traces, detect(traces)


def marked(model, row, *, key, wiped):
    """Mark the controls; heads read the mark as `key`, and MLP 3 writes `wiped` times it."""
    for layer, block in enumerate(model.blocks):
        block.attn.W_K[:, MARK, DIM] = key
        if layer == 3:
            block.mlp.W_in[:, row] = 0
            block.mlp.W_in[MARK, row] = 1
            block.mlp.W_out[row] = 0
            block.mlp.W_out[row, MARK] = -wiped
    for pos in PLACES:
        model.pos_embed.W_pos[pos - 1, MARK] = 2.0


def test_a_later_mlp_that_only_silences_controls_sustains_no_sink():
    decoys = [
        Plant(pos=pos - 1, forming=(2,), dies=5, strength=10.0, attended=True) for pos in PLACES
    ]
    made = with_twins(*decoys, n_texts=10)
    verdict = later_verdict(necessity(*made, edits=("zero", "mean:twins")).cells)
    assert verdict.low > verdict.line, "beyond controls alone it would be supported"
    assert verdict.outcome != SUPPORTED
    assert "removes 0% of the attention that sinks draw" in verdict.why
    assert NOT_AT_SINKS in verdict.why


def test_an_mlp_that_only_silences_controls_is_not_needed():
    def change(model, row):
        marked(model, row, key=2.25, wiped=1.0)

    answer = necessity(*with_twins(change=change, by_marks=True), edits=("zero", "mean"))
    effects = answer.effects[answer.effects["layer"] == 3]
    assert (effects["low"] > 0.1).all(), "beyond controls alone it would be supported"
    assert effects.set_index("edit").loc["zero", "sinks_low"] < 0.1
    assert SUPPORTED not in {one.outcome for one in answer.verdicts}


def test_what_the_primary_loses_to_controls_is_no_gain_from_sinks():
    def change(model, row):
        marked(model, row, key=0.0, wiped=1.0)
        reads = model.blocks[4].attn
        reads.W_K[:, MARK, DIM] = 1.0
        reads.W_V[0, MARK, 6] = 1.0
        reads.W_O[0, 6] = 0
        reads.W_O[0, 6, MARK] = 12.0
        for layer in (5, 6, 7):
            model.blocks[layer].attn.W_K[:, MARK, DIM] = 0.0
            model.blocks[layer].attn.W_Q[:, MARK, DIM] = -0.6

    (verdict,) = redistribution(*with_twins(change=change), edits=("zero", "mean:twins")).verdicts
    assert verdict.low > verdict.line, "beyond controls alone it would be supported"
    assert verdict.outcome == "inconclusive"
    assert "with nothing subtracted" in verdict.why


def test_attention_that_falls_at_controls_is_no_growth_at_sinks():
    def change(model, row):
        marked(model, row, key=1.4, wiped=0.25)

    answer = norm_dose(*with_twins(change=change, strength=100.0))
    (verdict,) = (one for one in answer.verdicts if "draw more attention" in one.claim)
    up = answer.cells[(answer.cells["test"] == "dose") & (answer.cells["factor"] >= 1)]
    beyond, alone = (_gain(up, "mass_edited", 1, alone=one) for one in (False, True))
    assert beyond.low > GAIN, "beyond controls alone it would be supported"
    assert alone.high < GAIN
    assert verdict.outcome != SUPPORTED


def test_sinks_that_stay_are_not_removed():
    """Attention goes by marks: no edit of MLP 3 removes a sink, whatever else it does."""
    made = needy(Garden(*three(forming=(3,), strength=120.0), n_texts=8, by_marks=True))
    (verdict,) = harm(*made.asked, edits=("zero", "mean:twins")).verdicts
    assert verdict.low > verdict.line, "without a look at what stayed it would be supported"
    assert (verdict.outcome, "24 of 24 sinks were not removed by zero" in verdict.why) == (
        "inconclusive",
        True,
    )


def test_nothing_is_said_of_the_primary_where_the_sink_stays():
    made = three(forming=(3,), strength=120.0)
    answer = restoration(
        *Garden(*made, n_texts=8, by_marks=True, content_queries=True).asked, edits=("zero", "mean")
    )
    (verdict,) = answer.verdicts
    assert (verdict.outcome, verdict.n_texts) == ("inconclusive", 0)
    assert f"8 {STAYED}" in verdict.controls


@pytest.mark.parametrize(
    ("number", "helped"), [(0, {"random": -0.02}), (1, {"primary and random": -0.02})]
)
def test_a_loss_that_falls_without_random_keys_is_no_harm_by_sinks(number, helped):
    rows = [
        {
            **{"text_id": f"t{text}", "cache": cache, "keys": keys, "n_sinks": 2},
            **{"rise": helped.get(keys, 0.0), "n_secondary": 0 if "heavy" in keys else 2},
        }
        for text in range(12)
        for cache, keys in CACHES
    ]
    verdict = eviction_verdicts(pd.DataFrame(rows), {}, 3)[number]
    assert verdict.low > verdict.line
    assert (verdict.outcome, NOT_AT_SINKS in verdict.why) == ("inconclusive", True)
