"""`load_model`: resolve -> fetch -> check -> read -> hook -> prove.

| step | module | result |
|---|---|---|
| resolve a name | `original.sources` | `Source` |
| fetch its files | `original.fetch` | `Fetched`, whose source has its commit |
| check them | `original.check` | `Description` |
| read the weights | `original.read` | `Original` |
| hook the model | `hook` | `HookedTransformer` or `TransformerBridge` |
| prove it equal to its original | `proof` | the same model |
"""

import os
from collections.abc import Collection
from typing import Any

import torch
from transformers import PreTrainedModel

from secondary_sinks.errors import ModelError
from secondary_sinks.layerwise.protocol import is_bridge
from secondary_sinks.models.configs import check_architecture
from secondary_sinks.models.devices import parse_dtype
from secondary_sinks.models.hook import check_original, choose_target, hook
from secondary_sinks.models.model_size import explain_out_of_memory, size_of
from secondary_sinks.models.objects import (
    check_hooked_object,
    original_from_object,
    refuse_adapter,
)
from secondary_sinks.models.original.read import read_original
from secondary_sinks.models.original.sources import Source, resolve
from secondary_sinks.models.proof.expected import expect
from secondary_sinks.models.proof.prove import check_skip, prove
from secondary_sinks.numbers import true_or_false


def load_model(
    model: Any,
    device: str | torch.device | None = None,
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
    Hugging Face format, or a GGUF file. It may also be an object: a Hugging Face model, whose
    weights are then shared and not copied, or a `HookedTransformer` or `TransformerBridge`, which
    is checked and returned (it has no original to be compared with).

    The result is a `HookedTransformer`, or a `TransformerBridge` with `bridge` and always if
    TransformerLens has no `HookedTransformer` (4.x). `device` defaults to CUDA, then MPS, then the
    CPU; `dtype` ("float32", "bfloat16", "float16") to float32. To use several GPUs, give
    `n_devices` for a HookedTransformer or a `device_map` of accelerate for a bridge; a model object
    that is already spread over devices stays so, as a bridge, unless another class is asked for.
    `revision` (or `name@revision`) is a branch, tag or commit of a hub repository. Code that comes
    with a model runs only with `trust_remote_code`. `skip` names checks to leave out, see
    `secondary_sinks.models.proof.prove`.

    Raises `UnknownModelError`, `HubError`, `DamagedModelError`, `UnsupportedModelError`,
    `ModelMemoryError`, `ModelMismatchError`, or their base `ModelError`.
    """
    for name, switch in (("bridge", bridge), ("trust_remote_code", trust_remote_code)):
        if switch is not None:
            true_or_false(name, switch, ModelError)
    check_skip(skip)
    refuse_adapter(model)
    device = None if device is None else str(device)
    if hasattr(model, "hook_dict"):
        options = {"device": device, "dtype": dtype, "tokenizer": tokenizer, "revision": revision}
        several = None if n_devices == 1 else n_devices
        options |= {"device_map": device_map, "n_devices": several}
        options["bridge"] = None if bridge == is_bridge(model) else bridge
        hooked = check_hooked_object(model, options)
        prove(hooked, None, skip)
        return hooked
    target = choose_target(model, device, bridge, n_devices, device_map)
    if isinstance(model, PreTrainedModel):
        original = original_from_object(model, tokenizer, dtype, revision)
    else:
        original = read_original(
            _resolve(model, revision),
            parse_dtype(dtype),
            trust_remote_code=trust_remote_code,
            device_map=target.reads_to,
            accept=None if target.bridge else _accept,
        )
        original = original._replace(tokenizer=tokenizer or original.tokenizer)
    size = size_of(original.model, original.source.name)
    check_original(original, target, size)
    with explain_out_of_memory(size, target.device):
        expected = None if "original" in skip else expect(original.model)
        hooked = hook(original, target)
    del original  # what the hooked model does not share is not needed for the proof
    prove(hooked, expected, skip)
    return hooked


def _resolve(name: Any, revision: str | None) -> Source:
    if not isinstance(name, str | os.PathLike):
        raise ModelError(
            f"expected a name, path, Hugging Face model or hooked model, got {type(name).__name__}"
        )
    return resolve(os.fspath(name), revision)


def _accept(hf_config: Any) -> None:
    """Refuse an architecture before its weights are downloaded or read."""
    for architecture in (hf_config.architectures or [])[:1]:
        check_architecture(architecture)
