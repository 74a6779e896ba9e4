"""The primary is found among all positions; tokens may take turns; nothing needed is missing."""

import sys

import pytest
import torch

from secondary_sinks import observe
from secondary_sinks.observation import candidates, iter_layers
from secondary_sinks.observation import primary as primaries
from secondary_sinks.observation.primary import Prominence, choose_primary, choose_references
from secondary_sinks.testing.plant_spec import Plant
from secondary_sinks.testing.planted import plant
from secondary_sinks.types import LAYER_POS
from tests.marks import needs_old

PRIMARY = Plant(pos=0, forming=(1,), strength=400.0)


def standing(drawn, deviation_ratio=5.0):
    drawn = torch.tensor(drawn)
    return Prominence(
        deviation_ratio=torch.as_tensor(deviation_ratio).expand_as(drawn).clone(), drawn=drawn
    )


def references(given, primary=0, related=(False, False)):
    return choose_references(given, primary, torch.tensor(related)).tolist()


def test_the_primary_draws_most_at_its_best_layer_not_over_all():
    assert choose_primary(standing([[0.0, 0.2], [0.5, 0.2], [0.0, 0.2], [0.0, 0.2]])) == 0


def test_of_two_that_draw_alike_the_more_massive_is_the_primary():
    drawn = [[0.4, 0.6]]
    assert choose_primary(standing(drawn, [[9.0, 4.0]])) == 0
    assert choose_primary(standing(drawn, [[3.0, 4.0]])) == 1
    assert choose_primary(standing([[0.2, 0.6]], [[9.0, 4.0]])) == 1


def test_the_first_position_where_nothing_stands_out():
    assert choose_primary(standing([[0.0, 0.0]])) == 0
    assert references(standing([[0.0, 0.0]])) == [0]


def test_another_token_takes_its_turn_only_where_the_primary_is_off():
    given = standing([[0.0, 0.5], [0.8, 0.5], [0.0, 0.5]])
    assert references(given) == [1, 0, 1]


def test_a_token_that_draws_too_little_takes_no_turn():
    assert references(standing([[0.0, 0.19], [0.8, 0.0]])) == [0, 0]
    assert references(standing([[0.0, 0.21], [0.8, 0.0]])) == [1, 0]


def test_a_secondary_sink_takes_no_turn_unless_it_is_as_massive():
    drawn, related = [[0.5, 0.5], [0.0, 0.5]], (False, True)
    assert references(standing(drawn, [[9.0, 4.0]] * 2), related=related) == [0, 0]
    assert references(standing(drawn, [[9.0, 5.0]] * 2), related=related) == [0, 1]


def test_three_tokens_may_take_turns():
    given = standing([[0.9, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 0.5]])
    assert references(given, related=(False,) * 3) == [0, 1, 2]


@pytest.fixture
def late():
    """A primary late in the text, among massive tokens."""
    crowd = [Plant(pos=p, forming=(0,), strength=200.0, sideways=True) for p in range(5, 13)]
    primary = Plant(pos=20, forming=(2,), strength=400.0)
    return plant([primary, *crowd, Plant(pos=30, forming=(3,))], n_pos=96)


@needs_old
def test_a_primary_that_was_not_followed_costs_a_second_pass_and_nothing_else(late, monkeypatch):
    expected = observe(late.model, late.tokens)
    passes = []

    def counted(*arguments, **options):
        passes.append(1)
        return iter_layers(*arguments, **options)

    monkeypatch.setattr(sys.modules["secondary_sinks.observation.observe"], "iter_layers", counted)
    observe(late.model, late.tokens)
    assert len(passes) == 1
    monkeypatch.setattr(candidates, "AT_MOST", 4)
    got = observe(late.model, late.tokens)
    assert len(passes) == 3
    assert (got.primary, expected.primary) == (20, 20)
    for name in (*LAYER_POS, "reference_resid"):
        paid = name == "paid_to_primary"
        first = 3 if paid else 2  # the block after layer 2 reads it; queries before it don't see it
        one, other = getattr(got, name)[first:], getattr(expected, name)[first:]
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=paid, msg=name)


@needs_old
def test_alignment_is_with_the_reference_of_each_layer():
    planted = plant(
        [
            Plant(pos=0, forming=(1,), dies=4, strength=400.0),
            Plant(pos=12, forming=(5,), strength=400.0),
        ]
    )
    trace = observe(planted.model, planted.tokens)
    assert trace.reference.tolist() == [0] * 5 + [12] * 3
    _, cache = planted.model.run_with_cache(planted.tokens[None])
    for layer, pos in enumerate(trace.reference.tolist()):
        resid = cache[f"blocks.{layer}.hook_resid_post"][0]
        expected = torch.cosine_similarity(resid, resid[pos], dim=-1)
        torch.testing.assert_close(trace.alignment[layer], expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(trace.reference_resid[layer], resid[pos], rtol=1e-5, atol=1e-4)


@needs_old
def test_the_attention_drawn_is_that_of_the_block_that_reads():
    planted = plant([PRIMARY])
    trace = observe(planted.model, planted.tokens)
    rows = {name: getattr(trace, name) for name in ("mass", "mass_null", "mass_local")}
    rows |= {"deviation_ratio": trace.deviation_ratio, "queries": trace.queries}
    got = Prominence.of(rows).drawn
    expected = torch.maximum(trace.mass_null, trace.mass_local)
    read = (trace.mass - expected)[2:, 0]
    torch.testing.assert_close(got[1:7, 0], read)
    assert float(got[0, 0]) == 0
    assert float(got[7, 0]) == float(got[6, 0])
    assert float(got[:, 1:].max()) == 0
    assert primaries.choose_primary(Prominence.of(rows)) == 0
