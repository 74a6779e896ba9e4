"""Which class of TransformerLens a model becomes, and on which devices it is placed."""

import importlib.util
from typing import Any, NamedTuple

from secondary_sinks.errors import ModelError, UnsupportedModelError
from secondary_sinks.models.devices import parse_device, refuse_missing_gpus


class Target(NamedTuple):
    """The class and the devices of the hooked model."""

    bridge: bool
    """Whether it becomes a `TransformerBridge`, and not a `HookedTransformer`."""
    device: str | None
    """None if there is a `device_map`."""
    n_devices: int
    device_map: Any


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
            "this version of transformer_lens has no HookedTransformer; install "
            "'transformer-lens<4', or leave out bridge=False"
        )
    use_bridge = (bridge is True) or not available or (bridge is None and device_map is not None)
    if use_bridge and n_devices != 1:
        raise ModelError("n_devices is for a HookedTransformer; give a bridge a device_map")
    if not use_bridge and device_map is not None:
        raise ModelError("device_map is for a bridge; give a HookedTransformer n_devices")
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
            f"the model object is spread over {sorted(map(str, devices))}; leave "
            f"device={device!r} out, or give an object that is on one device"
        )
    return device_map
