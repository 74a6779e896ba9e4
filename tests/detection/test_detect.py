"""Detection finds what was planted and nothing else."""

import inspect
from dataclasses import replace

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secondary_sinks import detect, observe
from secondary_sinks.detection import is_attended
from secondary_sinks.errors import DetectionError
from secondary_sinks.testing.planted import Plant, plant
from secondary_sinks.types import Thresholds
from tests.shapes import FIRST

for _ in range(FIRST):  # from now on types are not checked, as in a user's session
    Thresholds()
PRIMARY = Plant(pos=0, forming=(1,), strength=400.0)
DECOYS = (
    Plant(pos=25, forming=(3,), sideways=True),
    Plant(pos=28, forming=(3,), strength=3.0),
    Plant(pos=35, attended=True),
)


def found(planted, **thresholds):
    trace = observe(planted.model, planted.tokens)
    return detect(trace, Thresholds(**thresholds)).sinks


@pytest.mark.parametrize("anisotropy", [0.0, 10.0])
@pytest.mark.parametrize("n_kv_heads", [None, 2])
def test_planted_sinks_are_found_and_decoys_are_not(anisotropy, n_kv_heads):
    secondary = [Plant(pos=20, forming=(3,), dies=6), Plant(pos=30, forming=(2,))]
    planted = plant([PRIMARY, *secondary, *DECOYS], anisotropy=anisotropy, n_kv_heads=n_kv_heads)
    got = {(s.pos, s.kind, s.l_start, s.lifetime, s.censored) for s in found(planted)}
    assert got == {
        (0, "primary", 1, 7, "right"),
        (20, "secondary", 3, 3, "none"),
        (30, "secondary", 2, 6, "right"),
    }


@given(st.data())
@settings(max_examples=15, deadline=None)
def test_random_plants_are_recovered_exactly(data):
    n_layers = data.draw(st.integers(5, 10), label="layers")
    positions = data.draw(st.lists(st.integers(3, 45), max_size=4, unique=True), label="positions")
    plants = [PRIMARY]
    for pos in positions:
        born = data.draw(st.integers(2, n_layers - 2))
        dies = data.draw(st.none() | st.integers(born + 1, n_layers - 1))
        strength = data.draw(st.floats(45, 150))
        plants.append(Plant(pos=pos, forming=(born,), dies=dies, strength=strength))
    planted = plant(
        plants,
        n_layers=n_layers,
        anisotropy=data.draw(st.sampled_from([0.0, 5.0, 10.0]), label="anisotropy"),
        seed=data.draw(st.integers(0, 1000), label="seed"),
    )
    got = {(s.pos, s.l_start, s.lifetime) for s in found(planted)}
    assert got == {(p.pos, p.l_start, p.lifetime(n_layers)) for p in plants}


def test_a_model_without_sinks_has_none():
    assert found(plant([])) == ()
    assert found(plant(DECOYS)) == ()


def test_the_primary_need_not_be_the_first_token():
    planted = plant([replace(PRIMARY, pos=2), Plant(pos=20, forming=(3,))])
    assert [(s.pos, s.kind) for s in found(planted)] == [(2, "primary"), (20, "secondary")]


def test_a_late_primary_is_found_too():
    planted = plant([replace(PRIMARY, pos=9, forming=(2,)), Plant(pos=20, forming=(4,))])
    assert [(s.pos, s.kind) for s in found(planted)] == [(9, "primary"), (20, "secondary")]


def test_a_sink_that_arises_with_the_primary_and_stays_is_primary_like():
    planted = plant([PRIMARY, Plant(pos=1, forming=(1,), strength=300.0)])
    assert [s.kind for s in found(planted)] == ["primary", "primary_like"]


def test_one_that_arises_with_the_primary_and_dies_is_secondary():
    planted = plant([PRIMARY, Plant(pos=10, forming=(1,), dies=4)])
    assert [s.kind for s in found(planted)] == ["primary", "secondary"]


def test_an_anti_aligned_token_is_no_sink():
    planted = plant([PRIMARY, Plant(pos=20, forming=(3,), strength=-60.0)])
    trace = observe(planted.model, planted.tokens)
    assert float(trace.alignment_centred[5, 20]) < -0.9
    assert [s.pos for s in detect(trace).sinks] == [0]


