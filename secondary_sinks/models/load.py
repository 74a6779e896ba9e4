"""`load_model`: one door for every model."""

import importlib.util
import os
from collections.abc import Collection
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel

from secondary_sinks.errors import ModelError, UnsupportedModelError
from secondary_sinks.layerwise.protocol import is_bridge
from secondary_sinks.models import model_size
from secondary_sinks.models.configs import architecture_of, check_architecture
from secondary_sinks.models.original.read import read_original
from secondary_sinks.models.original.sources import resolve
from secondary_sinks.models.proof.expected import Expected, expect
from secondary_sinks.models.proof.prove import check_skip, prove

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
KINDS = ("cpu", "cuda", "mps")
FOLDED = ("LNPre", "RMSPre")
"""Norms of a HookedTransformer whose weights have taken in what the norm multiplies with."""


def load_model(
    model: Any,
    device: str | None = None,
    dtype: str | torch.dtype | None = None,
    *,
    tokenizer: Any = None,
    bridge: bool | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    n_devices: int = 1,
    device_map: Any = None,
    skip: Collection[str] = (),
) -> Any:
    """Load a model with hook points and unprocessed weights, proven equal to its original.

    `model` is "smollm2-135m", an alias of `secondary-sinks models`, a hub name, a local folder in
    Hugging Face format, a GGUF file; or an object: a Hugging Face model (its weights are then
    shared, not copied), a `HookedTransformer` or a `TransformerBridge` (checked and given back;
    nothing is there to compare it with).

    The result is a `HookedTransformer`; with `bridge`, and always where TransformerLens has none
    (4.x), a `TransformerBridge`. `device` defaults to CUDA, then MPS, then the CPU; `dtype`
    ("float32", "bfloat16", "float16") to float32. `n_devices` spreads a HookedTransformer, a
    `device_map` of accelerate a bridge, over several GPUs; a model object that is spread already
    stays so, in a bridge, unless another class is asked for. `revision` (or `name@revision`) is a
    branch, tag or commit of a hub repository. Code that a model brings along runs only with
    `trust_remote_code`. `skip` names checks to leave out: see `models.proof`.

    Raises `UnknownModelError`, `HubError`, `DamagedModelError`, `UnsupportedModelError`,
    `ModelMemoryError`, `ModelMismatchError`, or their base `ModelError`.
    """
    check_skip(skip)
    _refuse_adapter(model)
    if hasattr(model, "hook_dict"):
        given = {"device": device, "dtype": dtype, "tokenizer": tokenizer, "device_map": device_map}
        return _already_hooked(model, given, skip)
    if bridge is not False and n_devices == 1:
        device_map = device_map or _spread_over(model, device)
    as_bridge = _as_bridge(bridge, n_devices, device_map)
    refuse_missing_gpus(n_devices)
    device = None if device_map is not None else parse_device(device)
    if isinstance(model, PreTrainedModel):
        original = _Original(model, tokenizer, type(model).__name__)
        _refuse_other_dtype(model, dtype)
    else:
        reading = {"trust_remote_code": trust_remote_code, "device_map": device_map}
        reading["accept"] = None if as_bridge else _accept
        original = _read(model, revision, parse_dtype(dtype), reading)
        tokenizer = tokenizer or original.tokenizer
    _refuse_not_finite(original.model)
    if not as_bridge:
        check_architecture(architecture_of(original.model))
    size = model_size.size_of(original.model, original.name)
    if device is not None and n_devices == 1 and not device.startswith(original.model.device.type):
        model_size.require_memory(size, device)  # before the weights are moved there
    with model_size.explain_out_of_memory(size, device):
        expected = expect(original.model) if "original" not in skip else None
        hooked = _hooked(original._replace(tokenizer=tokenizer), as_bridge, device, n_devices)
    del original
    return _proven(hooked, expected, skip)


def _refuse_adapter(model: Any) -> None:
    """LoRA and its kind: weights next to weights, of which only the sum is what the model uses."""
    if not isinstance(model, torch.nn.Module):
        return
    names = (name for name, _ in model.named_parameters())
    signs = (".base_layer.", "lora_")  # in names, wherever peft has wrapped a layer
    found = next((name for name in names if any(sign in name for sign in signs)), None)
    if found is not None or type(model).__name__.startswith("Peft"):
        where = f" (weight {found!r})" if found else ""
        raise UnsupportedModelError(
            f"the {type(model).__name__} object carries an adapter such as LoRA{where}, whose "
            "weights are not those of its layers; merge it with model.merge_and_unload(), and "
            "give what that returns"
        )


class _Original(NamedTuple):
    model: Any
    tokenizer: Any
    name: str


def _read(
    name: Any, revision: str | None, dtype: torch.dtype, reading: dict[str, Any]
) -> _Original:
    if not isinstance(name, str | os.PathLike):
        raise ModelError(
            f"expected a name, path, Hugging Face model or hooked model, got {type(name).__name__}"
        )
    source = resolve(os.fspath(name), revision)
    found = read_original(source, dtype, **reading)
    return _Original(found.model, found.tokenizer, source.name)


def _accept(hf_config: Any) -> None:
    """Refuse an architecture before its weights are downloaded or read."""
    for architecture in (hf_config.architectures or [])[:1]:
        check_architecture(architecture)


