"""`load_model`: one door for every model."""

import os
from typing import Any

import torch

from secondary_sinks.errors import ModelError
from secondary_sinks.models.convert import to_hooked
from secondary_sinks.models.originals import read_original
from secondary_sinks.models.proof import prove_equal
from secondary_sinks.models.sources import resolve

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def load_model(
    name: str | os.PathLike[str],
    device: str | None = None,
    dtype: str | torch.dtype | None = None,
    *,
    verify: bool = True,
) -> Any:
    """Load a model as a `HookedTransformer` with unprocessed weights.

    `name` is "smollm2-135m", a local folder in Hugging Face format, a GGUF file, or a hub name.
    `device` defaults to CUDA where there is one, else the CPU; `dtype` ("float32", "bfloat16",
    "float16") to float32. With `verify`, logits and residuals are compared with the Hugging
    Face original on a probe text, and a model that disagrees is refused.

    Raises `UnknownModelError`, `UnsupportedModelError`, `ModelMismatchError`, or their base
    `ModelError`.
    """
    source = resolve(os.fspath(name))
    original = read_original(source, parse_dtype(dtype))
    hf_model = original.model
    hooked = to_hooked(hf_model, original.tokenizer, source.name, parse_device(device))
    if verify:
        prove_equal(hooked, hf_model)
    return hooked


def parse_dtype(dtype: str | torch.dtype | None) -> torch.dtype:
    """A torch dtype from its name; float32 when none is given."""
    if dtype is None:
        return torch.float32
    found = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if found is None or found not in DTYPES.values():
        raise ModelError(f"unknown dtype {dtype!r}; expected one of {', '.join(DTYPES)}")
    return found


def parse_device(device: str | None) -> str:
    """A device that is there; CUDA before CPU when none is given."""
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"device {device!r} cannot be used: {reason}") from error
    return device
