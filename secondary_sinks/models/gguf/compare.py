"""Compare the header of a GGUF file with the model that transformers read from it."""

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from secondary_sinks.errors import UnsupportedModelError
from secondary_sinks.models.gguf.header import GgufHeader

SIZES = {
    "block_count": ("num_hidden_layers", "n_layer"),
    "embedding_length": ("hidden_size", "n_embd"),
    "attention.head_count": ("num_attention_heads", "n_head"),
    "attention.head_count_kv": ("num_key_value_heads",),
    "attention.key_length": ("head_dim",),
    "attention.value_length": ("head_dim",),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps",),
    "attention.layer_norm_epsilon": ("layer_norm_epsilon", "layer_norm_eps"),
    "expert_used_count": ("num_experts_per_tok",),
}
"""Metadata -> names of the same size in a config, which may lack it."""
SWITCHES = {
    "attention.sliding_window": "sliding_window",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
}
"""Metadata of features that may be off: then it is 0 or missing there, and None in a config."""
IGNORED = (
    *("attention.scale", "attention.clamp_kqv", "attention.max_alibi_bias", "rope.scale_linear"),
    *("logit_scale", "residual_scale", "embedding_scale"),
)
"""Metadata that changes results and that transformers does not read."""


def refuse_other_model(header: GgufHeader, config: Any, n_read: int, path: Path) -> None:
    """Raise `UnsupportedModelError` if the model that was read is not the one in the file.

    transformers ignores metadata that it does not know, above all scaled ropes. So the config must
    agree with the metadata, and `n_read`, the number of values that were read, with the tensors.
    """
    stated = header.sizes
    checks = (_differing_sizes, _differing_switches, _differing_ropes)
    differences = [difference for check in checks for difference in check(stated, config)]
    if header.parameters != n_read:
        extra = [name for name in header.tensors if name.startswith("rope_")] or ["some tensors"]
        differences.append(
            f"{extra[0]}: the file holds {header.parameters} numbers, and {n_read} were read"
        )
    if differences:
        raise UnsupportedModelError(
            f"transformers does not read all of GGUF file {str(path)!r} ({differences[0]}), so "
            "another model would be measured",
            "give the model's folder or hub name in Hugging Face format",
        )


def _differing_sizes(stated: dict[str, Any], config: Any) -> Iterator[str]:
    for key, names in SIZES.items():
        value = stated.get(key)
        found = next((name for name in names if getattr(config, name, None) is not None), None)
        if found and value is not None and not _is_close(value, getattr(config, found)):
            yield f"{key} is {value}, {found} became {getattr(config, found)}"


def _differing_switches(stated: dict[str, Any], config: Any) -> Iterator[str]:
    for key, name in SWITCHES.items():
        used = getattr(config, f"use_{name}", True)
        value, became = stated.get(key) or 0, (used and getattr(config, name, None)) or 0
        if not _is_close(value, became):
            yield f"{key} is {value}, {name} became {became}"
    for key in IGNORED:
        if stated.get(key) not in (None, 0, 1, False):
            yield f"{key} is {stated[key]}"


def _differing_ropes(stated: dict[str, Any], config: Any) -> Iterator[str]:
    rope = getattr(config, "rope_parameters", None)
    if rope is None:
        return
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    share = rope.get("partial_rotary_factor") or getattr(config, "partial_rotary_factor", None)
    for key, became in (
        ("rope.freq_base", rope.get("rope_theta")),
        ("rope.dimension_count", width * (share or 1.0)),
    ):
        if stated.get(key) is not None and not _is_close(stated[key], became):
            yield f"{key} is {stated[key]}, and became {became}"
    scaling = stated.get("rope.scaling.type", "none")
    if scaling not in ("none", rope.get("rope_type")):
        yield f"rope.scaling.type is {scaling}, and became {rope.get('rope_type')}"


def _is_close(one: Any, other: Any) -> bool:
    numbers = isinstance(one, int | float) and isinstance(other, int | float)
    return numbers and math.isclose(one, other, rel_tol=1e-5)


DIVISORS = "rope_freqs.weight"
FLOAT32 = 0
PUBLISHED_SCALINGS = tuple(
    {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    for factor in (8.0, 32.0)
)
"""`rope_parameters` of Llama 3.1 and 3.3, and of Llama 3.2."""


def set_llama3_rope(header: GgufHeader, path: Path, config: Any) -> int:
    """Set the scaled rope whose divisors the file holds; returns the number of divisors used.

    Returns 0 and leaves the config unchanged if the file has no divisors, or other ones than those
    of a published model.
    """
    tensor = header.tensors.get(DIVISORS)
    if tensor is None or tensor.kind != FLOAT32 or config.model_type != "llama":
        return 0
    stored = np.fromfile(path, dtype="<f4", count=tensor.values, offset=tensor.start)
    for parameters in PUBLISHED_SCALINGS:
        scaled = copy.deepcopy(config)
        scaled.rope_parameters = {**config.rope_parameters, **parameters}
        expected = (_frequencies(config) / _frequencies(scaled)).numpy()
        if expected.shape == stored.shape and np.allclose(stored, expected, rtol=1e-5):
            config.rope_parameters = scaled.rope_parameters
            return tensor.values
    return 0


def _frequencies(config: Any) -> torch.Tensor:
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    return LlamaRotaryEmbedding(config).inv_freq.double()
