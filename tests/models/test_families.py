"""Every architecture, as both classes: equal to its original, chunked and replayed exactly."""

import functools

import pytest
import torch

from secondary_sinks import load_model, observe, replay
from secondary_sinks.layerwise import chunks
from secondary_sinks.layerwise.begin import layerwise_forward
from secondary_sinks.measures.hook_names import hook_name
from secondary_sinks.models.proof.prove import CHECKS
from secondary_sinks.testing.families import configs, save, tiny
from secondary_sinks.types import Edit
from tests.marks import needs_old, thinned
from tests.mechanisms import ALTERNATING, CASES, LIKE, MECHANISMS, OF_ATTENTION
from tests.oracles import edited_runs, original_measures
from tests.tolerance import rounding, within
from tools import conformance

TOKENS = conformance.probe()
ENDS = ("logits", "resid_post", "pattern", "mlp_out")


@pytest.fixture(scope="module", params=thinned(CASES, ALTERNATING), ids="-".join)
def family(request, tmp_path_factory):
    """The name and class, the hooked model, and its trace."""
    variant, kind = request.param
    folder = save(variant, tmp_path_factory.mktemp(variant))
    model = load_model(folder, device="cpu", bridge=kind == "TransformerBridge")
    assert isinstance(model, torch.nn.Module)
    assert kind in {base.__name__ for base in type(model).__mro__}
    return variant, model, observe(model, TOKENS)


@functools.cache
def rounded_states(variant):
    """Relative rounding of an original's states, by name."""
    states = functools.partial(conformance.original_states, tokens=TOKENS)
    return rounding(lambda: tiny(variant), states, conformance.largest_error)


@functools.cache
def rounded_measures(variant, primary):
    """Rounding of the measures of an original's outputs, by name."""
    measures = functools.partial(original_measures, tokens=TOKENS, primary=primary)
    return rounding(lambda: tiny(variant), measures, farthest)


@functools.cache
def rounded_traces(variant):
    """Rounding of what a trace holds, by name."""

    def fields(original):
        trace = observe(load_model(original, bridge=True, skip=CHECKS), TOKENS)
        return tensors(trace)

    return rounding(lambda: tiny(variant), fields, farthest)


def tensors(trace):
    values = {name: getattr(trace, name) for name in trace.__slots__}
    return {name: v for name, v in values.items() if torch.is_tensor(v) and v.is_floating_point()}


def farthest(one, other):
    """Largest difference; what is missing must be missing in both."""
    assert torch.equal(one.isnan(), other.isnan())
    return float((one - other).nan_to_num().abs().max())


def test_every_variant_has_a_mechanism_of_its_own_or_is_like_those_that_have():
    assert MECHANISMS.keys() | LIKE.keys() == configs().keys()
    assert not MECHANISMS.keys() & LIKE.keys()
    assert {name for names in LIKE.values() for name in names} <= MECHANISMS.keys()


def test_states_and_patterns_are_those_of_the_original(family):
    variant, model, _ = family
    rounded = rounded_states(variant)
    errors = conformance.compare(model, tiny(variant))
    for name in ENDS:
        within(errors[name], rounded[name], name)
    for name in ("chunks", "replay"):
        within(errors[name], rounded["resid_post"], name)


def test_measures_equal_those_computed_from_hugging_face_outputs(family):
    variant, model, _ = family
    trace = observe(model, TOKENS, chunk=16)
    rounded = rounded_measures(variant, trace.primary)
    for name, value in original_measures(tiny(variant), TOKENS, trace.primary).items():
        within(farthest(getattr(trace, name), value), rounded[name], name)


def test_the_trace_does_not_depend_on_chunks(family):
    variant, model, whole = family
    chunked, rounded = tensors(observe(model, TOKENS, chunk=7)), rounded_traces(variant)
    for name, value in tensors(whole).items():
        within(farthest(chunked[name], value), rounded[name], name)


@pytest.mark.parametrize("n_words", [10, 97, 5000])
def test_strips_of_logits_join_to_those_of_a_plain_pass(family, n_words, monkeypatch):
    variant, hooked, _ = family
    monkeypatch.setattr(chunks, "LOGITS", n_words)
    with torch.no_grad():
        logits, cache = hooked.run_with_cache(TOKENS[None])
    last = cache[hook_name(hooked.cfg.n_layers - 1, "resid_post")][0]
    found = list(layerwise_forward(hooked, TOKENS[:1]).logits(last))
    assert [words.start for words, _ in found] == list(range(0, logits.shape[-1], n_words))
    joined = torch.cat([strip for _, strip in found], dim=1)
    error = conformance.largest_error([joined], [logits[0]])
    within(error, rounded_states(variant)["logits"])


def test_replay_equals_a_full_forward_pass_per_edit(family):
    variant, hooked, trace = family
    edits = [Edit(pos=pos, layer=layer) for pos in (0, 5, 30) for layer in range(3)]
    result, rounded = replay(hooked, trace, edits), rounded_traces(variant)
    for name, value in edited_runs(hooked, trace, edits).items():
        within(farthest(getattr(result, name), value), rounded[name], name)


def test_the_edit_that_changes_nothing_changes_nothing(family):
    _, hooked, trace = family
    result = replay(hooked, trace, [Edit(pos=12, layer=1, kind="none")])
    for name in ("norm", "alignment", "key_norm", "mass"):
        assert torch.equal(getattr(result, name)[:, 0], getattr(trace, name)[:, 12]), name


@needs_old
@pytest.mark.parametrize("variant", thinned(list(configs()), list(OF_ATTENTION)))
def test_both_classes_give_the_same_trace(variant):
    models = (load_model(tiny(variant), bridge=bridge, skip=CHECKS) for bridge in (False, True))
    one, other = (observe(model, TOKENS) for model in models)
    assert one.primary == other.primary
    values, rounded = tensors(other), rounded_traces(variant)
    for name, value in tensors(one).items():
        within(farthest(values[name], value), rounded[name], name)
