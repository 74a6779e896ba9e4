"""Free memory: of the machine, of its container, and of a device."""

import psutil
import pytest
import torch

from secondary_sinks.memory import free_bytes, free_ram, gigabytes, is_out_of_memory


def cgroup(root, v2=None, v1=None):
    """A `sys` with these numbers of a control group: limit, usage, and what is cached."""
    for place, names, numbers in (
        ("", ("memory.max", "memory.current", "inactive_file"), v2),
        ("memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"), v1),
    ):
        if numbers is not None:
            folder = root / "sys" / "fs" / "cgroup" / place
            folder.mkdir(parents=True)
            for name, number in zip(names[:2], numbers[:2], strict=True):
                (folder / name).write_text(f"{number}\n")
            (folder / "memory.stat").write_text(f"anon 7\n{names[2]} {numbers[2]}\n")
    return root


@pytest.mark.parametrize(
    ("available", "limits", "free"),
    [
        (2_000_000, {}, 2_000_000),
        (2_000_000, {"v2": ("max", 5, 0)}, 2_000_000),
        (2_000_000, {"v2": (1_000_000, 400_000, 100_000)}, 700_000),
        (100_000, {"v2": (1_000_000, 400_000, 100_000)}, 100_000),
        (2_000_000, {"v1": (1_000_000, 900_000, 0)}, 100_000),
        (2_000_000, {"v1": (9223372036854771712, 900_000, 0)}, 2_000_000),
        (2_000_000, {"v2": (1000, 3000, 0)}, 0),
    ],
)
def test_free_memory_is_what_the_machine_and_the_container_leave(
    available, limits, free, tmp_path, monkeypatch
):
    machine = type("Machine", (), {"available": available})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: machine)
    assert free_ram(cgroup(tmp_path, **limits)) == free


def test_a_machine_that_does_not_say_what_is_free_leaves_the_limit_of_the_container(
    tmp_path, monkeypatch
):
    def without_proc():
        raise FileNotFoundError("/proc/meminfo")

    monkeypatch.setattr(psutil, "virtual_memory", without_proc)
    assert free_ram(tmp_path) is None
    assert free_ram(cgroup(tmp_path, v2=(1000, 400, 0))) == 600


def test_free_memory_here_is_within_the_memory_of_the_machine(tmp_path):
    assert 0 < free_ram() <= psutil.virtual_memory().total
    assert free_ram(tmp_path) == pytest.approx(psutil.virtual_memory().available, rel=0.3)


def test_a_device_that_is_not_there_has_no_known_memory():
    assert free_bytes("cpu") == pytest.approx(free_ram(), rel=0.3)
    assert free_bytes("xpu:3") is None


@pytest.mark.parametrize(("size", "shown"), [(10**9, "1.0 GB"), (10**9 - 1, "1 GB"), (0, "0 kB")])
def test_sizes_have_two_or_three_digits(size, shown):
    assert gigabytes(size) == shown


def test_a_cause_that_ran_out_of_memory_is_seen():
    error = ValueError("while loading")
    assert not is_out_of_memory(error)
    error.__cause__ = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
    assert is_out_of_memory(error)
