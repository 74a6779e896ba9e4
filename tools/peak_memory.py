"""Memory that this process holds, as Linux counts it; NaN where the system does not say."""

import ctypes
from pathlib import Path

STATUS = Path("/proc/self/status")


def forget_peak() -> float:
    """Let the peak begin anew; gives what is held now, in MiB.

    What was freed goes back to the system first, or else the next work would get it for nothing.
    """
    if STATUS.exists():
        getattr(ctypes.CDLL(None), "malloc_trim", int)(0)
        STATUS.with_name("clear_refs").write_text("5")
    return _held("VmRSS")


def peak() -> float:
    """The most that was held since `forget_peak`, in MiB."""
    return _held("VmHWM")


def _held(name: str) -> float:
    lines = STATUS.read_text().splitlines() if STATUS.exists() else []
    sizes = [int(line.split()[1]) for line in lines if line.startswith(name + ":")]
    return sizes[0] / 1024 if sizes else float("nan")
