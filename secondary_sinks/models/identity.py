"""Identity of a loaded model, for records: its class, its source, and a hash of its weights."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from secondary_sinks import files
from secondary_sinks.layerwise.protocol import is_bridge
from secondary_sinks.models.original.sources import Source, resolve


def architecture(model: Any) -> str:
    """Class name of the Hugging Face original, such as "LlamaForCausalLM"."""
    cfg = model.cfg
    return str(getattr(cfg, "original_architecture", None) or getattr(cfg, "architecture", None))


def class_name(model: Any) -> str:
    """HookedTransformer or TransformerBridge."""
    return "TransformerBridge" if is_bridge(model) else "HookedTransformer"


def remember_source(model: Any, source: Source) -> None:
    """Note on a hooked model where it was loaded from."""
    object.__setattr__(model, "_source", source)  # also where a bridge overrides it


def provenance_of(model: Any) -> dict[str, str | None]:
    """Source of a loaded model, for a record.

    `kind` is embedded, folder, gguf, hub, or object for a model that was not loaded by name; the
    repository, the revision that was asked for and the commit that was read are those of a hub
    model, and None otherwise.
    """
    source: Source | None = vars(model).get("_source")
    if source is None or source.kind == "object":
        return {"kind": "object"}
    repository = source.path if source.kind == "hub" else None
    return {
        "kind": source.kind,
        "repository": repository,
        "revision": source.revision,
        "commit": source.commit,
    }


def published_as(name: str) -> dict[str, str]:
    """A model for pages that others read: short name, and where it is from without a folder.

    `name` is the alias, the name of the folder or file, or the last part of a hub name. `file` and
    `sha256` are those of a GGUF file, `repository` is the hub name of a model without an alias.

    >>> published_as("Qwen/Qwen3-14B")
    {'name': 'Qwen3-14B', 'repository': 'Qwen/Qwen3-14B'}
    """
    source = resolve(name)
    told = {"name": source.name.rsplit("/", 1)[-1]}
    if source.kind == "gguf":
        told |= {"file": Path(source.path).name, "sha256": files.sha256_of(Path(source.path))}
    if source.name != told["name"]:
        told |= {"repository": source.name}
    return told


def wrapped_settings(model: Any) -> dict[str, str]:
    """Settings of the Hugging Face model in a bridge, such as windows; empty for other classes.

    Names and versions are left out, since they change no result.
    """
    if not is_bridge(model):
        return {}
    named = ("_name_or_path", "transformers_version")
    settings = model.original_model.config.to_dict().items()
    return {f"original.{key}": str(value) for key, value in settings if key not in named}


def wrapped_frequencies(model: Any) -> list[Tensor]:
    """Rotary frequencies of the Hugging Face model in a bridge; empty for other classes."""
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