def test_a_token_that_too_few_queries_see_is_not_judged():
    planted = plant([PRIMARY, Plant(pos=60, forming=(3,))], n_pos=64)
    assert [s.pos for s in found(planted)] == [0]
    assert [s.pos for s in found(planted, min_queries=4)] == [0, 60]


def test_a_primary_with_two_episodes_keeps_both_and_nothing_is_a_sink_between():
    again = Plant(pos=0, forming=(1,), dies=3, strength=400.0)
    second = Plant(pos=0, forming=(5,), strength=400.0)
    planted = plant([again, second, Plant(pos=20, forming=(2,))], n_layers=8)
    assert [(s.pos, s.segments) for s in found(planted)] == [(0, "1-2, 5-7"), (20, "2, 5-7")]


def test_each_maximum_is_the_largest_over_the_sinks_own_layers():
    planted = plant([PRIMARY, Plant(pos=20, forming=(3,), dies=6)])
    trace = observe(planted.model, planted.tokens)
    sink = detect(trace).sinks[1]
    assert sink.layers == (3, 4, 5)
    assert sink.norm_max == float(trace.norm[3:6, 20].max())
    assert sink.mass_max == float(trace.mass[4:7, 20].max())
    assert sink.mass_excess_max == float((trace.mass - trace.mass_null)[4:7, 20].max())


def test_attention_is_read_by_the_next_block():
    mass = torch.tensor([[0.0], [0.0], [0.9], [0.9], [0.0]])
    null, queries = torch.full((5, 1), 0.1), torch.full((5, 1), 50)
    got = is_attended(mass, null, queries, Thresholds())[:, 0].tolist()
    assert got == [False, True, True, False, False]


def test_another_trace_of_the_same_tokens_is_refused_and_not_left_out():
    """Without its MLP, token 20 is no sink: whichever trace came second was ignored."""
    planted = plant([PRIMARY, Plant(pos=20, forming=(3,))])
    hooks = [("blocks.3.hook_mlp_out", lambda written, hook: written * 0)]
    clean = observe(planted.model, planted.tokens)
    changed = observe(planted.model, planted.tokens, hooks=hooks)
    assert len(detect(clean).of_kind("secondary")) != len(detect(changed).of_kind("secondary"))
    for both in ([clean, changed], [changed, clean]):
        with pytest.raises(DetectionError, match="traces of the same tokens have the id 'text'"):
            detect(both)
    with pytest.raises(DetectionError, match="they differ in dtype; give one of them"):
        detect([clean, replace(clean, dtype=torch.bfloat16)])
    again = observe(planted.model, planted.tokens, chunk=7)  # rounded in another way
    assert repr(detect([clean, again]).sinks) == repr(detect(clean).sinks)


@pytest.mark.parametrize(
    "wrong",
    [
        {"aligned": float("nan")},
        {"aligned": -1.5},
        {"outlying": -1.0},
        {"outlying": float("inf")},
        {"aligned": True},
        {"aligned": "0.5"},
        {"persists": -3},
        {"persists": 2.5},
        {"persists": True},
        {"min_queries": "a"},
        {"min_queries": 10**30},
        {"persists": 10**6},
        {"aligned": 2},
        {"paper_aligned": 1.5},
        {"primary_like": 1.1},
        {"paper_first": 0},
    ],
)
def test_a_threshold_is_a_number_that_can_be_reached(wrong):
    """NaN passes no test, so all secondary sinks were lost."""
    name = next(iter(wrong))
    with pytest.raises(DetectionError, match=f"threshold '{name}' is .*; expected a"):
        Thresholds(**wrong)
    with pytest.raises(DetectionError, match=f"threshold '{name}' is .*; expected a"):
        inspect.unwrap(Thresholds.but)(Thresholds(), **wrong)


def test_a_text_given_twice_counts_once():
    planted = plant([PRIMARY, Plant(pos=20, forming=(3,))])
    trace = observe(planted.model, planted.tokens)
    pd.testing.assert_frame_equal(detect([trace, trace]).to_frame(), detect(trace).to_frame())


