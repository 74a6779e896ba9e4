"""Hook: an `Original` -> a model with the hook points of TransformerLens."""

import importlib.util
from typing import Any, NamedTuple

import torch

from secondary_sinks.errors import ModelError, UnsupportedModelError
from secondary_sinks.models.configs import architecture_of, check_architecture
from secondary_sinks.models.devices import parse_device, refuse_missing_gpus
from secondary_sinks.models.identity import remember_source
from secondary_sinks.models.model_size import ModelSize, require_memory
from secondary_sinks.models.original.read import Original

SUMS = (torch.float32, torch.float64)
"""Dtypes of sums of weights, the fast one first."""


class Target(NamedTuple):
    """The class and the devices of the hooked model."""

    bridge: bool
    """Whether it becomes a `TransformerBridge`, and not a `HookedTransformer`."""
    device: str | None
    """None if there is a `device_map`."""
    n_devices: int
    device_map: Any

    @property
    def reads_to(self) -> Any:
        """The `device_map` with which weights are read from files.

        For one GPU they go there file by file, so host memory holds one file and not the model.

        >>> Target(False, "cuda:1", 1, None).reads_to, Target(False, "cpu", 1, None).reads_to
        ({'': 'cuda:1'}, None)
        """
        to_one_gpu = self.n_devices == 1 and (self.device or "").startswith("cuda")
        return {"": self.device} if to_one_gpu else self.device_map


def choose_target(
    model: Any, device: str | None, bridge: bool | None, n_devices: int, device_map: Any
) -> Target:
    """Resolve the options of `load_model`; raises `ModelError` if they contradict each other."""
    if bridge is not False and n_devices == 1:
        device_map = device_map or _existing_device_map(model, device)
    use_bridge = _use_bridge(bridge, n_devices, device_map)
    refuse_missing_gpus(n_devices)
    device = None if device_map is not None else parse_device(device)
    return Target(use_bridge, device, n_devices, device_map)


def has_hooked_transformer() -> bool:
    """Whether this version of TransformerLens has `HookedTransformer` (4.x does not)."""
    return importlib.util.find_spec("transformer_lens.HookedTransformer") is not None


def _use_bridge(bridge: bool | None, n_devices: int, device_map: Any) -> bool:
    available = has_hooked_transformer()
    if bridge is False and not available:
        raise UnsupportedModelError(
            "this version of transformer_lens has no HookedTransformer",
            "install 'transformer-lens<4', or leave out bridge=False",
        )
    use_bridge = (bridge is True) or not available or (bridge is None and device_map is not None)
    if use_bridge and n_devices != 1:
        raise ModelError("n_devices is for a HookedTransformer", "give a bridge a device_map")
    if not use_bridge and device_map is not None:
        raise ModelError("device_map is for a bridge", "give a HookedTransformer n_devices")
    return use_bridge


def _existing_device_map(model: Any, device: str | None) -> Any:
    """Device of each part of a model object that accelerate has spread; None if it is on one.

    Raises `ModelError` if such a model is wanted on one `device`.
    """
    device_map = getattr(model, "hf_device_map", None) or {}
    devices = set(device_map.values())
    if len(devices) < 2:
        return None
    if device is not None:
        raise ModelError(
            f"the model object is spread over {sorted(map(str, devices))}",
            f"leave device={device!r} out, or give an object that is on one device",
        )
    return device_map


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
        from secondary_sinks.models.loud import to_bridge

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
        # That of large weights may be so too, unless it is taken in float64, which is slower.
        weights = parameter.detach()
        if weights.device.type == "mps":  # which has no float64
            weights = weights.cpu()
        if not any(torch.isfinite(weights.sum(dtype=kind)) for kind in SUMS):
            raise ModelError(
                f"weight {name!r} holds NaN or infinite values", "expected finite ones"
            )
