"""Tiny models with random weights of each architecture, from transformers' own configs."""

import torch
import transformers as hf

SMALL = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0}
YARN |= {"original_max_position_embeddings": 32}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0}
LLAMA3 |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
LONGROPE = {"rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 0.75}
LONGROPE |= {"short_factor": [1.0, 1.5, 2.0], "long_factor": [4.0, 8.0, 9.0], "factor": 2.0}
LONGROPE |= {"original_max_position_embeddings": 64}
GPT = {"vocab_size": 97, "n_positions": 128, "n_embd": 32, "n_layer": 3, "n_head": 4}
MHA = {"num_key_value_heads": 4}


def configs():
    """Config of each variant, by name."""
    small = SMALL
    neox = {key: value for key, value in small.items() if key != "num_key_value_heads"}
    return {
        "llama": hf.LlamaConfig(**small),
        "llama-mha-tied": hf.LlamaConfig(**small | MHA, tie_word_embeddings=True),
        "llama-linear-rope": hf.LlamaConfig(**small, rope_parameters=LINEAR),
        "llama3.1": hf.LlamaConfig(**small, rope_parameters=LLAMA3),
        "llama-wide-heads": hf.LlamaConfig(**small, head_dim=16),
        "mistral-window": hf.MistralConfig(**small, sliding_window=8),
        "mistral": hf.MistralConfig(**small, sliding_window=None),
        "qwen2": hf.Qwen2Config(**small),
        "qwen2-mha": hf.Qwen2Config(**small | MHA),
        "qwen2-yarn": hf.Qwen2Config(**small, rope_parameters=YARN),
        "qwen2-window": hf.Qwen2Config(
            **small, use_sliding_window=True, sliding_window=8, max_window_layers=1
        ),
        "qwen3": hf.Qwen3Config(**small, head_dim=16),
        "qwen3-mha": hf.Qwen3Config(**small | MHA, head_dim=8),
        "qwen3-moe": hf.Qwen3MoeConfig(
            **small, head_dim=16, moe_intermediate_size=24, num_experts=4, num_experts_per_tok=2
        ),
        "qwen3-moe-normed": hf.Qwen3MoeConfig(
            **small,
            head_dim=16,
            moe_intermediate_size=24,
            num_experts=4,
            num_experts_per_tok=2,
            norm_topk_prob=True,
        ),
        "smollm3": hf.SmolLM3Config(**small, no_rope_layer_interval=2),
        "phi3": hf.Phi3Config(**small),
        "phi3-partial-rotary": hf.Phi3Config(**small, partial_rotary_factor=0.5),
        "phi4-mini-longrope": hf.Phi3Config(
            **small,
            partial_rotary_factor=0.75,
            original_max_position_embeddings=64,
            rope_parameters=LONGROPE,
        ),
        "olmo2": hf.Olmo2Config(**small | MHA),
        "gemma2": hf.Gemma2Config(**small, head_dim=16, sliding_window=8, query_pre_attn_scalar=24),
        "gemma3": hf.Gemma3TextConfig(
            **small, head_dim=16, sliding_window=8, query_pre_attn_scalar=24
        ),
        "gpt-oss": hf.GptOssConfig(
            **small, head_dim=16, sliding_window=8, num_local_experts=4, num_experts_per_tok=2
        ),
        "gpt2": hf.GPT2Config(**GPT),
        "pythia": hf.GPTNeoXConfig(**neox, rotary_pct=0.25),
        "neox-sequential": hf.GPTNeoXConfig(**neox, rotary_pct=0.5, use_parallel_residual=False),
    }


def tiny(name, seed=0):
    """The Hugging Face model of a variant, with weights large enough for attention to matter."""
    torch.manual_seed(seed)
    config = configs()[name]
    model = hf.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.15)
            elif key.endswith("bias"):
                parameter.normal_(0, 0.1)
            else:
                parameter.uniform_(0.5, 1.5)
    return model


def save(name, folder, seed=0):
    """Save a variant to a folder in Hugging Face format, without a tokenizer."""
    tiny(name, seed).save_pretrained(folder)
    return folder
