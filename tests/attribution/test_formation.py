"""Parts add up to what the residual gets, and what was planted comes out first."""

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch

from secondary_sinks import detect, formation, observe
from secondary_sinks.attribution.events import events_of
from secondary_sinks.errors import TraceError, UnsupportedModelError
from secondary_sinks.observation.activations import ActivationCollector
from secondary_sinks.testing.families import tiny
from secondary_sinks.testing.plant_spec import Plant
from secondary_sinks.testing.planted import plant
from tests.attribution import made_up
from tests.attribution.made_up import CASES, MOE
from tests.tolerance import rounding, within

PRIMARY = Plant(pos=0, forming=(1,), strength=400.0)
PLANTS = (
    PRIMARY,
    Plant(pos=20, forming=(3,), dies=6),
    Plant(pos=30, forming=(2,), by="attention", dies=5),
    Plant(pos=12, forming=(2, 4), strength=100.0, dies=6),
)


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def family(request):
    model, trace, cache = made_up.family(*request.param)
    trace = replace(trace, reference_resid=trace.reference_resid.nan_to_num(0.5))
    got = formation(model, trace, made_up.made_up(trace), top_neurons=10**6)
    return request.param[0], model, trace, got, cache


@functools.cache
def rounded_neurons(name):
    """Rounding of what neurons write, in the order of their numbers."""

    def neurons(original):
        model, trace, _ = made_up.family_of(original, name, "hooked")
        trace = replace(trace, reference_resid=trace.reference_resid.nan_to_num(0.5))
        got = formation(model, trace, made_up.made_up(trace), top_neurons=10**6)
        return {"neuron": got.neuron[3, 1][got.neurons[3, 1].argsort()]}

    distance = lambda one, other: float((one - other).abs().max())  # noqa: E731
    return rounding(lambda: tiny(name), neurons, distance)["neuron"]


def unit(trace, event):
    direction = trace.reference_resid[event.direction_layer] - trace.typical[event.direction_layer]
    return (direction / direction.norm()).double()


def close(got, expected, scale):
    """Equal within 1e-5 of the size of what was added up."""
    assert float((got - expected).abs().max()) <= 1e-5 * float(scale)


def test_attention_and_mlp_add_up_to_the_change_of_the_residual(family):
    _, model, trace, got, cache = family
    for number, event in enumerate(got.events):
        resid = [cache["blocks.0.hook_resid_pre"][0, event.pos]] + [
            cache[f"blocks.{layer}.hook_resid_post"][0, event.pos]
            for layer in range(model.cfg.n_layers)
        ]
        along = torch.stack([state.double() @ unit(trace, event) for state in resid])
        size = torch.stack(resid).norm(dim=-1).max()
        close(got.embed[number], along[0], size)
        close(got.change[number], along.diff(), size)
        close(got.total[number], along[event.direction_layer + 1], size)


def test_heads_and_bias_add_up_to_attention_neurons_and_bias_to_the_mlp(family):
    name, _, _, got, _ = family
    heads = got.heads.sum(-1) + got.attention_bias
    close(heads, got.attention, got.heads.abs().sum(-1).max())
    if name in MOE:
        assert got.neurons.isnan().all()
        assert got.other_neurons.isnan().all()
        return
    assert float(got.other_neurons.abs().max()) <= 1e-6 * float(got.neuron.nansum().abs() + 1)
    neurons = got.neuron.nansum(-1) + got.other_neurons + got.mlp_bias
    close(neurons, got.mlp, got.neuron.nan_to_num().abs().sum(-1).max())


NORMED = ("gemma2", "gemma3", "olmo2")
"""Families with a norm between a sublayer and the residual."""


def one_by_one(name, values, weights, bias, added, direction, pos=21):
    """What each part writes along a direction at `pos`, with the gain of a norm after the sublayer.

    `values` and `added` are those of all positions: a norm by root mean square multiplies each
    coordinate by a weight that all positions share, which is estimated from all of them, since the
    quotient at one position says nothing where the coordinate is nearly 0.
    """
    weights = weights.detach().double()
    shape = "phd,hdm->phm" if weights.ndim == 3 else "pn,nm->pnm"
    each = torch.einsum(shape, values.double(), weights)
    whole = each.sum(1) + (0 if bias is None else bias.detach().double())
    gain = torch.ones_like(whole[pos])
    if name in NORMED:
        normed = whole / whole.pow(2).mean(-1, keepdim=True).sqrt()
        weight = (added.double() * normed).sum(0) / normed.pow(2).sum(0)
        gain = weight * normed[pos] / whole[pos]
    return ((each[pos] * gain) @ direction).numpy()


