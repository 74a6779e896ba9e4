"""Every supported architecture: loaded from a folder, equal to its original, exactly replayed."""

import pytest
import torch

from secondary_sinks import load_model, observe, replay
from secondary_sinks.types import Edit
from tests.families import configs, save, tiny
from tests.oracles import edited_run, original_measures

TOKENS = torch.randint(3, 97, (40,), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=sorted(configs()))
def family(request, tmp_path_factory):
    """The hooked model and its original."""
    folder = tmp_path_factory.mktemp(request.param)
    save(request.param, folder)
    return load_model(folder, device="cpu"), tiny(request.param)


def test_measures_equal_those_computed_from_hugging_face_outputs(family):
    hooked, original = family
    trace = observe(hooked, TOKENS, chunk=16)
    expected = original_measures(original, TOKENS, trace.primary)
    for name, value in expected.items():
        torch.testing.assert_close(getattr(trace, name), value, rtol=1e-4, atol=2e-5, msg=name)


def test_the_trace_does_not_depend_on_chunks(family):
    hooked, _ = family
    whole, chunked = observe(hooked, TOKENS, chunk=999), observe(hooked, TOKENS, chunk=7)
    for name in ("norm", "alignment_centred", "mass", "key_norm", "value_norm", "mlp_alignment"):
        one, other = getattr(whole, name), getattr(chunked, name)
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5, msg=name)


def test_replay_equals_a_full_forward_pass_per_edit(family):
    hooked, _ = family
    trace = observe(hooked, TOKENS)
    edits = [Edit(pos=pos, layer=layer) for pos in (0, 5, 30) for layer in range(3)]
    result = replay(hooked, trace, edits)
    for cell, edit in enumerate(edits):
        expected = edited_run(hooked, trace, edit)
        for name, value in expected.items():
            got = getattr(result, name)[:, cell]
            torch.testing.assert_close(got, value, rtol=1e-5, atol=1e-5, msg=f"{name} {edit}")


def test_the_edit_that_changes_nothing_changes_nothing(family):
    hooked, _ = family
    trace = observe(hooked, TOKENS)
    result = replay(hooked, trace, [Edit(pos=12, layer=1, kind="none")])
    for name in ("norm", "alignment", "key_norm", "mass"):
        clean = getattr(trace, name)[:, 12]
        torch.testing.assert_close(getattr(result, name)[:, 0], clean, rtol=1e-5, atol=1e-6)
