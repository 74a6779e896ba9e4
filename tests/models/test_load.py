"""Wrong models are refused, and the refusal says where they are wrong."""

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from secondary_sinks import load_model
from secondary_sinks.errors import (
    ModelError,
    ModelMismatchError,
    UnknownModelError,
    UnsupportedModelError,
)
from secondary_sinks.models import weight_hash
from secondary_sinks.models.proof.expected import expect, relative_error
from secondary_sinks.models.proof.prove import prove
from secondary_sinks.testing.families import SMALL, save, tiny
from tests.marks import needs_old


@pytest.fixture
def folder(tmp_path):
    return save("llama", tmp_path / "my-llama")


@needs_old
def test_a_damaged_layer_is_named(folder):
    original, hooked = tiny("llama"), load_model(folder)
    with torch.no_grad():
        hooked.blocks[1].mlp.W_out.mul_(1.01)
    with pytest.raises(ModelMismatchError, match=r"blocks\.1\.hook_resid_post"):
        prove(hooked, expect(original))


@needs_old
def test_a_wrong_rope_is_caught(folder):
    original, hooked = tiny("llama"), load_model(folder)
    for block in hooked.blocks:
        block.attn.rotary_cos = block.attn.rotary_cos.roll(1, 0)
    with pytest.raises(ModelMismatchError, match=r"blocks\.0"):
        prove(hooked, expect(original))


@needs_old
def test_a_bias_that_the_conversion_would_lose_is_caught(tmp_path):
    config = hf.LlamaConfig(**SMALL, attention_bias=True)
    model = hf.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(0, 0.3) if name.endswith("bias") else parameter.normal_(0, 0.1)
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelMismatchError):
        load_model(tmp_path)
    assert load_model(tmp_path, skip=["original"]).cfg.n_layers == SMALL["num_hidden_layers"]


def test_the_error_of_one_massive_position_does_not_hide_others():
    theirs = torch.tensor([[1e6, 0.0], [1.0, 1.0]])
    ours = theirs + torch.tensor([[0.0, 0.0], [0.5, 0.0]])
    assert relative_error(ours, theirs) == 0.5


def test_nan_weights_are_named_before_any_forward_pass(tmp_path):
    model = tiny("llama")
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = torch.nan
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"layers\.1\.mlp\.up_proj\.weight"):
        load_model(tmp_path)


def test_an_unknown_name_gets_near_ones():
    with pytest.raises(UnknownModelError, match="did you mean smollm2-135m"):
        load_model("smollm-135m")


@needs_old
def test_an_unsupported_architecture_is_said(tmp_path):
    config = hf.BloomConfig(vocab_size=50, hidden_size=16, n_layer=1, n_head=2)
    hf.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModelError, match=r"BloomForCausalLM.*LlamaForCausalLM"):
        load_model(tmp_path)


@pytest.mark.parametrize("change", ["no config", "pickles only", "truncated"])
def test_a_broken_folder_is_said(folder, change):
    weights = folder / "model.safetensors"
    if change == "no config":
        (folder / "config.json").unlink()
    elif change == "pickles only":
        weights.rename(folder / "pytorch_model.bin")
    else:
        weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match=folder.name):
        load_model(folder)


@pytest.mark.parametrize(("argument", "value"), [("dtype", "int8"), ("device", "abacus")])
def test_a_wrong_argument_is_named(folder, argument, value):
    with pytest.raises(ModelError, match=value):
        load_model(folder, **{argument: value})


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_loads_and_gives_float32_results(folder, dtype):
    from secondary_sinks import observe

    model = load_model(folder, dtype=dtype)
    trace = observe(model, torch.arange(3, 40))
    assert model.cfg.dtype == getattr(torch, dtype)
    assert trace.norm.dtype == trace.alignment_centred.dtype == torch.float32
    reference = observe(load_model(folder), torch.arange(3, 40))
    torch.testing.assert_close(trace.norm, reference.norm, rtol=0.05, atol=0.05)


@needs_old
def test_loading_leaves_no_shared_memory_between_embedding_and_unembedding(tmp_path):
    model = load_model(save("llama-mha-tied", tmp_path))
    before = model.unembed.W_U.clone()
    with torch.no_grad():
        model.embed.W_E.zero_()
    assert torch.equal(model.unembed.W_U, before)


@needs_old
def test_the_weight_hash_sees_one_changed_number(folder):
    model = load_model(folder)
    before = weight_hash(model)
    assert weight_hash(load_model(folder)) == before
    with torch.no_grad():
        model.blocks[2].mlp.W_out[3, 4] += 1e-3
    assert weight_hash(model) != before


def test_to_tokens_gives_what_the_tokenizer_gives(smollm2):
    text = "The river bends."
    expected = smollm2.tokenizer(text)["input_ids"]
    assert smollm2.to_tokens(text)[0].tolist() == expected


@needs_old
def test_an_unknown_rope_is_refused():
    original = tiny("llama")
    from secondary_sinks.models.convert import to_hooked

    original.config.rope_parameters = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    with pytest.raises(UnsupportedModelError, match="dynamic"):
        to_hooked(original, None, "x", "cpu")


def test_a_long_rope_is_used_up_to_its_original_length_only(tmp_path):
    model = load_model(save("phi4-mini-longrope", tmp_path))
    assert model.cfg.n_ctx == 64


@needs_old
def test_a_lost_sliding_window_is_caught(tmp_path):
    config = hf.MistralConfig(**SMALL | {"max_position_embeddings": 256}, sliding_window=64)
    original = hf.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in original.parameters():
            parameter.normal_(0, 0.3)
    original.save_pretrained(tmp_path)
    hooked = load_model(tmp_path)
    for block in hooked.blocks:
        block.attn.attn_type = "global"
    with pytest.raises(ModelMismatchError):
        prove(hooked, expect(original))


def test_missing_weights_are_refused_and_not_made_up(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"missing.*layers\.1\.mlp\.up_proj"):
        load_model(folder)


def test_a_name_too_long_for_a_path_is_said():
    with pytest.raises(UnknownModelError):
        load_model("x" * 5000)
