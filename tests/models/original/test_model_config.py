"""What a config declares: refused by what it says, before a weight is read."""

import json
import re

import pytest
import transformers as hf

from secondary_sinks.errors import DamagedModelError, SinkWarning, UnsupportedModelError
from secondary_sinks.models import model_size
from secondary_sinks.models.original import config as declared
from secondary_sinks.models.original.config import is_native, read_config, request_dense_weights
from secondary_sinks.testing.families import SMALL, configs


def declare(folder, content):
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "config.json").write_text(text)
    return folder


def saved(config, *architectures):
    return config.to_dict() | {"architectures": list(architectures)}


@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2", "pythia", "gemma3", "gpt-oss"])
def test_causal_models_pass_with_and_without_their_architectures(name, tmp_path):
    config = configs()[name]
    architecture = hf.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].__name__
    for named in ([], [architecture]):
        found = read_config(declare(tmp_path, saved(config, *named)), "m")
        assert type(found) is type(config)
        assert is_native(found)


SIZES = {
    "hidden_size": 2**31,
    "intermediate_size": 2**31,
    "num_hidden_layers": 2**31,
    "num_attention_heads": 2**31,
    "head_dim": 2**31,
    "vocab_size": 2**31,
    "max_position_embeddings": 1e30,
}


@pytest.mark.parametrize("size", SIZES)
def test_a_size_that_no_model_has_is_named(size, tmp_path):
    fields = saved(configs()["llama"], "LlamaForCausalLM") | {size: SIZES[size]}
    said = rf"{size} is {re.escape(str(SIZES[size]))}; expected 1 to"
    with pytest.raises(DamagedModelError, match=said):
        read_config(declare(tmp_path, fields), "m")


def test_sizes_that_together_no_model_has_are_named():
    sizes = {"hidden_size": 1 << 17, "intermediate_size": 1 << 20, "vocab_size": 1 << 24}
    config = hf.LlamaConfig(**SMALL | sizes | {"num_hidden_layers": 24, "head_dim": 64})
    with pytest.raises(DamagedModelError, match=r"as no model has \(hidden_size 131072, interm"):
        model_size.count_parameters(config)


OTHERS = {
    "encoder": (hf.BertConfig(), ["BertForMaskedLM"], r"an encoder \(BertForMaskedLM\)"),
    "encoder without a word": (hf.BertConfig(), [], r"an encoder \(BertConfig\)"),
    "encoder with a head": (hf.BertConfig(), ["BertLMHeadModel"], "an encoder"),
    "encoder-decoder": (
        *(hf.T5Config(), ["T5ForConditionalGeneration"]),
        r"an encoder-decoder \(T5ForConditionalGeneration\)",
    ),
    "half of one": (hf.BartConfig(), ["BartForCausalLM"], "an encoder-decoder"),
    "vision": (hf.ViTConfig(), ["ViTForImageClassification"], "a classifier of images"),
    "vision without a word": (hf.ViTConfig(), [], r"another kind of model \(ViTConfig\)"),
    "images and text": (
        *(hf.Gemma3Config(), ["Gemma3ForConditionalGeneration"]),
        "a model of images and text",
    ),
    "speech": (hf.WhisperConfig(), ["WhisperForConditionalGeneration"], "an encoder-decoder"),
    "classifier": (hf.LlamaConfig(), ["LlamaForSequenceClassification"], "a classifier"),
    "no head": (hf.LlamaConfig(), ["LlamaModel"], "a model without a language-model head"),
}


@pytest.mark.parametrize(("config", "named", "said"), OTHERS.values(), ids=OTHERS)
def test_what_is_no_causal_language_model_is_said(config, named, said, tmp_path):
    declare(tmp_path, saved(config, *named))
    with pytest.raises(UnsupportedModelError, match=rf"'m' is {said}.*, not a causal language"):
        read_config(tmp_path, "m")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"model_type": ', r"config\.json.*broken JSON.*line 1"),
        ("[]", "holds a list; expected a JSON object"),
        ("{}", "no 'model_type'"),
        ({"model_type": 7}, "no 'model_type'"),
        ({"model_type": "llama", "hidden_size": "wide"}, r"config\.json of 'm' cannot be used"),
        (
            saved(hf.LlamaConfig(**SMALL), "MistralForCausalLM"),
            r"both 'MistralForCausalLM' \(architectures\) and 'llama' \(model_type\)",
        ),
    ],
)
def test_a_broken_config_is_said(content, said, tmp_path):
    with pytest.raises(DamagedModelError, match=said):
        read_config(declare(tmp_path, content), "m")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"layer_types": ["full_attention"]}, r"\(3\) must be equal to .* \(1\); expected"),
        ({"hidden_size": "wide"}, r"expected int, got str \(value: 'wide'\); expected the one"),
    ],
)
def test_a_config_that_is_refused_by_transformers_keeps_the_reason(fields, said, tmp_path):
    declare(tmp_path, saved(hf.LlamaConfig(**SMALL)) | fields)
    with pytest.raises(DamagedModelError, match=said):
        read_config(tmp_path, "m")


