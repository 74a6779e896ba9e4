"""Models that are given as objects: of Hugging Face, or hooked already."""

from typing import Any

import torch

from secondary_sinks.errors import ModelError, UnsupportedModelError
from secondary_sinks.layerwise.protocol import is_bridge
from secondary_sinks.models.devices import parse_dtype
from secondary_sinks.models.original.read import Original
from secondary_sinks.models.original.sources import Source

FOLDED_NORMS = ("LNPre", "RMSPre")
"""Norms of a `HookedTransformer` whose scale was folded into the weights that follow."""
ADAPTER_WEIGHTS = (".base_layer.", "lora_")
"""Parts of the names of weights where peft has wrapped a layer."""


def refuse_adapter(model: Any) -> None:
    """Raise `UnsupportedModelError` for LoRA and other adapters.

    Such a model computes with the sum of a layer's weights and the adapter's, not with the weights
    of the layer.
    """
    if not isinstance(model, torch.nn.Module):
        return
    names = (name for name, _ in model.named_parameters())
    found = next((name for name in names if any(part in name for part in ADAPTER_WEIGHTS)), None)
    if found is not None or type(model).__name__.startswith("Peft"):
        where = f" (weight {found!r})" if found else ""
        raise UnsupportedModelError(
            f"the {type(model).__name__} object carries an adapter such as LoRA{where}, and its "
            "layers do not compute with their own weights alone; merge it with "
            "model.merge_and_unload(), and give the model that this returns"
        )


def original_from_object(
    hf_model: Any, tokenizer: Any, dtype: str | torch.dtype | None, revision: str | None = None
) -> Original:
    """A Hugging Face model object as an `Original`.

    Raises `ModelError` if it has another dtype, and for a revision, which only a name has.
    """
    if revision is not None:
        raise ModelError(
            f"revision {revision!r:.60} is for models that are loaded by name, and this is an "
            "object that is loaded already",
            "leave revision out, or give the name of the hub repository",
        )
    if dtype is not None and parse_dtype(dtype) != hf_model.dtype:
        raise ModelError(
            f"the model object is {hf_model.dtype}, but {dtype} was requested",
            "convert it yourself: model.to(dtype)",
        )
    name = type(hf_model).__name__
    return Original(hf_model, tokenizer, Source(name=name, kind="object", path=name))


def check_hooked_object(model: Any, options: dict[str, Any]) -> Any:
    """Check a hooked model before its proof; a bridge is made loud in place.

    `options` are those of `load_model` that are only for models that are not loaded yet.
    """
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise ModelError(
            f"{given[0]} is for models that are still to be loaded; change the model itself, "
            "for example with model.to(...)"
        )
    processed = getattr(model, "_weights_processed", False)
    if processed or getattr(model.cfg, "normalization_type", None) in FOLDED_NORMS:
        raise ModelError(
            "the weights of this model were processed (norms folded in, or centred), so its "
            "norms, cosines and values are not the original's",
            "expected one loaded without processing, as from_pretrained_no_processing does",
        )
    if not is_bridge(model):
        return model
    from secondary_sinks.models.loud import make_loud

    return make_loud(model)
