"""A kept pass gives what further passes would give."""

from typing import Any, NamedTuple

import pytest
import torch

from secondary_sinks import Edit, load_model, observe, replay
from secondary_sinks.errors import TraceError
from secondary_sinks.observation import CachedPass, cached_pass
from secondary_sinks.testing import Plant, plant
from secondary_sinks.testing.families import tiny
from secondary_sinks.types.trace import LAYER_POS
from tests.marks import needs_old

PRIMARY = Plant(pos=0, forming=(1,), strength=400.0)
EDITS = [
    Edit(pos=20, layer=1),
    Edit(pos=20, layer=1, kind="mean"),
    Edit(pos=40, layer=2, kind="patch", donor=20, site="resid_post"),
    Edit(pos=40, layer=1, kind="patch", donor=20, site="attn_out"),
    Edit(pos=40, layer=1, kind="mean", site="z", units=(1,)),
]
COLUMNS = ("norm", "deviation_ratio", "alignment", "alignment_centred", "key_norm", "mass")


class Fed(NamedTuple):
    """A model and what it is fed."""

    model: Any
    tokens: torch.Tensor


@pytest.fixture(scope="module", params=[pytest.param("planted", marks=needs_old), "bridge"])
def fed(request):
    """A planted model, which is a HookedTransformer, and a bridge of random weights."""
    if request.param == "bridge":
        return Fed(load_model(tiny("llama"), device="cpu", bridge=True), torch.arange(3, 67))
    planted = plant([PRIMARY, Plant(pos=20, forming=(3,))], content_queries=True)
    return Fed(planted.model, planted.tokens)


def test_its_trace_is_that_of_observe(fed):
    kept = CachedPass(fed.model, fed.tokens).trace("named")
    observed = observe(fed.model, fed.tokens, text_id="named")
    assert (kept.primary, kept.text_id) == (observed.primary, "named")
    for name in LAYER_POS:
        assert torch.equal(*(getattr(one, name).nan_to_num(-1) for one in (kept, observed))), name


def test_a_pass_for_which_memory_runs_out_is_not_kept(fed, monkeypatch):
    def full(*given, **options):
        raise RuntimeError(said)

    monkeypatch.setattr(cached_pass, "iter_layers", full)
    said = "CUDA out of memory"
    assert CachedPass.if_small(fed.model, fed.tokens) is None
    said = "another error"
    with pytest.raises(RuntimeError, match=said):
        CachedPass.if_small(fed.model, fed.tokens)


def test_a_text_whose_trace_is_there_is_not_measured_again(fed, monkeypatch):
    trace = observe(fed.model, fed.tokens, text_id="there")
    monkeypatch.setattr(cached_pass, "make_trace", None)
    kept = CachedPass(fed.model, fed.tokens, trace=trace)
    assert kept.trace("named").text_id == "named"
    assert kept.trace("named").mass is trace.mass
    result = replay(fed.model, trace, EDITS[:1], kept=kept)
    torch.testing.assert_close(result.norm, replay(fed.model, trace, EDITS[:1]).norm)


def test_replays_over_it_are_those_of_a_pass_of_their_own(fed):
    trace, kept = observe(fed.model, fed.tokens), CachedPass(fed.model, fed.tokens)
    for _ in range(2):  # the second shows that the first has changed nothing
        ours = replay(fed.model, trace, EDITS, kept=kept)
        theirs = replay(fed.model, trace, EDITS)
        for name in COLUMNS:
            got, expected = getattr(ours, name), getattr(theirs, name)
            torch.testing.assert_close(got, expected, equal_nan=True, msg=name)


def test_one_of_another_text_is_refused(fed):
    trace = observe(fed.model, fed.tokens)
    other = CachedPass(fed.model, fed.tokens.flip(0))
    with pytest.raises(TraceError, match="another model or text"):
        replay(fed.model, trace, EDITS[:1], kept=other)


def test_its_size_is_about_what_is_said(fed):
    kept, n_pos = CachedPass(fed.model, fed.tokens), len(fed.tokens)
    seen = {}
    for view in kept.iter_layers():
        parts = (view.resid_pre, view.mlp_out, view.queries, view.keys, view.values, view.log_sums)
        for tensor in parts:
            storage = tensor.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
    assert CachedPass.bytes_of(fed.model, n_pos) == pytest.approx(sum(seen.values()), rel=0.25)


def test_progress_is_told(fed):
    told = []
    CachedPass(fed.model, fed.tokens, lambda *done: told.append(done))
    n_layers = fed.model.cfg.n_layers
    assert told == [(layer + 1, n_layers) for layer in range(n_layers)]
