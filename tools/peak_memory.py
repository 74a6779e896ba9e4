"""Peak memory of this process on Linux; NaN on other systems."""

import ctypes
from pathlib import Path

STATUS = Path("/proc/self/status")


def reset_peak() -> float:
    """Reset the peak; returns the memory in use now, in MiB.

    Freed memory is returned to the system first; otherwise the next work could reuse it unseen.
    """
    if STATUS.exists():
        getattr(ctypes.CDLL(None), "malloc_trim", int)(0)
        STATUS.with_name("clear_refs").write_text("5")
    return _memory("VmRSS")


def peak() -> float:
    """Peak memory since `reset_peak`, in MiB."""
    return _memory("VmHWM")


def _memory(name: str) -> float:
    lines = STATUS.read_text().splitlines() if STATUS.exists() else []
    sizes = [int(line.split()[1]) for line in lines if line.startswith(name + ":")]
    return sizes[0] / 1024 if sizes else float("nan")