def test_every_head_is_what_a_loop_says(family):
    name, model, trace, got, cache = family
    attention, direction = model.blocks[1].attn, unit(trace, got.events[3])
    z, added = (cache[f"blocks.1.{point}"][0] for point in ("attn.hook_z", "hook_attn_out"))
    bias = getattr(attention, "b_O", None)
    expected = one_by_one(name, z, attention.W_O, bias, added, direction)
    scale = np.abs(expected).max()
    assert got.heads[3, 1].numpy() == pytest.approx(expected, rel=1e-4, abs=1e-4 * scale)


def test_every_neuron_is_what_a_loop_says_and_the_largest_come_first(family):
    name, model, trace, got, cache = family
    if name in MOE:
        pytest.skip("experts have no neurons of their own here")
    mlp, direction = model.blocks[1].mlp, unit(trace, got.events[3])
    post, added = (cache[f"blocks.1.{point}"][0] for point in ("mlp.hook_post", "hook_mlp_out"))
    bias = getattr(mlp, "b_out", None)
    expected = one_by_one(name, post, mlp.W_out, bias, added, direction)
    order = got.neurons[3, 1].long().tolist()
    assert sorted(order) == list(range(len(expected)))
    found = got.neuron[3, 1].numpy()
    within(np.abs(found - expected[order]).max(), rounded_neurons(name), name)
    assert (np.diff(np.abs(found)) <= 0).all()


@pytest.mark.parametrize("options", [{}, {"gated": True, "n_kv_heads": 2, "positions": "rotary"}])
def test_the_planted_writer_comes_out_first_with_all_of_the_share(options):
    planted = plant(PLANTS, content_queries=True, **options)
    trace = observe(planted.model, planted.tokens)
    frame = formation(planted.model, trace, detect(trace), top_neurons=3).to_frame()
    for sink in planted.expected_sinks():
        for event, writers in (("creation", sink.formed_by[:1]), ("death", sink.removed_by)):
            for writer in writers:
                rows = frame[(frame["pos"] == sink.pos) & (frame["event"] == event)]
                assert (rows["event_layer"] == writer.layer).all()
                part = "head" if writer.site == "attn_out" else "neuron"
                whole = rows[rows["component"] == writer.site.removesuffix("_out")].iloc[0]
                first = rows[rows["component"] == part].iloc[0]
                assert first["index"] == writer.index
                assert whole["share"] == pytest.approx(1.0, abs=2e-3)
                assert first["share"] == pytest.approx(1.0, abs=2e-3)


def test_two_that_form_a_sink_in_turn_share_its_total():
    planted = plant([PRIMARY, Plant(pos=20, forming=(2, 4), strength=24.0)])
    trace = observe(planted.model, planted.tokens)
    frame = formation(planted.model, trace, detect(trace)).to_frame("all")
    rows = frame[(frame["pos"] == 20) & (frame["component"] == "mlp")].set_index("layer")
    assert rows.loc[[2, 4], "of_total"].tolist() == pytest.approx([0.5, 0.5], abs=2e-3)
    assert rows.loc[[0, 1, 3], "of_total"].abs().max() < 1e-3


def test_the_embedding_and_all_layers_add_up_to_the_total():
    planted = plant(PLANTS, anisotropy=20.0, content_queries=True)
    trace = observe(planted.model, planted.tokens)
    frame = formation(planted.model, trace, detect(trace)).to_frame("all")
    whole = frame[frame["component"].isin(["embed", "attn", "mlp"])]
    upto = whole[whole["layer"] <= whole["direction_layer"]]
    sums = upto.groupby(["pos", "event"])["of_total"].sum()
    assert sums.to_numpy() == pytest.approx(np.ones(len(sums)), abs=1e-5)
    layers = whole[whole["component"] != "embed"].groupby(["pos", "event", "layer"])["share"].sum()
    assert layers.to_numpy() == pytest.approx(np.ones(len(layers)), abs=1e-5)


