"""What is free, what is needed, and what is said when it is too little."""

import pytest
import torch

from secondary_sinks.errors import ModelMemoryError
from secondary_sinks.models import memory
from secondary_sinks.models.memory import Size, free_ram, require, watched

GB = 10**9


def machine(root, available=None, v2=None, v1=None):
    """A `proc` and a `sys` with these numbers: limit, usage, of that cached."""
    (root / "proc").mkdir(parents=True)
    if available is not None:
        text = f"MemTotal: 99999 kB\nMemAvailable:    {available} kB\nBuffers: 1 kB\n"
        (root / "proc" / "meminfo").write_text(text)
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
    ("numbers", "free"),
    [
        ({"available": 2000}, 2000 * 1024),
        ({"available": 2000, "v2": ("max", 5, 0)}, 2000 * 1024),
        ({"available": 2000, "v2": (1_000_000, 400_000, 100_000)}, 700_000),
        ({"available": 100, "v2": (1_000_000, 400_000, 100_000)}, 100 * 1024),
        ({"available": 2000, "v1": (1_000_000, 900_000, 0)}, 100_000),
        ({"available": 2000, "v1": (9223372036854771712, 900_000, 0)}, 2000 * 1024),
        ({"available": 2000, "v2": (1000, 3000, 0)}, 0),
    ],
)
def test_free_memory_is_what_the_machine_and_the_container_leave(numbers, free, tmp_path):
    assert free_ram(machine(tmp_path, **numbers)) == free


def test_where_only_the_whole_memory_is_known_that_is_the_bound(tmp_path):
    whole = free_ram(machine(tmp_path))
    assert whole is None or whole >= (free_ram() or 0)


def test_free_memory_here_is_that_of_the_kernel():
    psutil = pytest.importorskip("psutil")
    assert free_ram() <= psutil.virtual_memory().total
    assert free_ram() == pytest.approx(psutil.virtual_memory().available, rel=0.3)


def test_a_device_that_is_not_there_has_no_known_memory():
    assert memory.free_bytes("cpu") == pytest.approx(free_ram(), rel=0.3)
    assert memory.free_bytes("xpu:3") is None


@pytest.fixture
def ten(monkeypatch):
    """Ten GB are free."""
    monkeypatch.setattr(memory, "free_ram", lambda: 10 * GB)


def test_too_little_memory_says_what_is_needed_what_is_free_and_what_to_try(ten):
    said = (
        r"'m' does not fit the memory of cpu: its 4 billion weights take 16\.0 GB in float32 \(up "
        r"to 35\.2 GB while loading\), and 10\.0 GB are free; try dtype bfloat16 \(8\.0 GB\), "
        r"another device, .* or a smaller model"
    )
    with pytest.raises(ModelMemoryError, match=said):
        require(Size("m", 4 * GB, "float32"))
    require(Size("m", 2 * GB, "float32"))


@pytest.mark.parametrize("size", [Size("m", 8 * GB, "float32"), Size("m", 8 * GB, "bfloat16")])
def test_no_dtype_is_proposed_that_does_not_fit_either(size, ten):
    with pytest.raises(ModelMemoryError, match="try another device"):
        require(size)


def test_where_it_is_not_known_what_is_free_nothing_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "free_ram", lambda: None)
    require(Size("m", 10**15, "float32"))
    require(Size("m", 10**15, "float32"), device=None)


def test_tables_of_positions_that_do_not_fit_are_refused_by_name(monkeypatch):
    monkeypatch.setattr(memory, "free_ram", lambda: 20 * GB)
    memory.require_positions(1_010_000, 128)
    with pytest.raises(ModelMemoryError, match=r"embeddings 16,777,216; tables.*42\.9 GB"):
        memory.require_positions(1 << 24, 128)


OUT = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"),
    RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
    OSError(12, "Cannot allocate memory"),
]


@pytest.mark.parametrize("error", OUT, ids=lambda error: f"{type(error).__name__} {error}"[:40])
def test_running_out_is_said_however_it_is_raised(error, ten):
    size = Size("m", 2 * GB, "float32")
    with pytest.raises(ModelMemoryError, match=r"take 8\.0 GB.*10\.0 GB are free"), watched(size):
        raise error
    later = ValueError("while loading")
    later.__cause__ = error
    with pytest.raises(ModelMemoryError, match="memory of cuda:0"), watched(size, "cuda:0"):
        raise later
    with pytest.raises(ModelMemoryError, match="memory of the devices"), watched(size, None):
        raise error


@pytest.mark.parametrize("error", [ValueError("memory of a goldfish"), RuntimeError("shapes")])
def test_other_errors_pass(error):
    with pytest.raises(type(error), match=str(error)), watched(Size("m", 1, "float32")):
        raise error


def test_a_real_allocation_that_fails_is_seen():
    with pytest.raises(ModelMemoryError), watched(Size("m", 1 << 50, "float32")):
        torch.empty(1 << 50)
