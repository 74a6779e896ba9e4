"""Who a model is: a hash of its weights, so that results can name what they were measured on."""

import hashlib
from typing import Any

import torch
from torch import Tensor

from secondary_sinks.layerwise.protocol import is_bridge


def architecture(model: Any) -> str:
    """Name of the original's class, which the two classes of TransformerLens call differently."""
    cfg = model.cfg
    return str(getattr(cfg, "original_architecture", None) or getattr(cfg, "architecture", None))


def class_name(model: Any) -> str:
    """HookedTransformer or TransformerBridge."""
    return "TransformerBridge" if is_bridge(model) else "HookedTransformer"


def wrapped_settings(model: Any) -> dict[str, str]:
    """Settings of the Hugging Face model in a bridge, such as windows; nothing for other classes.

    Names and versions, which change no number, are left out.
    """
    if not is_bridge(model):
        return {}
    named = ("_name_or_path", "transformers_version")
    settings = model.original_model.config.to_dict().items()
    return {f"original.{key}": str(value) for key, value in settings if key not in named}


def wrapped_frequencies(model: Any) -> list[Tensor]:
    """Rotary frequencies of the Hugging Face model in a bridge; none for other classes."""
    if not is_bridge(model):
        return []
    buffers = sorted(model.original_model.named_buffers())
    return [buffer for name, buffer in buffers if name.endswith("inv_freq")]


def weight_hash(model: Any) -> str:
    """SHA-256 over names, shapes, dtypes and bytes of all parameters, in order of name."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        tensor = parameter.detach().cpu().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(memoryview(tensor.view(torch.uint8).numpy().reshape(-1)))
    return digest.hexdigest()
