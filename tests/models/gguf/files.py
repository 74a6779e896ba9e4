"""Tiny GGUF files: the weights of a Hugging Face model under llama.cpp's names."""

import gguf
import numpy as np
import torch
import transformers as hf

from secondary_sinks.testing.families import SMALL

WRITTEN = {"qwen2": hf.Qwen2Config, "llama": hf.LlamaConfig, "phi3": hf.Phi3Config}
THETA = 50_000.0
TOKENS = ["<unk>", "<s>", "</s>", "<|endoftext|>", *(chr(33 + code) for code in range(92)), "AB"]


def tiny_model(architecture, **fields):
    """A model with random weights, and a rope base that is nobody's default."""
    torch.manual_seed(0)
    rope = {"rope_type": "default", "rope_theta": THETA}
    config = WRITTEN[architecture](**SMALL | {"rope_parameters": rope} | fields)
    model = hf.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2)
    return model


def write(path, model, architecture, *, without=(), metadata=None, extra=None, tokenizer=None):
    """Write a file: leave tensors out, add metadata of the architecture, add tensors.

    `tokenizer` writes another one than the usual.
    """
    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(THETA)
    for key, value in (metadata or {}).items():
        kind = {str: writer.add_string, float: writer.add_float32, int: writer.add_uint32}
        kind[type(value)](f"{architecture}.{key}", value)
    (tokenizer or _add_tokenizer)(writer)
    for name, tensor in (tensors(model, architecture) | (extra or {})).items():
        if name not in without:
            writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tensors(model, architecture):
    """The weights by llama.cpp's names; a Llama's queries and keys in its order of rotation."""
    kind = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(kind, model.config.num_hidden_layers)
    found = {}
    for key, value in model.state_dict().items():
        stem, ending = key.rsplit(".", 1)
        array = value.numpy()
        if architecture == "llama" and stem.endswith(("q_proj", "k_proj")):
            heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}
            array = interleave(array, getattr(model.config, heads[stem[-6:]]))
        found[f"{names.get_name(stem)}.{ending}"] = array
    return found


def interleave(weight, heads):
    """Rows of each head from (first half, second half) to (pair, pair, ...)."""
    halves = weight.reshape(heads, 2, -1, weight.shape[-1])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(weight.shape)


def _add_tokenizer(writer):
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3] * 4 + [1] * (len(TOKENS) - 4))
    writer.add_token_merges(["A B"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
