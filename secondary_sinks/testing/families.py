"""Tiny models with random weights of each architecture, from the configs of transformers.

Shapes are tiny, but the details that differ between architectures are real: kinds of rope with
their published parameters, sliding windows, q/k norms, learned sinks, soft-caps, experts.

    from secondary_sinks.testing import families

    model = families.tiny("qwen3")  # a Hugging Face model
    folder = families.save("gemma3", "some/folder")  # the same kind of model, on disk
"""

from pathlib import Path
from typing import Any

import torch
import transformers as hf

from secondary_sinks.foreign import build_model

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
YARN = {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0}
YARN |= {"original_max_position_embeddings": 32768}
GPT_OSS_YARN = {"rope_type": "yarn", "rope_theta": 150000.0, "factor": 32.0, "truncate": False}
GPT_OSS_YARN |= {"beta_fast": 32.0, "beta_slow": 1.0, "original_max_position_embeddings": 4096}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0}
LLAMA3 |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
LONGROPE = {"rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 0.75}
LONGROPE |= {"short_factor": [1.0, 1.5, 2.0], "long_factor": [4.0, 8.0, 9.0], "factor": 2.0}
LONGROPE |= {"original_max_position_embeddings": 64}
GEMMA3_ROPES = {
    "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
}
GPT = {"vocab_size": 97, "n_positions": 128, "n_embd": 32, "n_layer": 3, "n_head": 4}
MHA = {"num_key_value_heads": 4}
TIED = {"tie_word_embeddings": True}
MOE = {"moe_intermediate_size": 24, "num_experts": 4, "num_experts_per_tok": 2}


def _rope(theta: float) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": theta}}


def configs() -> dict[str, Any]:
    """Config of each variant by name, with the families of the paper first."""
    return _qwen() | _llama() | _other_families_of_the_paper() | _beyond_the_paper()


def _qwen() -> dict[str, Any]:
    small, window = SMALL, {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}
    return {
        "qwen2": hf.Qwen2Config(**small, **TIED, **_rope(1e6)),
        "qwen2-mha": hf.Qwen2Config(**small | MHA),
        "qwen2-window": hf.Qwen2Config(**small, **window),
        "qwen2-yarn": hf.Qwen2Config(**small, rope_parameters=YARN),
        "qwen2.5": hf.Qwen2Config(**small, **_rope(1e6)),
        "qwen2.5-math": hf.Qwen2Config(**small, **_rope(10000.0)),
        "qwq": hf.Qwen2Config(**small | {"rms_norm_eps": 1e-5}, **_rope(1e6)),
        "deepseek-r1-qwen": hf.Qwen2Config(**small, **_rope(10000.0)),
        "deepseek-r1-llama": hf.LlamaConfig(**small, rope_parameters=LLAMA3),
        "qwen3": hf.Qwen3Config(**small, head_dim=16, **_rope(1e6)),
        "qwen3-mha": hf.Qwen3Config(**small | MHA, head_dim=8),
        "qwen3-moe": hf.Qwen3MoeConfig(**small, **MOE, head_dim=16, norm_topk_prob=True),
        "qwen3-moe-unnormed": hf.Qwen3MoeConfig(**small, **MOE, head_dim=16, norm_topk_prob=False),
    }


def _llama() -> dict[str, Any]:
    small = SMALL
    return {
        "llama": hf.LlamaConfig(**small),
        "llama-2": hf.LlamaConfig(**small | MHA, **_rope(10000.0)),
        "llama-3": hf.LlamaConfig(**small, **_rope(500000.0)),
        "llama3.1": hf.LlamaConfig(**small, rope_parameters=LLAMA3),
        "codellama": hf.LlamaConfig(**small | MHA, **_rope(1e6)),
        "llama-mha-tied": hf.LlamaConfig(**small | MHA, **TIED),
        "llama-linear-rope": hf.LlamaConfig(**small, rope_parameters=LINEAR),
        "llama-wide-heads": hf.LlamaConfig(**small, head_dim=16),
    }


def _other_families_of_the_paper() -> dict[str, Any]:
    small, oss = SMALL, {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 16}
    return {
        "mistral": hf.MistralConfig(**small, sliding_window=None),
        "mistral-window": hf.MistralConfig(**small, sliding_window=8),
        "mathstral": hf.MistralConfig(**small, sliding_window=None, **_rope(1e6)),
        "phi3": hf.Phi3Config(**small),
        "phi3-partial-rotary": hf.Phi3Config(**small, partial_rotary_factor=0.5),
        "phi-4": hf.Phi3Config(**small, **_rope(250000.0)),
        "phi4-mini-longrope": hf.Phi3Config(
            **small,
            **TIED,
            partial_rotary_factor=0.75,
            original_max_position_embeddings=64,
            rope_parameters=LONGROPE,
        ),
        "gpt-oss": hf.GptOssConfig(**small, **oss, sliding_window=8, rope_parameters=GPT_OSS_YARN),
    }


def _beyond_the_paper() -> dict[str, Any]:
    small = SMALL
    gemma = {"head_dim": 16, "sliding_window": 8, "query_pre_attn_scalar": 24}
    neox = {key: value for key, value in small.items() if key != "num_key_value_heads"}
    return {
        "gemma2": hf.Gemma2Config(**small, **gemma),
        "gemma3": hf.Gemma3TextConfig(**small, **gemma, rope_parameters=GEMMA3_ROPES),
        "olmo2": hf.Olmo2Config(**small | MHA, **_rope(500000.0)),
        "smollm3": hf.SmolLM3Config(**small, no_rope_layer_interval=2, **_rope(5e6)),
        "gpt2": hf.GPT2Config(**GPT),
        "gpt2-scaled-by-layer": hf.GPT2Config(**GPT, scale_attn_by_inverse_layer_idx=True),
        "pythia": hf.GPTNeoXConfig(**neox, rotary_pct=0.25),
        "neox-sequential": hf.GPTNeoXConfig(**neox, rotary_pct=0.5, use_parallel_residual=False),
    }


def tiny(name: str, seed: int = 0) -> Any:
    """A Hugging Face model of a variant, with random weights large enough that attention varies."""
    torch.manual_seed(seed)
    config = configs()[name]
    model = build_model(config).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.15)
            elif key.endswith("bias"):
                parameter.normal_(0, 0.1)
            else:
                parameter.uniform_(0.5, 1.5)
    model.config.architectures = [type(model).__name__]
    return model


def save(name: str, folder: str | Path, seed: int = 0) -> str | Path:
    """Save a variant to a folder in Hugging Face format, without a tokenizer."""
    tiny(name, seed).save_pretrained(folder)
    return folder
