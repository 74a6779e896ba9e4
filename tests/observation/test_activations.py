"""Activations of a few tokens are those that a Hugging Face model's own modules take and give."""

import pytest
import torch

from secondary_sinks import load_model, observe
from secondary_sinks.errors import AttributionError, MeasureError, TraceError
from secondary_sinks.observation import activations
from secondary_sinks.observation.activations import POINTS
from tests.oracles import decoder_layers
from tests.tiny import tiny_llama

TOKENS = torch.arange(3, 43)
POSITIONS = [17, 0, 39, 17]


@pytest.fixture(scope="module")
def case():
    original = tiny_llama()
    model = load_model(original, device="cpu")
    return original, model, observe(model, TOKENS, chunk=16)


def expected(original):
    """What each module of each layer is given and gives, all positions."""
    found, handles = {}, []

    def keep(layer, given, made):
        def hook(module, inputs, named, output):
            first = inputs[0] if inputs else named["hidden_states"]
            output = output[0] if isinstance(output, tuple) else output
            found[layer, given], found[layer, made] = first[0], output[0]

        return hook

    for index, layer in enumerate(decoder_layers(original)):
        names = {layer: ("resid_pre", "resid_post"), layer.mlp: ("mlp_normed", "mlp_out")}
        names[layer.self_attn] = ("attn_in", "attn_out")
        for module, ends in names.items():
            hook = keep(index, *ends)
            handles.append(module.register_forward_hook(hook, with_kwargs=True))
    with torch.no_grad():
        original(TOKENS[None])
    for handle in handles:
        handle.remove()
    return found


def test_they_are_what_the_original_computes(case):
    original, model, trace = case
    wanted = expected(original)
    got = dict(activations(model, trace, POSITIONS, [1, 0]))
    assert list(got) == [0, 1]
    for layer, points in got.items():
        assert set(points) == set(POINTS)
        for point, rows in points.items():
            torch.testing.assert_close(rows, wanted[layer, point][POSITIONS], rtol=1e-4, atol=1e-5)


def test_attention_and_mlp_add_up_to_the_residual(case):
    _, model, trace = case
    for _, points in activations(model, trace, [5, 6], [0, 1]):
        total = points["resid_pre"] + points["attn_out"] + points["mlp_out"]
        torch.testing.assert_close(total, points["resid_post"], rtol=1e-5, atol=1e-6)


def test_only_what_is_asked_for(case):
    _, model, trace = case
    ((layer, points),) = activations(model, trace, range(40), [1], ["mlp_normed"])
    assert (layer, list(points), points["mlp_normed"].shape) == (1, ["mlp_normed"], (40, 32))


def test_no_hook_is_left_behind(case):
    _, model, trace = case
    iterator = activations(model, trace, [3], [0, 1])
    next(iterator)
    iterator.close()
    assert not any(block.mlp._forward_hooks for block in model.blocks)


@pytest.mark.parametrize(
    ("positions", "layers", "points", "error", "told"),
    [
        ([40], [0], POINTS, AttributionError, "position 40 is out of range; expected 0 to 39"),
        ([-1], [0], POINTS, AttributionError, "position -1 is out of range"),
        ([0], [2], POINTS, AttributionError, "layer 2 is out of range; expected 0 to 1"),
        ([0], [0], ["odd"], MeasureError, "unknown point 'odd'; expected some of resid_pre"),
    ],
)
def test_what_is_not_there_is_refused(case, positions, layers, points, error, told):
    _, model, trace = case
    with pytest.raises(error, match=told):
        next(activations(model, trace, positions, layers, points))


def test_a_trace_of_another_model_is_refused(case):
    _, _, trace = case
    other = load_model(tiny_llama(seed=1), device="cpu")
    with pytest.raises(TraceError, match="another model"):
        next(activations(other, trace, [0], [1]))
