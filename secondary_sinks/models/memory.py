"""Memory: what a model needs, what is free, and an error that says both.

Sizes are in bytes; "GB" is 10^9 of them. The weights take `parameters` x the bytes of the dtype.
While a model is loaded, never more than `LOADING_PEAK` times that is in use; afterwards it is the
weights again. What texts need comes on top and is not counted here.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from secondary_sinks import files
from secondary_sinks.errors import DamagedModelError, ModelError, ModelMemoryError, reason
from secondary_sinks.foreign import build_model
from secondary_sinks.models import limits

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
LOADING_PEAK = 2.2
TABLES_PEAK = 5
OPEN_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
_NO_LIMIT = 1 << 60
"""A control group without a limit says a number near 2^63."""


class Size(NamedTuple):
    """How large a model is: its name, number of weights, and the dtype they are loaded in."""

    name: str
    parameters: int
    dtype: str


def size_of(hf_model: Any, name: str) -> Size:
    """The size of a Hugging Face model that is there already."""
    return Size(name, hf_model.num_parameters(), str(hf_model.dtype).removeprefix("torch."))


def weight_bytes(parameters: int, dtype: str) -> int:
    """Memory of the weights: at least 0, exact.

    >>> weight_bytes(14_768_307_200, "bfloat16")
    29536614400
    """
    return parameters * BYTES[dtype]


def peak_bytes(parameters: int, dtype: str) -> int:
    """The most that loading may take: `LOADING_PEAK` times the weights.

    >>> peak_bytes(1_000_000_000, "float32")
    8800000000
    """
    return round(LOADING_PEAK * weight_bytes(parameters, dtype))


def fit(parameters: int, dtype: str, free: int | None) -> str:
    """Whether a model fits: "yes" where even the peak does, "tight" where only the weights do.

    "no" otherwise, and "unknown" where it is not known what is free.

    >>> [fit(1_000_000_000, "float32", free) for free in (9 * 10**9, 5 * 10**9, 10**9, None)]
    ['yes', 'tight', 'no', 'unknown']
    """
    if free is None:
        return "unknown"
    if peak_bytes(parameters, dtype) <= free:
        return "yes"
    return "tight" if weight_bytes(parameters, dtype) <= free else "no"


def gigabytes(size: int | float) -> str:
    """A size as people say it.

    >>> gigabytes(29_536_614_400), gigabytes(269_030_016)
    ('29.5 GB', '0.27 GB')
    """
    number = size / 1e9
    return f"{number:.1f} GB" if number >= 1 else f"{number:.2g} GB"


def free_bytes(device: str = "cpu") -> int | None:
    """What can still be allocated on a device; None where the system does not say.

    On the CPU: what the kernel can give without writing to disk, or the rest of a container's
    limit if that is less; where only the size of the memory is known, that.
    """
    kind = device.split(":")[0]
    if kind == "cpu":
        return free_ram()
    import torch

    if kind == "cuda" and torch.cuda.is_available():
        return int(torch.cuda.mem_get_info(device)[0])
    if kind == "mps" and torch.backends.mps.is_available():
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return None


def free_ram(root: Path = Path("/")) -> int | None:
    """Free memory of the CPU; `root` is where `proc` and `sys` are."""
    found = [size for size in (_available(root), _left_in_group(root)) if size is not None]
    return min(found) if found else None


def _available(root: Path) -> int | None:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    try:  # no Linux: the whole memory bounds what is free
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _left_in_group(root: Path) -> int | None:
    """What the control group may still take: its limit less what is in use and not just cached."""
    versions = (
        ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
        (
            *("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
            "total_inactive_file",
        ),
    )
    for place, limit, usage, cached in versions:
        most, used = (_number(root / place / name) for name in (limit, usage))
        if most is not None and used is not None and most < _NO_LIMIT:
            words = [line.split() for line in _lines(root / place / "memory.stat")]
            spare = sum(int(value) for name, value in words if name == cached)
            return max(most - used + spare, 0)
    return None


def _lines(path: Path) -> list[str]:
    try:
        return files.read_text(path).splitlines()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].strip().isdigit() else None


def parameters_of(config: Any, *, trusted: bool = False) -> int:
    """Number of weights of the model that a Hugging Face config describes, each counted once.

    The model is built without memory for its weights. Code that it brings along runs only where
    it is `trusted`. Raises `DamagedModelError` where no model can be built from the config.
    """
    import torch

    try:
        with torch.device("meta"):
            model = build_model(config, trusted=trusted)
    except ModelError:
        raise
    except Exception as error:  # sizes that do not divide each other, and more: each has its own
        raise DamagedModelError(
            f"no model can be built from the config of {config.name_or_path!r}: "
            f"{reason(error)}; expected the config.json that the model was saved with"
        ) from error
    n = sum(parameter.numel() for parameter in model.parameters())
    if n > limits.WEIGHTS:
        raise DamagedModelError(
            f"the config of {config.name_or_path!r} describes a model of {n:,} weights, as no "
            f"model has ({limits.largest(config.to_dict())}); expected the config.json that the "
            "model was saved with"
        )
    return n


def device_of(device_map: Any) -> str | None:
    """The one device that a `device_map` names; None for several, or for a choice left open.

    >>> [device_of(m) for m in (None, "cuda:1", 0, {"": "cpu"}, "auto", {"a": 0, "b": 1})]
    ['cpu', 'cuda:1', 'cuda:0', 'cpu', None, None]
    """
    if device_map is None:
        return "cpu"
    places = set(device_map.values()) if isinstance(device_map, dict) else {device_map}
    place = places.pop()
    if places or place in OPEN_MAPS:
        return None
    return f"cuda:{place}" if isinstance(place, int) else str(place)


def require(size: Size, device: str | None = "cpu") -> None:
    """Raise `ModelMemoryError` when the weights alone are more than what is free on `device`."""
    free = None if device is None else free_bytes(device)
    if fit(size.parameters, size.dtype, free) == "no":
        raise ModelMemoryError(_too_little(size, device, free))


def require_positions(n_ctx: int, width: int) -> None:
    """Raise `ModelMemoryError` when tables of cosines and sines of all positions do not fit."""
    needed, free = TABLES_PEAK * n_ctx * width * BYTES["float32"], free_ram()
    if free is not None and needed > free:
        raise ModelMemoryError(
            f"the config says max_position_embeddings {n_ctx:,}; tables of so many positions take "
            f"up to {gigabytes(needed)} while they are made, and {gigabytes(free)} are free; "
            "expected the number that the model was saved with, or that of your longest text"
        )


@contextmanager
def watched(size: Size, device: str | None = "cpu") -> Iterator[None]:
    """Turn "out of memory", however it is raised inside, into `ModelMemoryError`."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        free = None if device is None else free_bytes(device)
        raise ModelMemoryError(_too_little(size, device, free)) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or one that it came from, says that memory ran out."""
    import torch

    while error is not None:
        if isinstance(error, MemoryError | torch.OutOfMemoryError):
            return True
        text = str(error).lower()
        signs = ("out of memory", "not enough memory", "allocate memory", "[errno 12]")
        if isinstance(error, RuntimeError | OSError) and any(sign in text for sign in signs):
            return True
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return False


def _too_little(size: Size, device: str | None, free: int | None) -> str:
    needed = weight_bytes(size.parameters, size.dtype)
    there = "" if free is None else f", and {gigabytes(free)} are free"
    todo = "another device, a machine with more memory"
    if size.dtype == "float32" and fit(size.parameters, "bfloat16", free) != "no":
        todo = f"dtype bfloat16 ({gigabytes(weight_bytes(size.parameters, 'bfloat16'))}), {todo}"
    return (
        f"model {size.name!r} does not fit the memory of {device or 'the devices'}: its "
        f"{size.parameters / 1e9:.3g} billion weights take {gigabytes(needed)} in {size.dtype} (up "
        f"to {gigabytes(LOADING_PEAK * needed)} while loading){there}; try {todo}, or a smaller "
        "model"
    )
