"""Names of dtypes and devices, checked before anything is loaded."""

import torch

from secondary_sinks.errors import ModelError

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
DEVICE_KINDS = ("cpu", "cuda", "mps")


def parse_dtype(dtype: str | torch.dtype | None) -> torch.dtype:
    """A torch dtype from its name; float32 by default."""
    if dtype is None:
        return torch.float32
    found = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if found is None or found not in DTYPES.values():
        raise ModelError(f"unknown dtype {dtype!r}", f"expected one of {', '.join(DTYPES)}")
    return found


def parse_device_name(device: str | None) -> None:
    """Raise `ModelError` unless this is a name of a device, such as "cuda:1"; None is accepted.

    Whether there is such a device is only known on the machine itself.
    """
    kind, colon, index = (device or DEVICE_KINDS[0]).partition(":")
    several = kind == "cuda"  # there is one CPU, and one MPS device
    plain = index.isascii() and index.isdecimal()
    wrong = colon and (not plain or (not several and int(index) > 0))
    if device == "" or kind not in DEVICE_KINDS or wrong:
        raise ModelError(f"unknown device {device!r}", f"expected one of {', '.join(DEVICE_KINDS)}")


def parse_device(device: str | None) -> str:
    """A device of this machine; by default CUDA, else MPS, else the CPU."""
    if device is None:
        mps = torch.backends.mps.is_available()
        return "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    parse_device_name(device)
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first_line = str(error).splitlines()[0]
        raise ModelError(f"device {device!r} cannot be used: {first_line}", "try cpu") from error
    return device


def refuse_missing_gpus(n_devices: int) -> None:
    """Raise `ModelError` if there are fewer GPUs; a single device is always available."""
    n_gpus = torch.cuda.device_count()
    if n_devices < 1 or (n_devices > 1 and n_devices > n_gpus):
        raise ModelError(
            f"n_devices is {n_devices}; expected at least 1 and at most the number of GPUs "
            f"({n_gpus}); leave it out for one device"
        )
