"""The models with random weights that `tools.gpu` checks: shapes, weights and texts."""

from collections.abc import Mapping
from typing import Any

import torch
import transformers as hf
from torch import Tensor

from secondary_sinks import load_model
from secondary_sinks.foreign import build_model
from secondary_sinks.models.proof.prove import CHECKS

ROPE = {"rope_type": "default", "rope_theta": 1e6}
QWEN = {"vocab_size": 151_936, "max_position_embeddings": 32_768, "rope_parameters": ROPE}
TINY = {"vocab_size": 256, "max_position_embeddings": 1024, "rope_parameters": ROPE}


def _shape(kind: type, base: Mapping[str, Any], *numbers: int, **more: Any) -> Any:
    names = ["hidden_size", "intermediate_size", "num_hidden_layers"]
    names += ["num_attention_heads", "num_key_value_heads"]
    return kind(**base, **dict(zip(names, numbers, strict=True)), **more)


def shapes(device: torch.device) -> dict[str, Any]:
    """Configs by name, the smallest first; tiny ones on a processor."""
    if device.type == "cpu":
        tiny = {"head_dim": 16, "tie_word_embeddings": True}
        return {
            "tiny qwen2": _shape(hf.Qwen2Config, TINY, 64, 96, 3, 4, 2, tie_word_embeddings=True),
            "tiny qwen3": _shape(hf.Qwen3Config, TINY, 64, 96, 3, 4, 2, **tiny),
        }
    tied, untied = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}
    return {
        "qwen2.5-0.5b": _shape(hf.Qwen2Config, QWEN, 896, 4864, 24, 14, 2, **tied),
        "qwen3-4b": _shape(hf.Qwen3Config, QWEN, 2560, 9728, 36, 32, 8, head_dim=128, **tied),
        "qwen3-14b": _shape(hf.Qwen3Config, QWEN, 5120, 17_408, 40, 40, 8, head_dim=128, **untied),
    }


def limited(device: torch.device) -> Any:
    """A config whose layers have a soft-cap, and every other one a window within the texts."""
    width = {"head_dim": 16, "query_pre_attn_scalar": 16}
    if device.type != "cpu":
        width = {"head_dim": 128, "query_pre_attn_scalar": 128}
    d_model = 4 * width["head_dim"]
    return _shape(hf.Gemma2Config, TINY, d_model, 96, 4, 4, 2, sliding_window=9, **width)


def random_model(config: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """A Hugging Face model with random weights, drawn in float32 on the processor if it is small.

    So small models have the same weights on every device. Large ones are drawn on the device.
    """
    torch.manual_seed(0)
    large = config.vocab_size > 1000
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype if large else torch.float32)
    try:
        with torch.device(device if large else "cpu"):
            model = build_model(config)
    finally:
        torch.set_default_dtype(before)
    return model.to(device, dtype).eval()


def hooked_of(model: Any) -> Any:
    """The same weights with hook points. That they agree is checked by tests, not here."""
    return load_model(model, device=str(model.device), dtype=model.dtype, skip=CHECKS)


def text(vocabulary: int, n_tokens: int) -> Tensor:
    """Random tokens."""
    return torch.randint(0, vocabulary, (n_tokens,), generator=torch.Generator().manual_seed(0))


def changed(config: Any, **changes: Any) -> Any:
    """The config with other values."""
    return type(config)(**config.to_dict() | changes | {"layer_types": None})
