"""Each check at load fails on the fault it is there for, names the layer, and can be skipped."""

import dataclasses

import pytest
import torch

from secondary_sinks import load_model
from secondary_sinks.errors import ModelError, ModelMismatchError
from secondary_sinks.models.proof.expected import expect
from secondary_sinks.models.proof.prove import CHECKS, prove
from secondary_sinks.testing.families import save, tiny
from tests.marks import thinned
from tools.conformance import model_classes


@pytest.fixture(params=model_classes())
def pair(request, tmp_path):
    """A hooked model of either class, and what its original computes."""
    folder = save("llama", tmp_path / "llama")
    bridge = request.param == "TransformerBridge"
    return load_model(folder, bridge=bridge), expect(tiny("llama"))


def damage(model, layer):
    """Change the weights of one MLP a little."""
    name = "W_out" if hasattr(model.blocks[layer].mlp, "W_out") else "out.weight"
    target = model.blocks[layer].mlp
    for part in name.split("."):
        target = getattr(target, part)
    with torch.no_grad():
        target.mul_(1.01)


@pytest.mark.parametrize("layer", [0, 1])
def test_a_damaged_layer_is_named(pair, layer):
    model, expected = pair
    damage(model, layer)
    with pytest.raises(ModelMismatchError, match=rf"'original'.*blocks\.{layer}\.hook_resid_post"):
        prove(model, expected)
    prove(model, expected, skip=["original"])


def test_patterns_that_do_not_sum_to_one_are_said(pair, monkeypatch):
    model, expected = pair
    softmax = torch.nn.functional.softmax
    leaky = lambda x, *args, **kwargs: softmax(x, *args, **kwargs) * 0.9  # noqa: E731
    monkeypatch.setattr(torch.nn.functional, "softmax", leaky)
    with pytest.raises(ModelMismatchError, match=r"'patterns'.*layer 0"):
        prove(model, expected, skip=["original"])
    prove(model, expected, skip=["original", "patterns", "chunks"])


def test_learned_sinks_may_take_a_part_of_each_row(tmp_path):
    folder = save("gpt-oss", tmp_path)
    assert load_model(folder).cfg.n_layers == 3


def test_an_edit_that_reaches_back_is_said(pair, monkeypatch):
    """Attention that sees the future."""
    model, expected = pair
    real = type(model).__call__

    def peeking(self, tokens, **kwargs):
        out = real(self, tokens, **kwargs)
        return out.flip(1) if torch.is_tensor(out) else out

    monkeypatch.setattr(type(model), "__call__", peeking)
    with pytest.raises(ModelMismatchError, match=r"'causality'.*leaks to logits"):
        prove(model, expected, skip=["original", "chunks"])


def test_an_original_that_overflows_is_said(pair):
    model, expected = pair
    states = dict(expected.states)
    for name in ("logits", "blocks.1.hook_resid_post"):
        states[name] = states[name].clone()
        states[name][..., 0] = torch.inf
    with pytest.raises(ModelMismatchError, match=r"infinite values first at blocks\.1\."):
        prove(model, dataclasses.replace(expected, states=states))


def test_an_edit_that_does_nothing_is_said(pair, monkeypatch):
    model, expected = pair
    hooks = type(model).hooks

    def deaf(self, fwd_hooks=(), **kwargs):
        return hooks(self, [hook for hook in fwd_hooks if "mlp_out" not in hook[0]], **kwargs)

    monkeypatch.setattr(type(model), "hooks", deaf)
    with pytest.raises(ModelMismatchError, match=r"'causality'.*does not change blocks\.1"):
        prove(model, expected)


def test_a_walk_that_gives_other_residuals_is_said(pair, monkeypatch):
    model, expected = pair
    module = "bridge_run" if hasattr(model, "original_model") else "hooked_run"
    run = (
        f"secondary_sinks.layerwise.{module}.{'Bridge' if module == 'bridge_run' else 'Hooked'}Run"
    )
    import importlib

    holder = getattr(importlib.import_module(run.rpartition(".")[0]), run.rpartition(".")[2])
    forward = holder.forward

    def late(self, resid_pre, hooks, **given):
        return forward(self, resid_pre, hooks, **given) + (self.layer == 2)

    monkeypatch.setattr(holder, "forward", late)
    with pytest.raises(ModelMismatchError, match=r"'chunks'.*blocks\.2"):
        prove(model, expected)
    prove(model, expected, skip=["chunks"])


WINDOWED = ["qwen2-window", "gemma3", "mistral-window"]


@pytest.mark.parametrize("variant", thinned(WINDOWED, WINDOWED[:2]))
@pytest.mark.parametrize("kind", model_classes())
def test_windows_are_compared_layer_by_layer(variant, kind, tmp_path):
    model = load_model(save(variant, tmp_path), bridge=kind == "TransformerBridge")
    original = tiny(variant)
    wider = type(original.config)(**original.config.to_dict() | {"sliding_window": 9})
    other = type(original)(wider).eval()
    other.load_state_dict(original.state_dict())
    with pytest.raises(ModelMismatchError, match=r"sees 8 keys, in the original 9"):
        prove(model, expect(other))


def test_a_window_too_long_to_walk_past_is_compared_all_the_same(tmp_path):
    import transformers as hf

    from secondary_sinks.testing.families import SMALL

    small = SMALL | {"max_position_embeddings": 4096}
    config = hf.MistralConfig(**small, sliding_window=2048)
    torch.manual_seed(0)
    original = hf.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    original.save_pretrained(tmp_path)
    model = load_model(tmp_path)
    assert expect(original).n_visible == (2048,) * 3
    if "HookedTransformer" in type(model).__name__:
        model.blocks[1].attn.attn_type = "global"
        with pytest.raises(ModelMismatchError, match=r"position 2095 of layer 1 sees 2096 keys"):
            prove(model, expect(original))


def test_every_check_can_be_skipped_and_no_other(pair):
    model, expected = pair
    damage(model, 1)
    assert prove(model, expected, skip=CHECKS) == {}
    for wrong in ("original", ["orignal"]):
        with pytest.raises(ModelError, match="original, patterns, causality, chunks"):
            prove(model, expected, skip=wrong)


DTYPES = [torch.bfloat16, torch.float16]
HALF = ["gemma3", "gpt-oss", "llama3.1", "qwen3-moe"]


@pytest.mark.parametrize("dtype", thinned(DTYPES, DTYPES[:1]), ids=str)
@pytest.mark.parametrize("kind", model_classes())
@pytest.mark.parametrize("variant", thinned(HALF, HALF[:2]))
def test_half_precision_is_proven_and_a_wrong_model_is_still_found(variant, kind, dtype):
    bridge = kind == "TransformerBridge"
    load_model(tiny(variant).to(dtype), device="cpu", bridge=bridge)
    original = tiny(variant).to(dtype)
    expected = expect(original)
    with torch.no_grad():
        wrong = original.model.layers[1].self_attn.o_proj.weight
        wrong.copy_(wrong.flip(0))
    model = load_model(original, device="cpu", bridge=bridge)
    with pytest.raises(ModelMismatchError, match=r"'original'.*blocks\.1"):
        prove(model, expected)
