"""Hook: an `Original` -> a model with the hook points of TransformerLens."""

from typing import Any

import torch

from secondary_sinks.errors import ModelError
from secondary_sinks.models.configs import architecture_of, check_architecture
from secondary_sinks.models.identity import remember_source
from secondary_sinks.models.model_size import ModelSize, require_memory
from secondary_sinks.models.original.read import Original
from secondary_sinks.models.target import Target


def check_original(original: Original, target: Target, size: ModelSize) -> None:
    """Check that the weights are finite, the architecture is supported and the target has room.

    Raises `ModelError`, `UnsupportedModelError` or `ModelMemoryError`.
    """
    _refuse_not_finite(original.model)
    if not target.bridge:
        check_architecture(architecture_of(original.model))
    device = target.device
    moves = device is not None and not device.startswith(original.model.device.type)
    if moves and target.n_devices == 1:
        require_memory(size, device)


def hook(original: Original, target: Target) -> Any:
    """Convert a model into the target class and place it on the target devices."""
    hf_model, tokenizer, source = original
    if target.bridge:
        from secondary_sinks.models.bridge import to_bridge

        placed = hf_model if target.device is None else hf_model.to(target.device)
        hooked = to_bridge(placed, tokenizer, source.name)
    else:
        from secondary_sinks.models.convert import to_hooked

        device = target.device or "cpu"
        hooked = to_hooked(hf_model, tokenizer, source.name, device, n_devices=target.n_devices)
    remember_source(hooked, source)
    return hooked


def _refuse_not_finite(hf_model: Any) -> None:
    """Raise `ModelError` that names a weight with NaN or infinite values."""
    for name, parameter in hf_model.named_parameters():
        # A sum is NaN or infinite when any element is; it needs no boolean copy of the weights.
        weights = parameter.detach()
        if weights.device.type == "mps":  # which has no float64
            weights = weights.cpu()
        total = weights.sum(dtype=torch.float64)
        if not torch.isfinite(total):
            raise ModelError(f"weight {name!r} holds NaN or infinite values; expected finite ones")