def _hooked(original: _Original, as_bridge: bool, device: str | None, n_devices: int) -> Any:
    hf_model, tokenizer, name = original
    if as_bridge:
        from secondary_sinks.models.bridge import to_bridge

        return to_bridge(hf_model if device is None else hf_model.to(device), tokenizer, name)
    from secondary_sinks.models.convert import to_hooked

    return to_hooked(hf_model, tokenizer, name, device or "cpu", n_devices=n_devices)


def _proven(hooked: Any, expected: Expected | None, skip: Collection[str]) -> Any:
    prove(hooked, expected, skip)
    return hooked


def _already_hooked(model: Any, given: dict[str, Any], skip: Collection[str]) -> Any:
    """Check a hooked model as far as one can without its original; a bridge becomes loud."""
    wrong = [name for name, value in given.items() if value is not None]
    if wrong:
        raise ModelError(
            f"{wrong[0]} is for models that are still to be loaded; change the model itself, "
            "for example with model.to(...)"
        )
    processed = getattr(model, "_weights_processed", False)
    if processed or getattr(model.cfg, "normalization_type", None) in FOLDED:
        raise ModelError(
            "the weights of this model were processed (norms folded in, or centred), so its "
            "norms, cosines and values are not the original's; expected one loaded without "
            "processing, as from_pretrained_no_processing does"
        )
    if is_bridge(model):
        from secondary_sinks.models.loud import make_loud

        model = make_loud(model)
    return _proven(model, None, skip)


def has_hooked_transformer() -> bool:
    """Whether this version of TransformerLens has the class (4.x has not)."""
    return importlib.util.find_spec("transformer_lens.HookedTransformer") is not None


def _as_bridge(bridge: bool | None, n_devices: int, device_map: Any) -> bool:
    """Which class to make. Raises `ModelError` for wishes that contradict each other."""
    old = has_hooked_transformer()
    if bridge is False and not old:
        raise UnsupportedModelError(
            "this version of transformer_lens has no HookedTransformer; install "
            "'transformer-lens<4', or leave out bridge=False"
        )
    wanted = (bridge is True) or not old or (bridge is None and device_map is not None)
    if wanted and n_devices != 1:
        raise ModelError("n_devices is for a HookedTransformer; give a bridge a device_map")
    if not wanted and device_map is not None:
        raise ModelError("device_map is for a bridge; give a HookedTransformer n_devices")
    return wanted


def _spread_over(model: Any, device: str | None) -> Any:
    """Where accelerate has put the parts of a model object; None where all are on one device.

    Raises `ModelError` where the user wants such a model on one `device`.
    """
    places = getattr(model, "hf_device_map", None) or {}
    if len(set(places.values())) < 2:
        return None
    if device is not None:
        raise ModelError(
            f"the model object is spread over {sorted(map(str, set(places.values())))}; leave "
            f"device={device!r} out, or give an object that is on one device"
        )
    return places


def refuse_missing_gpus(n_devices: int) -> None:
    """Raise `ModelError` where there are not as many GPUs; one device is always there."""
    there = torch.cuda.device_count()
    if n_devices < 1 or (n_devices > 1 and n_devices > there):
        raise ModelError(
            f"n_devices is {n_devices}; expected at least 1 and at most the GPUs that are there "
            f"({there}); leave it out for one device"
        )


def _refuse_other_dtype(hf_model: Any, dtype: str | torch.dtype | None) -> None:
    if dtype is not None and parse_dtype(dtype) != hf_model.dtype:
        raise ModelError(
            f"the model object is {hf_model.dtype}, asked for was {dtype}; convert it yourself: "
            "model.to(dtype)"
        )


def _refuse_not_finite(hf_model: Any) -> None:
    """A NaN weight makes every number NaN: name the tensor before any forward pass."""
    for name, parameter in hf_model.named_parameters():
        # A sum is NaN or infinite when any element is; it needs no boolean copy of the weights.
        weights = parameter.detach()
        if weights.device.type == "mps":  # which has no float64
            weights = weights.cpu()
        total = weights.sum(dtype=torch.float64)
        if not torch.isfinite(total):
            raise ModelError(f"weight {name!r} holds NaN or infinite values; expected finite ones")


def parse_dtype(dtype: str | torch.dtype | None) -> torch.dtype:
    """A torch dtype from its name; float32 when none is given."""
    if dtype is None:
        return torch.float32
    found = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if found is None or found not in DTYPES.values():
        raise ModelError(f"unknown dtype {dtype!r}; expected one of {', '.join(DTYPES)}")
    return found


def parse_device_name(device: str | None) -> None:
    """Refuse what names no device; whether it is there, only its machine knows."""
    kind, colon, index = (device or KINDS[0]).partition(":")
    if device == "" or kind not in KINDS or (colon and not index.isdecimal()):
        raise ModelError(f"unknown device {device!r}; expected one of {', '.join(KINDS)}")


def parse_device(device: str | None) -> str:
    """A device that is there; CUDA, then MPS, then the CPU when none is given."""
    if device is None:
        mps = torch.backends.mps.is_available()
        return "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    parse_device_name(device)
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        said = str(error).splitlines()[0]
        raise ModelError(f"device {device!r} cannot be used: {said}; try cpu") from error
    return device
