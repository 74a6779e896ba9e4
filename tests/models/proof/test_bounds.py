"""The bounds of the proof: right models stay far below them, wrong ones far above, at any norm."""

import pytest
import torch

from secondary_sinks import load_model
from secondary_sinks.models.proof.disturbed import disturb, disturbance
from secondary_sinks.models.proof.expected import bounds_from, compare, expect, original_states
from secondary_sinks.models.proof.lockstep import lockstep
from secondary_sinks.models.proof.prove import CHECKS, prove
from secondary_sinks.testing.families import tiny
from tests.marks import OLD, thinned
from tests.mechanisms import ALTERNATING, CASES
from tests.models.massive import ARISES, GOES, MASSIVE, PROBE, massive
from tools.conformance import model_classes

NORMS = thinned([1e2, 1e3, 1e4, 1e5], [1e2, 1e5])
BIAS = 0.005
"""Size of the small biases: a thirtieth of that of the weights."""
WITHIN = range(ARISES + 1, GOES + 1)
"""Layers that are handed a massive token."""


def shares(original, expected):
    """Of a model loaded from `original`: each layer's difference from what is expected."""
    model = load_model(original, device="cpu", bridge=not OLD, skip=CHECKS)
    states, _ = lockstep(model, expected.probe, expected.states)
    found = compare(states, expected.states, expected.bounds)
    return {name: one.share for name, one in found.items()}


@pytest.fixture(scope="module", params=NORMS, ids="{:.0e}".format)
def right(request):
    """What a massive model computes, and a way to make it again, changed."""

    def make(**changes):
        again, other = massive(request.param, bias=BIAS), massive(1.0, bias=BIAS, **changes)
        other.load_state_dict(again.state_dict())
        return other

    return expect(make()), make


def test_the_first_token_has_the_norm_and_loses_it(right):
    expected, _ = right
    norms = [expected.states[f"blocks.{layer}.hook_resid_post"][0].norm() for layer in range(6)]
    assert max(norms[0], *norms[GOES:]) < 30
    assert min(norms[ARISES:GOES]) == pytest.approx(float(max(norms)), rel=0.02)
    assert abs(expected.states[f"blocks.{GOES}.hook_resid_post"][0, MASSIVE]) < 1e-6 * max(norms)


@pytest.mark.parametrize("kind", model_classes())
def test_a_right_massive_model_stays_far_below_its_bounds(right, kind):
    expected, make = right
    model = load_model(make(), device="cpu", bridge=kind == "TransformerBridge")
    found = prove(model, expected)
    assert set(found) == {"original", "causality", "chunks"}
    assert max(one.share for check in found.values() for one in check.values()) <= 1 / 3
    assert max(one.share for one in prove(model, None)["chunks"].values()) <= 1 / 3


def test_a_wrong_rope_exceeds_them_in_every_layer(right):
    expected, make = right
    rope = {"rope_type": "default", "rope_theta": 1.1e4}
    found = shares(make(rope_parameters=rope), expected)
    assert min(found[f"blocks.{layer}.hook_resid_post"] for layer in range(6)) > 10


def test_a_wrong_eps_exceeds_them(right):
    expected, make = right
    assert max(shares(make(rms_norm_eps=1e-5), expected).values()) > 10


def swap_heads(attention):
    rows = attention.q_proj.weight.clone()
    attention.q_proj.weight[:8], attention.q_proj.weight[8:16] = rows[8:16], rows[:8]