def test_typical_is_what_ordinary_tokens_get():
    planted = plant(PLANTS, anisotropy=20.0)
    trace = observe(planted.model, planted.tokens)
    got = formation(planted.model, trace, detect(trace))
    _, cache = planted.model.run_with_cache(planted.tokens[None])
    for number, event in enumerate(got.events):
        along, at = unit(trace, event), event.direction_layer
        resid = cache[f"blocks.{at}.hook_resid_post"][0]
        ordinary = resid.norm(dim=-1) <= 2 * resid.norm(dim=-1).median()
        mean = cache["blocks.3.hook_mlp_out"][0][ordinary].double().mean(0) @ along
        assert float(got.typical_mlp[number, 3]) == pytest.approx(float(mean), abs=1e-5)
        upto = (
            got.typical_embed[number]
            + (got.typical_attention + got.typical_mlp)[number, : at + 1].sum()
        )
        assert float(upto) == pytest.approx(float(trace.typical[at].double() @ along), rel=1e-4)


def test_the_tests_that_made_the_difference_are_named():
    primary = replace(PRIMARY, dies=6)
    plants = [primary, Plant(pos=20, forming=(3,)), Plant(pos=30, forming=(3,), dies=5)]
    planted = plant(plants)
    trace = observe(planted.model, planted.tokens)
    events = {(event.pos, event.event): event for event in events_of(trace, detect(trace))}
    assert events[20, "creation"].tests == "aligned + outlying + attended"
    assert "primary" in events[20, "death"].tests
    assert "outlying" not in events[20, "death"].tests
    assert events[20, "death"].censored
    assert events[30, "death"].tests == "aligned + outlying + attended"
    assert not events[30, "death"].censored
    assert events[0, "creation"].event_layer == 1


def test_a_sink_that_is_alive_at_the_end_has_no_death():
    planted = plant([PRIMARY, Plant(pos=20, forming=(3,))])
    trace = observe(planted.model, planted.tokens)
    events = events_of(trace, detect(trace))
    assert [(event.pos, event.event) for event in events] == [(0, "creation"), (20, "creation")]


def test_rows_are_gathered_in_whatever_chunks_they_come():
    tensor = torch.arange(60.0).reshape(1, 20, 3)
    weights = torch.rand(2, 20)
    for size in (20, 7, 1):
        gather = ActivationCollector([0, 6, 7, 19], weights)
        for chunk in tensor.split(size, dim=1):
            gather.take("z", chunk)
        assert torch.equal(gather.rows("z"), tensor[0, [0, 6, 7, 19]])
        torch.testing.assert_close(gather.means("z"), weights @ tensor[0])


def test_without_parts_only_sums_are_there():
    planted = plant(PLANTS)
    trace = observe(planted.model, planted.tokens)
    sinks = detect(trace)
    got, full = (formation(planted.model, trace, sinks, parts=parts) for parts in (False, True))
    assert torch.equal(got.mlp, full.mlp)
    assert got.heads.isnan().all()
    assert got.neuron.shape[-1] == 0


def test_no_sinks_give_an_empty_frame_of_the_same_columns():
    planted = plant([])
    trace = observe(planted.model, planted.tokens)
    empty = formation(planted.model, trace, detect(trace))
    full = plant(PLANTS)
    full_trace = observe(full.model, full.tokens)
    filled = formation(full.model, full_trace, detect(full_trace)).to_frame()
    assert len(empty.to_frame()) == 0
    assert list(empty.to_frame().columns) == list(filled.columns)
    assert dict(empty.to_frame().dtypes) == dict(filled.dtypes)


def test_a_trace_of_another_model_is_refused():
    one, other = plant(PLANTS), plant(PLANTS, seed=1)
    trace = observe(one.model, one.tokens)
    with pytest.raises(TraceError, match="norms differ from layer 0"):
        formation(other.model, trace, detect(trace))
    with pytest.raises(TraceError, match="layers, d_model"):
        formation(plant(PLANTS, n_layers=9).model, trace, detect(trace))


def test_parts_that_do_not_add_up_are_refused():
    planted = plant(PLANTS)
    trace = observe(planted.model, planted.tokens)
    sinks = detect(trace)
    with torch.no_grad():
        planted.model.blocks[2].attn.forward = doubled(planted.model.blocks[2].attn.forward)
    changed = observe(planted.model, planted.tokens)
    with pytest.raises(UnsupportedModelError, match="attention of layer 2"):
        formation(planted.model, changed, sinks)
    assert formation(planted.model, changed, sinks, parts=False).mlp.isfinite().all()


def doubled(forward):
    return lambda *given, **named: 2 * forward(*given, **named)


def test_a_wrong_choice_of_layers_is_refused():
    planted = plant(PLANTS)
    trace = observe(planted.model, planted.tokens)
    with pytest.raises(ValueError, match="'event' or 'all'"):
        formation(planted.model, trace, detect(trace)).to_frame("some")
