"""Models that do not fit: the message says what is needed, what is free and what to try."""

import pytest
import torch

from secondary_sinks import memory
from secondary_sinks.errors import ModelMemoryError
from secondary_sinks.models.model_size import (
    ModelSize,
    explain_out_of_memory,
    require_memory,
    require_memory_for_positions,
)

GB = 10**9


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
        require_memory(ModelSize("m", 4 * GB, "float32"))
    require_memory(ModelSize("m", 2 * GB, "float32"))


@pytest.mark.parametrize(
    "size", [ModelSize("m", 8 * GB, "float32"), ModelSize("m", 8 * GB, "bfloat16")]
)
def test_no_dtype_is_proposed_that_does_not_fit_either(size, ten):
    with pytest.raises(ModelMemoryError, match="try another device"):
        require_memory(size)


def test_where_it_is_not_known_what_is_free_nothing_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "free_ram", lambda: None)
    require_memory(ModelSize("m", 10**15, "float32"))
    require_memory(ModelSize("m", 10**15, "float32"), device=None)


def test_tables_of_positions_that_do_not_fit_are_refused_by_name(monkeypatch):
    monkeypatch.setattr(memory, "free_ram", lambda: 20 * GB)
    require_memory_for_positions(1_010_000, 128)
    with pytest.raises(ModelMemoryError, match=r"embeddings 16,777,216; tables.*42\.9 GB"):
        require_memory_for_positions(1 << 24, 128)


OUT = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"),
    RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
    OSError(12, "Cannot allocate memory"),
]


@pytest.mark.parametrize("error", OUT, ids=lambda error: f"{type(error).__name__} {error}"[:40])
def test_running_out_is_said_however_it_is_raised(error, ten):
    size = ModelSize("m", 2 * GB, "float32")
    with (
        pytest.raises(ModelMemoryError, match=r"take 8\.0 GB.*10\.0 GB are free"),
        explain_out_of_memory(size),
    ):
        raise error
    later = ValueError("while loading")
    later.__cause__ = error
    with (
        pytest.raises(ModelMemoryError, match="memory of cuda:0"),
        explain_out_of_memory(size, "cuda:0"),
    ):
        raise later
    with (
        pytest.raises(ModelMemoryError, match="memory of the devices"),
        explain_out_of_memory(size, None),
    ):
        raise error


@pytest.mark.parametrize("error", [ValueError("memory of a goldfish"), RuntimeError("shapes")])
def test_other_errors_pass(error):
    with (
        pytest.raises(type(error), match=str(error)),
        explain_out_of_memory(ModelSize("m", 1, "float32")),
    ):
        raise error


def test_a_real_allocation_that_fails_is_seen():
    with pytest.raises(ModelMemoryError), explain_out_of_memory(ModelSize("m", 1 << 50, "float32")):
        torch.empty(1 << 50)
