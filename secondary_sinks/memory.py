"""Memory of this machine: how much is free, and whether an error says that it ran out.

Sizes are in bytes; "GB" is 10^9 bytes.
"""

from pathlib import Path

import psutil

from secondary_sinks import files

_NO_LIMIT = 1 << 60
"""A control group without a limit reports a number near 2^63."""
_CGROUPS = (
    ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    (
        *("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
        "total_inactive_file",
    ),
)
"""Versions 2 and 1: the folder, the files of the limit and of the memory in use, and the entry of
`memory.stat` for cached files, which the kernel gives back when memory runs short."""


def gigabytes(size: int | float) -> str:
    """A size in GB, with two or three digits.

    >>> gigabytes(29_536_614_400), gigabytes(269_030_016)
    ('29.5 GB', '0.27 GB')
    """
    number = size / 1e9
    if number < 1e-3:
        return f"{size / 1e3:,.0f} kB"
    return f"{number:.1f} GB" if number >= 1 else f"{number:.2g} GB"


def free_bytes(device: str = "cpu") -> int | None:
    """Memory that can still be allocated on a device; None where the system does not say.

    On the CPU it is what the kernel can provide without swapping or, if that is less, what is left
    of a container's limit.
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
    """Free memory of the CPU; `root` is the folder that holds `sys`."""
    left = _left_in_cgroup(root)
    try:
        available = int(psutil.virtual_memory().available)
    except OSError:  # a sandbox without /proc
        return left
    return available if left is None else min(available, left)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or one of its causes, says that memory ran out."""
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


def _left_in_cgroup(root: Path) -> int | None:
    """Memory that the container may still take: its limit minus what is in use and not cached."""
    for folder, limit_file, usage_file, cached in _CGROUPS:
        limit, usage = (_number(root / folder / name) for name in (limit_file, usage_file))
        if limit is not None and usage is not None and limit < _NO_LIMIT:
            entries = [line.split() for line in _lines(root / folder / "memory.stat")]
            reclaimable = sum(int(value) for name, value in entries if name == cached)
            return max(limit - usage + reclaimable, 0)
    return None


def _lines(path: Path) -> list[str]:
    try:
        return files.read_text(path).splitlines()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].strip().isdigit() else None
