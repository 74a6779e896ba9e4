"""Batches halve when memory runs out, and results stay the same."""

import sys

import pytest
import torch

from secondary_sinks import observe, recompute, replay
from secondary_sinks.causal.batches import in_batches
from secondary_sinks.layerwise.hooked_run import HookedRun
from secondary_sinks.testing.planted import Plant, plant
from secondary_sinks.types import Edit
from tests.marks import needs_old

ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory"),
    MemoryError(),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."),
]


@pytest.mark.parametrize("error", ERRORS, ids=["cuda", "python", "cpu"])
def test_batches_halve_down_to_what_fits_and_each_cell_runs_once(error):
    tried, done = [], []

    def run(batch):
        tried.append(len(batch))
        if len(batch) > 2:
            raise error
        done.extend(batch)

    assert in_batches(range(9), 9, run) == 2
    assert done == list(range(9))
    assert tried == [9, 4, 2, 2, 2, 2, 1]


def test_a_cell_that_alone_does_not_fit_and_other_errors_are_raised():
    def too_large(batch):
        raise MemoryError

    def wrong(batch):
        raise RuntimeError("shape mismatch")

    with pytest.raises(MemoryError):
        in_batches([1, 2], 2, too_large)
    with pytest.raises(RuntimeError, match="shape"):
        in_batches([1, 2], 2, wrong)


@pytest.fixture
def planted():
    planted = plant([Plant(pos=0, forming=(1,), strength=400.0), Plant(pos=20, forming=(3,))])
    return planted.model, observe(planted.model, planted.tokens)


CELLS = [Edit(pos=pos, layer=layer) for pos in (20, 33) for layer in (2, 3)]


@needs_old
@pytest.mark.parametrize(
    ("name", "run"), [("run_replayed", replay), ("run_continuations", recompute)]
)
def test_results_are_the_same_when_memory_runs_out(planted, monkeypatch, name, run):
    model, trace = planted
    whole, sizes = run(model, trace, CELLS), []
    plain = getattr(HookedRun, name)

    def scarce(self, resid_pre, *arguments):
        sizes.append(len(resid_pre))
        if len(resid_pre) > 1:
            raise torch.OutOfMemoryError("no room")
        return plain(self, resid_pre, *arguments)

    monkeypatch.setattr(HookedRun, name, scarce)
    halved = run(model, trace, CELLS)
    assert max(sizes) > 1
    for field in ("norm", "alignment_centred", "mass"):
        torch.testing.assert_close(getattr(halved, field), getattr(whole, field))


@needs_old
def test_cells_that_do_not_fit_between_layers_take_further_walks(planted, monkeypatch):
    model, trace = planted
    whole = recompute(model, trace, CELLS)
    module = sys.modules["secondary_sinks.causal.recompute"]
    monkeypatch.setattr(module, "STATES_AT_ONCE", 50 * trace.typical.shape[1])
    steps = []
    waves = recompute(model, trace, CELLS, progress=lambda done, of: steps.append((done, of)))
    assert steps == [(done + 1, 32) for done in range(32)]  # four walks of eight layers
    for field in ("norm", "mass", "loss", "kl"):
        one, other = getattr(waves, field), getattr(whole, field)
        torch.testing.assert_close(one, other, equal_nan=True)


@needs_old
def test_tokens_that_enter_in_batches_of_one_are_the_same(planted, monkeypatch):
    model, trace = planted
    cells = [Edit(pos=(20, 33), layer=2), Edit(pos=33, layer=(2, 5))]
    whole, sizes = recompute(model, trace, cells), []
    plain = HookedRun.run_replayed

    def counted(self, resid_pre, *arguments):
        sizes.append(len(resid_pre))
        return plain(self, resid_pre, *arguments)

    monkeypatch.setattr(HookedRun, "run_replayed", counted)
    monkeypatch.setattr(sys.modules["secondary_sinks.causal.batches"], "SCORES_AT_ONCE", 1)
    single = recompute(model, trace, cells)
    assert sizes == [1, 1, 1]  # tokens, all at the layer of the first edit
    for field in ("norm", "mass", "loss", "kl"):
        one, other = getattr(single, field), getattr(whole, field)
        torch.testing.assert_close(one, other, equal_nan=True)