DAMAGES = {
    "q bias": lambda layer: layer.self_attn.q_proj.bias.zero_(),
    "k bias": lambda layer: layer.self_attn.k_proj.bias.zero_(),
    "v bias": lambda layer: layer.self_attn.v_proj.bias.zero_(),
    "heads": lambda layer: swap_heads(layer.self_attn),
    "norm before attention": lambda layer: layer.input_layernorm.weight.fill_(1),
    "norm before the MLP": lambda layer: layer.post_attention_layernorm.weight.fill_(1),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_one_wrong_part_exceeds_them_in_its_layer_and_nowhere_else(right, damage):
    expected, make = right
    for wrong in WITHIN:
        original = make()
        with torch.no_grad():
            DAMAGES[damage](original.model.layers[wrong])
        found = shares(original, expected)
        assert found.pop(f"blocks.{wrong}.hook_resid_post") > 10
        assert max(found.values()) <= 1 / 3


def test_a_wrong_final_norm_exceeds_them_in_the_logits(right):
    expected, make = right
    original = make()
    with torch.no_grad():
        original.model.norm.weight.fill_(1)
    found = shares(original, expected)
    assert found.pop("logits") > 10
    assert max(found.values()) <= 1 / 3


@pytest.mark.parametrize(("variant", "kind"), thinned(CASES, ALTERNATING, unpack=True))
def test_no_architecture_comes_near_its_bounds(variant, kind):
    model = load_model(tiny(variant), device="cpu", bridge=kind == "TransformerBridge", skip=CHECKS)
    found = prove(model, expect(tiny(variant)))
    assert max(one.share for check in found.values() for one in check.values()) <= 1 / 3


def test_two_threads_come_no_nearer():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        test_no_architecture_comes_near_its_bounds("qwen2", model_classes()[0])
    finally:
        torch.set_num_threads(before)


def test_a_disturbance_is_as_large_as_said_and_the_same_each_time():
    part = torch.nn.Linear(8, 8)
    inputs = torch.rand(100, 8) + 1
    seen = []
    with torch.no_grad():
        for _ in range(2):
            with disturb(part):
                handle = part.register_forward_pre_hook(lambda part, args: seen.append(args[0]))
                part(inputs)
                handle.remove()
        assert torch.equal(seen[0], seen[1])
        ratio = (seen[0].double() / inputs - 1).abs() / disturbance(torch.float32)
        assert ratio.min() > 0.95
        assert ratio.max() < 1.05
        assert torch.equal(part(inputs), torch.nn.functional.linear(inputs, part.weight, part.bias))


def test_bounds_cover_what_other_honest_computations_give():
    """Fused attention, and another order of additions: the neurons of each MLP turned around."""
    original = massive(1e4)
    expected = expect(original)
    original.set_attn_implementation("sdpa")
    with torch.no_grad():
        for layer in original.model.layers:
            for part in (layer.mlp.gate_proj, layer.mlp.up_proj):
                part.weight.copy_(part.weight.flip(0))
            layer.mlp.down_proj.weight.copy_(layer.mlp.down_proj.weight.flip(1))
    found = compare(
        original_states(original, PROBE, expected.states), expected.states, expected.bounds
    )
    assert 0 < max(one.share for one in found.values()) <= 1 / 3


@pytest.mark.parametrize(
    "dtype", thinned([torch.bfloat16, torch.float16], [torch.float16]), ids=str
)
@pytest.mark.parametrize("kind", model_classes())
@pytest.mark.parametrize("variant", thinned(["qwen2.5", "gemma2", "olmo2", "gpt2"], ["gemma2"]))
def test_half_precision_stays_below_its_bounds_at_every_position(variant, kind, dtype):
    original, bridge = tiny(variant).to(dtype), kind == "TransformerBridge"
    expected = expect(original)
    found = prove(load_model(original, device="cpu", bridge=bridge, skip=CHECKS), expected)
    assert max(one.share for check in found.values() for one in check.values()) <= 1 / 3


def test_one_wrong_position_is_judged_unless_the_median_is():
    theirs = torch.ones(9, 4, dtype=torch.bfloat16)
    ours, bounds = theirs.clone(), {"x": torch.full((9,), 0.1)}
    ours[5, 2] = 1.5
    every = compare({"x": ours}, {"x": theirs}, bounds)["x"]
    assert (every.pos, every.error, every.share) == (5, 0.5, pytest.approx(5))
    assert compare({"x": ours}, {"x": theirs}, bounds, median=True)["x"].share == 0


def test_bounds_are_finite_where_only_the_disturbance_overflows():
    states = {"x": torch.tensor([[65000.0, 1], [1, 1]], dtype=torch.float16)}
    moved = {"x": torch.tensor([[torch.inf, 1], [1.5, 1]], dtype=torch.float16)}
    size = disturbance(torch.float16)
    found = bounds_from(states, moved)["x"]
    assert found.tolist() == pytest.approx([65000 * size, 0.5 + size], rel=1e-3)
