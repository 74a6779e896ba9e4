"""A kept pass gives what further passes would give."""

import pytest
import torch

from secondary_sinks import Edit, observe, replay
from secondary_sinks.errors import TraceError
from secondary_sinks.observation import KeptPass
from secondary_sinks.testing import Plant, plant
from secondary_sinks.types.trace import LAYER_POS

PRIMARY = Plant(pos=0, forming=(1,), strength=400.0)
EDITS = [
    Edit(pos=20, layer=3),
    Edit(pos=20, layer=3, kind="mean"),
    Edit(pos=40, layer=4, kind="patch", donor=20, site="resid_post"),
    Edit(pos=40, layer=3, kind="patch", donor=20, site="attn_out"),
    Edit(pos=40, layer=3, kind="mean", site="z", units=(1,)),
    Edit(pos=20, layer=5, kind="remove", site="resid_post"),
]
COLUMNS = ("norm", "deviation_ratio", "alignment", "alignment_centred", "key_norm", "mass")


@pytest.fixture(scope="module")
def planted():
    return plant([PRIMARY, Plant(pos=20, forming=(3,))], content_queries=True)


def test_its_trace_is_that_of_observe(planted):
    kept = KeptPass(planted.model, planted.tokens).trace("named")
    observed = observe(planted.model, planted.tokens, text_id="named")
    assert (kept.primary, kept.text_id) == (observed.primary, "named")
    for name in LAYER_POS:
        assert torch.equal(getattr(kept, name), getattr(observed, name)), name


def test_replays_over_it_are_those_of_a_pass_of_their_own(planted):
    trace = observe(planted.model, planted.tokens)
    kept = KeptPass(planted.model, planted.tokens)
    for _ in range(2):  # the second shows that the first has changed nothing
        ours = replay(planted.model, trace, EDITS, kept=kept)
        theirs = replay(planted.model, trace, EDITS)
        for name in COLUMNS:
            torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), msg=name)


def test_one_of_another_text_is_refused(planted):
    trace = observe(planted.model, planted.tokens)
    other = KeptPass(planted.model, planted.tokens.flip(0))
    with pytest.raises(TraceError, match="another model or text"):
        replay(planted.model, trace, EDITS[:1], kept=other)


def test_its_size_is_about_what_is_said(planted):
    kept, n_pos = KeptPass(planted.model, planted.tokens), len(planted.tokens)
    seen = {}
    for view in kept.walk():
        pieces = (view.resid_pre, view.mlp_out, view.queries, view.keys, view.values)
        for tensor in (*pieces, *(getattr(view.denominator, one) for one in ("largest", "at"))):
            storage = tensor.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
    assert KeptPass.bytes_of(planted.model, n_pos) == pytest.approx(sum(seen.values()), rel=0.2)


def test_progress_is_told(planted):
    told = []
    KeptPass(planted.model, planted.tokens, lambda *done: told.append(done))
    assert told == [(layer + 1, 8) for layer in range(8)]
