"""On SmolLM2, every number of formation equals one computed from Hugging Face's own modules."""

import pytest
import torch

from secondary_sinks import detect, formation, mlp_anatomy
from tests.marks import exhaustive
from tests.oracles import decoder_layers, typical

pytestmark = [pytest.mark.real, exhaustive]


@pytest.fixture(scope="module")
def modules(smollm2_original, real_tokens):
    """What each module of the Hugging Face model was given and gave, by (layer, name)."""
    seen, handles = {}, []

    def noting(layer, name):
        def hook(module, given, named, output):
            gave = output[0] if isinstance(output, tuple) else output
            took = given[0] if given else named["hidden_states"]
            seen[layer, name] = (took[0].double(), gave[0].double())

        return hook

    for index, layer in enumerate(decoder_layers(smollm2_original)):
        parts = {"layer": layer, "attn": layer.self_attn, "o": layer.self_attn.o_proj}
        parts |= {"mlp": layer.mlp, "gate": layer.mlp.gate_proj, "up": layer.mlp.up_proj}
        parts |= {"down": layer.mlp.down_proj, "act": layer.mlp.act_fn}
        for name, module in parts.items():
            handles.append(module.register_forward_hook(noting(index, name), with_kwargs=True))
    with torch.no_grad():
        smollm2_original(real_tokens[None])
    for handle in handles:
        handle.remove()
    return seen


@pytest.fixture(scope="module")
def found(smollm2, real_trace):
    return formation(smollm2, real_trace, detect(real_trace), top_neurons=20)


def direction(modules, layer, primary=0):
    """The primary's state less the typical one, at length 1."""
    resid = modules[layer, "layer"][1]
    away = resid[primary] - typical(resid)
    return away / away.norm()


def test_attention_mlp_and_embedding(modules, found):
    for number, event in enumerate(found.events):
        along = direction(modules, event.direction_layer)
        embedded = modules[0, "layer"][0][event.pos] @ along
        assert float(found.embed[number]) == pytest.approx(float(embedded), rel=1e-3, abs=1e-3)
        for layer in range(30):
            size = float(modules[layer, "layer"][1][event.pos].norm())
            for name, got in (("attn", found.attention), ("mlp", found.mlp)):
                expected = float(modules[layer, name][1][event.pos] @ along)
                assert float(got[number, layer]) == pytest.approx(expected, abs=2e-5 * size)


def test_heads_and_neurons(smollm2_original, modules, found):
    for number, event in enumerate(found.events):
        along, layer = direction(modules, event.direction_layer), event.event_layer
        original = decoder_layers(smollm2_original)[layer]
        z = modules[layer, "o"][0][event.pos]
        by_input = (original.self_attn.o_proj.weight.detach().double().T @ along) * z
        heads = by_input.unflatten(0, (9, 64)).sum(-1)
        torch.testing.assert_close(found.heads[number, layer].double(), heads, rtol=1e-3, atol=1e-3)
        post = modules[layer, "down"][0][event.pos]
        neurons = (original.mlp.down_proj.weight.detach().double().T @ along) * post
        top = neurons.abs().topk(20).indices
        assert found.neurons[number, layer, :3].tolist() == top[:3].tolist()
        got = found.neuron[number, layer].double()
        torch.testing.assert_close(
            got, neurons[found.neurons[number, layer].long()], rtol=1e-3, atol=1e-3
        )
        rest = neurons.sum() - got.sum()
        assert float(found.other_neurons[number, layer]) == pytest.approx(float(rest), abs=1e-2)


def test_the_anatomy(smollm2, real_trace, modules):
    rows = mlp_anatomy(smollm2, real_trace, detect(real_trace)).rows
    assert {row.role for row in rows} == {"sink", "control"}
    where = {"input": ("mlp", 0), "gate": ("gate", 1), "up": ("up", 1), "act": ("act", 1)}
    where |= {"act*up": ("down", 0), "down": ("mlp", 1)}
    for row in rows:
        name, side = where[row.stage]
        own, primary = modules[row.layer, name][side][[row.pos, 0]]
        cosine = float(torch.cosine_similarity(own, primary, dim=0))
        assert row.cosine == pytest.approx(cosine, abs=1e-3)
        assert row.norm == pytest.approx(float(own.norm()), rel=1e-3)
        assert row.norm_primary == pytest.approx(float(primary.norm()), rel=1e-3)


def test_two_neurons_of_the_mlp_of_layer_2_write_primary_and_secondaries_alike(found):
    """And one neuron of layer 9 takes most of it away."""
    frame = found.to_frame()
    first = frame[(frame["component"] == "neuron") & (frame["event"] == "creation")]
    top = first[first["index"].isin([90, 430])].groupby("pos")["share"].sum()
    assert len(top) > 1
    assert (top > 0.85).all()
    ends = frame[(frame["event"] == "death") & (frame["event_layer"] == 9)]
    mlps = ends[ends["component"] == "mlp"]
    assert (mlps["share"] > 0.99).all()
    last = ends[ends["component"] == "neuron"].drop_duplicates("pos")
    assert set(last["index"]) == {200.0}
