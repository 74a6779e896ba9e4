"""Every architecture, as both classes: equal to its original, chunked and replayed exactly."""

import pytest
import torch

from secondary_sinks import load_model, observe, replay
from secondary_sinks.models import chunks
from secondary_sinks.models.layers import begin, hook_name
from secondary_sinks.testing.conformance import measure, model_classes
from secondary_sinks.testing.families import configs, save, tiny
from secondary_sinks.types import Edit
from tests.marks import needs_old
from tests.oracles import edited_run, original_measures

TOKENS = torch.randint(3, 97, (40,), generator=torch.Generator().manual_seed(1))
CASES = [(variant, kind) for variant in configs() for kind in model_classes()]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def family(request, tmp_path_factory):
    """The name and class, and the hooked model."""
    variant, kind = request.param
    folder = save(variant, tmp_path_factory.mktemp(variant))
    model = load_model(folder, device="cpu", bridge=kind == "TransformerBridge")
    assert isinstance(model, torch.nn.Module)
    assert kind in {base.__name__ for base in type(model).__mro__}
    return variant, kind, model


def test_states_patterns_chunks_and_replays_conform(family):
    variant, kind, _ = family
    row = measure(variant, kind)
    assert max(row.logits, row.resid_post, row.pattern, row.mlp_out) <= 1e-5
    assert max(row.chunks, row.replay) <= 1e-5


def test_measures_equal_those_computed_from_hugging_face_outputs(family):
    variant, _, hooked = family
    trace = observe(hooked, TOKENS, chunk=16)
    expected = original_measures(tiny(variant), TOKENS, trace.primary)
    for name, value in expected.items():
        torch.testing.assert_close(getattr(trace, name), value, rtol=1e-4, atol=2e-5, msg=name)


def test_the_trace_does_not_depend_on_chunks(family):
    hooked = family[-1]
    whole, chunked = observe(hooked, TOKENS, chunk=999), observe(hooked, TOKENS, chunk=7)
    for name in ("norm", "alignment_centred", "mass", "score", "key_norm", "value_norm"):
        one, other = getattr(whole, name), getattr(chunked, name)
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("n_words", [10, 97, 5000])
def test_strips_of_logits_join_to_those_of_a_plain_pass(family, n_words, monkeypatch):
    hooked = family[-1]
    monkeypatch.setattr(chunks, "WORDS", n_words)
    logits, cache = hooked.run_with_cache(TOKENS[None])
    last = cache[hook_name(hooked.cfg.n_layers - 1, "resid_post")][0]
    found = list(begin(hooked, TOKENS[:1]).logits(last))
    assert [words.start for words, _ in found] == list(range(0, logits.shape[-1], n_words))
    joined = torch.cat([strip for _, strip in found], dim=1)
    torch.testing.assert_close(joined, logits[0], rtol=1e-5, atol=1e-5)


def test_replay_equals_a_full_forward_pass_per_edit(family):
    hooked = family[-1]
    trace = observe(hooked, TOKENS)
    edits = [Edit(pos=pos, layer=layer) for pos in (0, 5, 30) for layer in range(3)]
    result = replay(hooked, trace, edits)
    for cell, edit in enumerate(edits):
        expected = edited_run(hooked, trace, edit)
        for name, value in expected.items():
            got = getattr(result, name)[:, cell]
            torch.testing.assert_close(got, value, rtol=1e-5, atol=1e-5, msg=f"{name} {edit}")


def test_the_edit_that_changes_nothing_changes_nothing(family):
    hooked = family[-1]
    trace = observe(hooked, TOKENS)
    result = replay(hooked, trace, [Edit(pos=12, layer=1, kind="none")])
    for name in ("norm", "alignment", "key_norm", "mass"):
        clean = getattr(trace, name)[:, 12]
        torch.testing.assert_close(getattr(result, name)[:, 0], clean, rtol=1e-5, atol=1e-5)


@needs_old
@pytest.mark.parametrize("variant", configs())
def test_both_classes_give_the_same_trace(variant, tmp_path):
    folder = save(variant, tmp_path)
    one, other = (observe(load_model(folder, bridge=bridge), TOKENS) for bridge in (False, True))
    assert one.primary == other.primary
    for name in one.__slots__:
        value = getattr(one, name)
        if isinstance(value, torch.Tensor):
            scale = max(float(value.abs().nan_to_num().max()), 0.1)
            torch.testing.assert_close(
                getattr(other, name), value, rtol=0, atol=1e-5 * scale, equal_nan=True, msg=name
            )
