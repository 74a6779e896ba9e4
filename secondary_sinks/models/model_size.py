"""Memory that the weights of a model take, and an error for a model that does not fit.

Sizes are in bytes. The weights take their number times the bytes of the dtype. While a model is
loaded, at most `LOADING_PEAK` times as much is in use; afterwards only the weights are. Memory for
texts comes on top and is not counted here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from secondary_sinks import memory
from secondary_sinks.display import rounded
from secondary_sinks.errors import DamagedModelError, ModelError, ModelMemoryError, reason
from secondary_sinks.foreign import build_model
from secondary_sinks.memory import gigabytes
from secondary_sinks.models import limits

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
LOADING_PEAK = 2.2
TABLES_PEAK = 5
"""Copies of the tables of all positions that are there at once while they are made."""
OPEN_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
"""Values of `device_map` that leave the choice of devices to accelerate."""


class ModelSize(NamedTuple):
    """Name of a model, its number of weights, and the dtype in which they are loaded."""

    name: str
    parameters: int
    dtype: str


def size_of(hf_model: Any, name: str) -> ModelSize:
    """The size of a Hugging Face model that is in memory."""
    return ModelSize(name, hf_model.num_parameters(), str(hf_model.dtype).removeprefix("torch."))


def weight_bytes(parameters: int, dtype: str) -> int:
    """Memory of the weights.

    >>> weight_bytes(14_768_307_200, "bfloat16")
    29536614400
    """
    return parameters * BYTES[dtype]


def peak_bytes(parameters: int, dtype: str) -> int:
    """Most memory that loading may take: `LOADING_PEAK` times the weights.

    >>> peak_bytes(1_000_000_000, "float32")
    8800000000
    """
    return round(LOADING_PEAK * weight_bytes(parameters, dtype))


def fit(parameters: int, dtype: str, free: int | None) -> str:
    """Whether a model fits into `free` bytes: "yes", "tight", "no" or "unknown".

    "yes" where the peak of loading fits, "tight" where only the weights do, "unknown" where `free`
    is not known.

    >>> [fit(1_000_000_000, "float32", free) for free in (9 * 10**9, 5 * 10**9, 10**9, None)]
    ['yes', 'tight', 'no', 'unknown']
    """
    if free is None:
        return "unknown"
    if peak_bytes(parameters, dtype) <= free:
        return "yes"
    return "tight" if weight_bytes(parameters, dtype) <= free else "no"


def count_parameters(config: Any, *, trusted: bool = False) -> int:
    """Number of weights of the model that a Hugging Face config describes, each counted once.

    The model is built without memory for its weights. The model's own code runs only if it is
    `trusted`. Raises `DamagedModelError` if no model can be built from the config.
    """
    import torch

    try:
        with torch.device("meta"):
            model = build_model(config, trusted=trusted)
    except ModelError:
        raise
    except Exception as error:  # each inconsistent size raises an error of its own
        raise DamagedModelError(
            f"no model can be built from the config of {config.name_or_path!r}: {reason(error)}",
            "expected the config.json that the model was saved with",
        ) from error
    n = sum(parameter.numel() for parameter in model.parameters())
    if n > limits.WEIGHTS:
        raise DamagedModelError(
            f"the config of {config.name_or_path!r} describes a model of {n:,} weights, as no "
            f"model has ({limits.largest_sizes(config.to_dict())})",
            "expected the config.json that the model was saved with",
        )
    return n


def single_device(device_map: Any) -> str | None:
    """The one device that a `device_map` names; None for several or an open choice.

    >>> [single_device(m) for m in (None, "cuda:1", 0, {"": "cpu"}, "auto", {"a": 0, "b": 1})]
    ['cpu', 'cuda:1', 'cuda:0', 'cpu', None, None]
    """
    if device_map is None:
        return "cpu"
    devices = set(device_map.values()) if isinstance(device_map, dict) else {device_map}
    device = devices.pop()
    if devices or device in OPEN_MAPS:
        return None
    return f"cuda:{device}" if isinstance(device, int) else str(device)


def require_memory(size: ModelSize, device: str | None = "cpu") -> None:
    """Raise `ModelMemoryError` if the weights alone need more memory than is free on `device`."""
    free = None if device is None else memory.free_bytes(device)
    if fit(size.parameters, size.dtype, free) == "no":
        raise ModelMemoryError(_does_not_fit(size, device, free))


def require_memory_for_positions(n_ctx: int, width: int) -> None:
    """Raise `ModelMemoryError` if tables of cosines and sines of all positions do not fit."""
    needed, free = TABLES_PEAK * n_ctx * width * BYTES["float32"], memory.free_ram()
    if free is not None and needed > free:
        raise ModelMemoryError(
            f"the config says max_position_embeddings {n_ctx:,}; tables of that size take "
            f"up to {gigabytes(needed)} while they are made, and {gigabytes(free)} are free; "
            "expected the number that the model was saved with, or that of your longest text"
        )


@contextmanager
def explain_out_of_memory(size: ModelSize, device: str | None = "cpu") -> Iterator[None]:
    """Turn an out-of-memory error of any kind into a `ModelMemoryError` with the sizes."""
    try:
        yield
    except Exception as error:
        if not memory.is_out_of_memory(error):
            raise
        free = None if device is None else memory.free_bytes(device)
        raise ModelMemoryError(_does_not_fit(size, device, free)) from error


def _does_not_fit(size: ModelSize, device: str | None, free: int | None) -> str:
    needed = weight_bytes(size.parameters, size.dtype)
    available = "" if free is None else f", and {gigabytes(free)} are free"
    remedy = "another device, a machine with more memory"
    if size.dtype == "float32" and fit(size.parameters, "bfloat16", free) != "no":
        half = gigabytes(weight_bytes(size.parameters, "bfloat16"))
        remedy = f"dtype bfloat16 ({half}), {remedy}"
    return (
        f"model {size.name!r} does not fit the memory of {device or 'the devices'}: its "
        f"{rounded(size.parameters / 1e9)} billion weights take {gigabytes(needed)} in "
        f"{size.dtype} (up to {gigabytes(LOADING_PEAK * needed)} while loading){available}; try "
        f"{remedy}, or a smaller model"
    )
