"""Models that come as objects: of Hugging Face, or hooked already."""

import pytest
import torch
import transformer_lens

from secondary_sinks import load_model, observe
from secondary_sinks.errors import HookError, ModelError, UnsupportedModelError
from secondary_sinks.testing.families import save, tiny
from tests.marks import OLD, needs_old
from tests.tiny import save_tiny, tiny_llama
from tools.conformance import model_classes

TOKENS = torch.arange(3, 40)


@pytest.mark.parametrize("kind", model_classes())
def test_a_hugging_face_object_is_hooked_as_it_is(kind):
    original = tiny("qwen3")
    before = original(TOKENS[None]).logits
    model = load_model(original, bridge=kind == "TransformerBridge")
    torch.testing.assert_close(model(TOKENS[None]), before, rtol=1e-4, atol=1e-5)
    assert model.tokenizer is None


@needs_old
def test_a_hugging_face_object_is_left_as_it_was_and_shares_its_weights():
    original = tiny("llama").train()
    original.set_attn_implementation("sdpa")
    model = load_model(original, bridge=False)
    assert original.training
    assert original.config._attn_implementation == "sdpa"
    ours = model.blocks[1].mlp.W_out
    assert ours.data_ptr() == original.model.layers[1].mlp.down_proj.weight.data_ptr()


@pytest.mark.parametrize("kind", model_classes())
def test_a_tokenizer_may_come_with_it(kind, tmp_path):
    from transformers import AutoTokenizer

    save_tiny(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    model = load_model(tiny_llama(), tokenizer=tokenizer, bridge=kind == "TransformerBridge")
    assert model.tokenizer is tokenizer
    assert model.to_tokens("abc")[0].tolist() == tokenizer("abc")["input_ids"]


@pytest.mark.parametrize("kind", model_classes())
def test_a_hooked_model_is_checked_and_given_back(kind, tmp_path):
    model = load_model(save("llama", tmp_path), bridge=kind == "TransformerBridge")
    assert load_model(model) is model


def test_a_plain_bridge_becomes_loud():
    from transformer_lens.model_bridge.sources import build_bridge_from_module

    original = tiny("llama")
    plain = build_bridge_from_module(original, "LlamaForCausalLM", hf_config=original.config)
    assert torch.isfinite(observe(plain, TOKENS).norm).all()
    with pytest.raises(HookError, match="typo"):
        load_model(plain).run_with_hooks(TOKENS[None], fwd_hooks=[("typo", print)])


@needs_old
@pytest.mark.parametrize("norm", ["LNPre", "RMSPre"])
def test_processed_weights_are_refused(norm, tmp_path):
    model = load_model(save("llama", tmp_path), bridge=False)
    model.cfg.normalization_type = norm
    with pytest.raises(ModelError, match="from_pretrained_no_processing"):
        load_model(model)


@pytest.mark.parametrize("argument", ["device", "dtype", "tokenizer", "device_map", "revision"])
def test_arguments_that_come_too_late_are_refused(argument, tmp_path):
    model = load_model(save("llama", tmp_path))
    with pytest.raises(ModelError, match=argument):
        load_model(model, **{argument: "cpu"})
    with pytest.raises(ModelError, match="n_devices is for models"):
        load_model(model, n_devices=2)


@pytest.mark.parametrize("kind", model_classes())
def test_a_hooked_model_stays_of_its_class(kind, tmp_path):
    model = load_model(save("llama", tmp_path), bridge=kind == "TransformerBridge")
    assert load_model(model, bridge=kind == "TransformerBridge") is model
    with pytest.raises(ModelError, match="bridge is for models"):
        load_model(model, bridge=kind != "TransformerBridge")


def test_an_object_has_no_revision():
    with pytest.raises(ModelError, match="revision 'main' is for models that are loaded by name"):
        load_model(tiny("llama"), revision="main")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"bridge": True, "n_devices": 2}, "device_map"),
        ({"bridge": False, "device_map": {"": "cpu"}}, "n_devices"),
        ({"dtype": "bfloat16"}, r"float32.*bfloat16"),
        ({"skip": ["everything"]}, "everything"),
    ],
)
def test_wishes_that_contradict_each_other_are_refused(arguments, match):
    if not OLD and arguments.get("bridge") is False:
        match = "no HookedTransformer"
    with pytest.raises(ModelError, match=match):
        load_model(tiny("llama"), **arguments)


@pytest.mark.parametrize("thing", [None, 7, torch.nn.Linear(2, 2)])
def test_something_else_is_refused(thing):
    with pytest.raises(ModelError, match=type(thing).__name__):
        load_model(thing)


@needs_old
def test_n_devices_is_handed_to_the_hooked_transformer(monkeypatch):
    """Without GPUs: the config is looked at when the model is made, then the load ends."""
    made = []

    def spy(cfg, *args, **options):
        made.append((cfg.n_devices, cfg.device, options["move_to_device"]))
        raise ModelError("seen")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(transformer_lens, "HookedTransformer", spy)
    for n_devices in (1, 2):
        with pytest.raises(ModelError, match="seen"):
            load_model(tiny("llama"), device="cpu", n_devices=n_devices)
    assert made == [(1, "cpu", False), (2, "cpu", False)]


@needs_old
def test_layers_are_spread_after_the_weights_are_in(monkeypatch):
    spread = []

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    def spy(model):
        spread.append(torch.equal(model.embed.W_E, tiny("llama").model.embed_tokens.weight))

    monkeypatch.setattr("secondary_sinks.models.convert._spread_over_gpus", spy)
    load_model(tiny("llama"), device="cpu", n_devices=2, skip=["chunks"])
    assert spread == [True]


@needs_old
@pytest.mark.parametrize("n_devices", [0, -1, 3])
def test_more_gpus_than_there_are_or_none_are_refused(n_devices, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ModelError, match=rf"n_devices is {n_devices}; expected .*\(2\)"):
        load_model(tiny("llama"), n_devices=n_devices)


def test_a_device_map_makes_a_bridge(tmp_path):
    pytest.importorskip("accelerate")
    model = load_model(save("llama", tmp_path), device_map={"": "cpu"})
    assert hasattr(model, "original_model")
    one, other = observe(model, TOKENS), observe(load_model(tmp_path), TOKENS)
    torch.testing.assert_close(one.mass, other.mass, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(OLD, reason="this TransformerLens has both classes")
def test_without_the_old_class_a_bridge_is_made_and_the_old_one_refused(tmp_path):
    save("llama", tmp_path)
    assert hasattr(load_model(tmp_path), "original_model")
    with pytest.raises(UnsupportedModelError, match="transformer-lens<4"):
        load_model(tmp_path, bridge=False)


class Wrapped(torch.nn.Module):
    """A layer as peft wraps it."""

    def __init__(self, layer):
        super().__init__()
        self.base_layer, self.lora_A = layer, torch.nn.Linear(32, 4, bias=False)


class PeftModelForCausalLM(torch.nn.Module):
    """An object of peft, by its name."""


@pytest.mark.parametrize("bridge", [None, True])
def test_an_adapter_in_an_object_is_named(bridge):
    model = tiny("llama")
    attention = model.model.layers[0].self_attn
    attention.q_proj = Wrapped(attention.q_proj)
    for odd in (model, PeftModelForCausalLM()):
        with pytest.raises(UnsupportedModelError, match=r"adapter such as LoRA.*merge_and_unload"):
            load_model(odd, bridge=bridge)