def test_two_texts_of_one_name_are_refused():
    planted = plant([PRIMARY])
    traces = [observe(planted.model, tokens) for tokens in (planted.tokens, planted.tokens[:50])]
    with pytest.raises(DetectionError, match="two different texts have the id 'text'"):
        detect(traces)


def test_a_sink_whose_whole_prefix_stood_in_an_earlier_text_is_its_copy():
    """Causal attention: the same tokens up to the sink make the same sink."""
    planted = plant([PRIMARY, Plant(pos=20, forming=(3,)), Plant(pos=40, forming=(3,))])
    other = planted.tokens.clone()
    other[30] = 17
    texts = {"a": planted.tokens, "b": other, "c": planted.tokens}
    traces = [observe(planted.model, tokens, text_id=name) for name, tokens in texts.items()]
    got = {(s.text_id, s.pos): s.copy_of for s in detect(traces).sinks}
    assert got == {
        **{("a", 0): "", ("a", 20): "", ("a", 40): ""},
        **{("b", 0): "a", ("b", 20): "a", ("b", 40): ""},
        **{("c", 0): "a", ("c", 20): "a", ("c", 40): "a"},
    }


def test_levels_are_those_of_secondary_sinks_over_all_texts():
    """Six different texts; what stood before has the level of its cell, and adds nothing to it."""
    planted = plant([PRIMARY, Plant(pos=20, forming=(3,), dies=6), Plant(pos=5, forming=(1,))])
    traces = []
    for number in range(6):
        tokens = planted.tokens.clone()
        tokens[10] = 16 + number
        traces.append(observe(planted.model, tokens, text_id=str(number)))
    levels = {s.pos: s.level for s in detect(traces).sinks}
    assert levels[20] == 0
    assert all(levels[pos] != levels[pos] for pos in (0, 5))
    fewer = {s.level for s in detect([*traces[:4], replace(traces[0], text_id="again")]).sinks}
    assert all(level != level for level in fewer)


def test_a_frame_has_the_promised_columns_even_when_it_is_empty():
    promised = """text_id pos token_id token kind criterion label l_start l_end lifetime level
        copy_of within_rounding censored
        alignment_max alignment_centred_max norm_max norm_ratio_max mass_max mass_excess_max"""
    empty = detect(observe(plant([]).model, plant([]).tokens)).to_frame()
    assert set(promised.split()) <= set(empty.columns)
    assert len(empty) == 0


def test_massive_late_tokens_that_attention_cannot_see_are_no_sinks():
    """Constant scores that fall with distance: recency gives every late key a large mean mass."""
    planted = plant([PRIMARY, *(Plant(pos=pos, forming=(1,)) for pos in (20, 40, 50))])
    for block in planted.model.blocks:
        block.attn.calculate_attention_scores = by_distance
    trace = observe(planted.model, planted.tokens)
    assert float(trace.mass[3, 50]) > 2 * float(trace.mass_null[3, 50])
    assert detect(trace).sinks == ()


def by_distance(q, k):
    """Scores that don't depend on content; queries are the last keys."""
    last, n_keys = q.shape[1], k.shape[1]
    query = torch.arange(n_keys - last, n_keys)[:, None]
    return (-0.5 * (query - torch.arange(n_keys)).abs()).float().expand(1, q.shape[2], last, n_keys)


def test_the_last_layer_cannot_start_a_sink():
    planted = plant([PRIMARY, Plant(pos=20, attended=True), Plant(pos=20, forming=(7,))])
    assert [s.pos for s in found(planted)] == [0]


def test_a_secondary_that_outlives_the_primary_stays_secondary():
    planted = plant([replace(PRIMARY, dies=4), Plant(pos=20, forming=(2,))])
    got = [(s.pos, s.kind, s.l_start) for s in found(planted)]
    assert got == [(0, "primary", 1), (20, "secondary", 2)]


def test_massive_tokens_of_other_directions_do_not_hide_the_primary():
    decoys = [Plant(pos=p, forming=(1,), strength=800.0, sideways=True) for p in range(5, 11)]
    planted = plant([replace(PRIMARY, pos=4), Plant(pos=40, forming=(3,)), *decoys], n_pos=96)
    assert [(s.pos, s.kind) for s in found(planted)] == [(4, "primary"), (40, "secondary")]