ROPES = {
    "ntk": (r"rope type 'ntk' .*one of default, dynamic.*raised base as rope_theta"),
    "su": r"rope type 'su' .*'su' is an old name of 'longrope'",
    "sisal": r"rope type 'sisal' .*expected one of default, dynamic",
    7: "rope type 7 ",
}


@pytest.mark.parametrize("where", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize("key", ["type", "rope_type"])
@pytest.mark.parametrize("kind", ROPES)
def test_a_rope_that_transformers_does_not_know_is_named(kind, key, where, tmp_path):
    content = saved(hf.LlamaConfig(**SMALL))
    content.pop("rope_parameters")
    declare(tmp_path, content | {where: {key: kind, "factor": 2.0}})
    with pytest.raises(UnsupportedModelError, match=rf"of 'm' names the {ROPES[kind]}"):
        read_config(tmp_path, "m")


def test_a_rope_of_one_kind_of_layer_is_named(tmp_path):
    content = saved(configs()["gemma3"])
    content["rope_parameters"]["sliding_attention"]["rope_type"] = "su"
    with pytest.raises(UnsupportedModelError, match="rope type 'su'"):
        read_config(declare(tmp_path, content), "m")


HUGE = [
    *(("num_hidden_layers", value) for value in (1001, 10_000, 10**9, -1, 0)),
    *((name, 10**9) for name in ("hidden_size", "intermediate_size", "vocab_size", "head_dim")),
    *((name, 10**9) for name in ("num_attention_heads", "num_key_value_heads")),
    ("max_position_embeddings", 10**9),
]


@pytest.mark.parametrize(("name", "value"), HUGE)
def test_a_size_that_no_model_has_is_said_before_a_config_is_built(
    name, value, tmp_path, monkeypatch
):
    monkeypatch.setattr(declared, "load_config", lambda *where, **how: pytest.fail("it was built"))
    for content in ({name: value}, {"text_config": {name: value}}):
        declare(tmp_path, saved(hf.LlamaConfig(**SMALL)) | content)
        with pytest.raises(DamagedModelError, match=rf"of 'm' .*{name} is {value}; expected 1 to"):
            read_config(tmp_path, "m")


def test_more_experts_in_use_than_there_are_is_said(tmp_path):
    declare(tmp_path, configs()["gpt-oss"].to_dict() | {"num_experts_per_tok": 99})
    with pytest.raises(
        DamagedModelError, match="num_experts_per_tok is 99; expected at most the 4"
    ):
        read_config(tmp_path, "m")


def test_a_config_file_too_large_to_be_one_is_not_read(tmp_path):
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(1 << 33)
    with pytest.raises(DamagedModelError, match="8589934592 bytes; expected at most 67108864"):
        read_config(tmp_path, "m")


@pytest.mark.parametrize("fields", [{"num_attention_heads": 0}, {"num_key_value_heads": 3}])
def test_a_config_of_which_no_model_can_be_built_is_said(fields, tmp_path):
    declare(tmp_path, saved(hf.GPT2Config(n_embd=33, n_head=4, n_layer=1)) | fields)
    with pytest.raises(DamagedModelError, match=r"config.*(33|is 0)"):
        model_size.count_parameters(read_config(tmp_path, "m"))


def test_a_type_that_transformers_does_not_know_is_said(tmp_path):
    declare(tmp_path, {"model_type": "odd", "architectures": ["OddLM"]})
    with pytest.raises(UnsupportedModelError, match=r"'odd'.*transformers.*update transformers"):
        read_config(tmp_path, "m")


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "compressed-tensors"])
def test_a_quantisation_without_an_exact_dense_form_is_refused(method, tmp_path):
    content = saved(hf.LlamaConfig(**SMALL)) | {"quantization_config": {"quant_method": method}}
    config = read_config(declare(tmp_path, content), "m")
    with pytest.raises(UnsupportedModelError, match=rf"quantised \({method}\).*dequantise"):
        request_dense_weights(config, "m")


def test_bits_without_a_method_are_bitsandbytes(tmp_path):
    content = saved(hf.LlamaConfig(**SMALL)) | {"quantization_config": {"load_in_4bit": True}}
    config = read_config(declare(tmp_path, content), "m")
    with pytest.raises(UnsupportedModelError, match=r"quantised \(bitsandbytes\)"):
        request_dense_weights(config, "m")


@pytest.mark.parametrize("method", ["mxfp4", "fp8"])
def test_a_quantisation_that_can_be_made_dense_is_announced(method, tmp_path):
    kept = {"quant_method": method, "modules_to_not_convert": ["lm_head"]}
    content = saved(hf.LlamaConfig(**SMALL)) | {"quantization_config": kept}
    config = read_config(declare(tmp_path, content), "m")
    with pytest.warns(SinkWarning, match=rf"quantised \({method}\).*dense model"):
        assert request_dense_weights(config, "m")
    assert config.quantization_config == kept | {"dequantize": True}


def test_dense_weights_are_announced_to_nobody():
    assert not request_dense_weights(hf.LlamaConfig(**SMALL), "m")
