"""On one GPU or two everything is as on the processor, and no devices are mixed."""

from dataclasses import dataclass
from unittest.mock import patch

import pytest
import torch

from secondary_sinks import load_model, observe, recompute, replay
from secondary_sinks.causal import ActiveRule, reference_means, score_under
from secondary_sinks.errors import ModelError, UnsupportedModelError
from secondary_sinks.layerwise.cached_generation import Continuation
from secondary_sinks.models.original import read
from secondary_sinks.testing.families import save
from secondary_sinks.types import Edit, Rule
from secondary_sinks.types.edit_kinds import KINDS
from secondary_sinks.types.edit_sites import OF_TOKEN, SITE_OF
from tests.devices.placed import PLACED, over_two
from tests.devices.pretended import pretended
from tests.marks import needs_old, thinned

CHANCE = torch.Generator().manual_seed(3)
TOKENS = torch.randint(3, 24, (40,), generator=CHANCE)
OTHER = torch.randint(3, 24, (24,), generator=CHANCE)
PLACES = {
    "llama": list(PLACED),
    "pythia": ["hooked", "bridge over two"],
    "gpt2": ["hooked over two", "bridge"],
    "gemma3": ["hooked over two", "bridge"],
    "gpt-oss": ["hooked", "hooked over two"],  # of its bridge, the experts' kernels ask the GPU
}
CASES = [(one, place) for one, places in PLACES.items() for place in places if place in PLACED]
EACH = {("llama", "hooked over two"), ("pythia", "bridge over two")}
TYPICAL = [case for case in CASES if case in EACH]
"""Two GPUs, with each class; half precision and what users call is tested on MPS (`test_whole`)."""
RULES = ({"kind": "mask"}, {"value": 7.0, "control": True})
VALUES = {"scale": -1.5, "set_norm": 7.0, "rotate": 60.0, "steer": 9.0, "reweight": 0.3}
OVER = ("ordinary", "twins", "reference")


def every_edit(model):
    """Each kind, at the last layer; and each site."""
    last = model.cfg.n_layers - 1
    for kind in KINDS:
        given = {"value": VALUES.get(kind), "donor": 4 if kind == "patch" else None}
        given |= {"key": 3 if KINDS[kind].key else None, "site": KINDS[kind].sites[0]}
        yield Edit(pos=11, layer=last, kind=kind, **given)
    there = [site for site in OF_TOKEN if site != "post" or not model.cfg.num_experts]
    layers = {site: 0 if SITE_OF[site].first else last for site in there}
    yield from (Edit(pos=11, layer=layers[site], site=site) for site in there)
    yield from (Edit(pos=11, layer=(0, 1), kind="mean", over=over) for over in OVER)
    yield Edit(pos=11, layer=1, kind="patch", donor=4, text="other")


@dataclass
class Written:
    """What a model predicts while it reads a text under a rule, and what a whole pass says."""

    logits: torch.Tensor
    cosine: torch.Tensor
    log_likelihood: torch.Tensor


def written(model, rule):
    active = ActiveRule(model, rule, TOKENS[:36])
    text = Continuation(model, active.hooks)
    logits = [text.read(part) for part in (TOKENS[:36], *TOKENS[36:, None])]
    told = score_under(model, TOKENS[:36], TOKENS[36:], rule).log_likelihood
    assert 0 < active.met.n_met < active.met.n_judged
    return Written(torch.stack(logits), active.cosine, torch.tensor(told))


def everything(model, rules):
    """Traces, and what edits do; with `rules`, in a text that grows, too."""
    trace, other = observe(model, TOKENS), observe(model, OTHER, text_id="other")
    cells = list(every_edit(model))
    kept = {"others": [other], "reference": reference_means(model, [trace], ["mlp_out"])}
    yield trace
    yield replay(model, trace, cells, **kept)
    yield recompute(model, trace, [*cells, Edit(pos=(9, 25), layer=(0, 1))], **kept)
    if rules and not hasattr(model, "pos_embed"):  # needs what isn't pretended
        yield from (written(model, Rule(layer=0, tau=0.0, **kind)) for kind in RULES)


def tensors_of(result):
    names = type(result).__dataclass_fields__
    values = {name: getattr(result, name) for name in names}
    return {name: one for name, one in values.items() if isinstance(one, torch.Tensor)}


@pytest.mark.filterwarnings("ignore:MPS backend may produce", "ignore:at..frobenius_norm is dep")
@pytest.mark.parametrize(("family", "place"), thinned(CASES, TYPICAL, unpack=True))
def test_results_are_those_of_the_processor(family, place, tmp_path):
    folder = save(family, tmp_path)
    plain = load_model(folder, device="cpu", bridge="bridge" in place)
    rules = (family, place) != ("gpt-oss", "hooked over two")
    expected = list(everything(plain, rules))
    with pretended():
        placed = PLACED[place](folder)
        devices = {str(one.device) for one in placed.parameters()}
        found = list(everything(placed, rules))
        if not rules:
            with pytest.raises(UnsupportedModelError, match=r"learned sinks cannot .* bridge=True"):
                Continuation(placed)
    first = "mps:0" if "mps" in place else "cuda:0"
    assert devices == ({"cuda:0", "cuda:1"} if "two" in place else {first})
    for result, other in zip(found, expected, strict=True):
        values = tensors_of(other)
        assert values
        for name, value in values.items():
            got = getattr(result, name)
            assert type(got) is torch.Tensor, f"{name} is left on {got.device}"
            torch.testing.assert_close(got, value, rtol=1e-5, atol=1e-5, equal_nan=True)


@needs_old
def test_weights_are_read_straight_to_one_gpu_and_never_lie_in_host_memory(tmp_path):
    folder, asked = save("llama", tmp_path), []
    with pretended():
        real = read.load_weights

        def noted(where, *, device_map, **options):
            asked.append(device_map)
            return real(where, device_map=device_map, **options)

        with patch.object(read, "load_weights", noted):
            for bridge in (False, True):
                load_model(folder, device="cuda:1", bridge=bridge)
            load_model(folder, device="cuda", bridge=False, n_devices=2)
    assert asked == [{"": "cuda:1"}, {"": "cuda:1"}, None]


@needs_old
@pytest.mark.filterwarnings("ignore:MPS backend may produce", "ignore:at..frobenius_norm is dep")
@pytest.mark.parametrize("dtype", thinned(["bfloat16", "float16"], ["bfloat16"]))
def test_half_precision_is_float32_afterwards(dtype, tmp_path):
    folder = save("llama", tmp_path)
    expected = observe(load_model(folder, "cpu", dtype), TOKENS)
    with pretended():
        found = observe(load_model(folder, "mps", dtype), TOKENS)
    assert {one.dtype for one in (found.mass, found.norm, found.score)} == {torch.float32}
    for name in ("mass", "norm", "score"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))


def test_a_spread_object_is_not_moved_to_one_device_without_a_word(tmp_path):
    folder = save("llama", tmp_path)
    with pretended(), pytest.raises(ModelError, match=r"spread over \['cuda:0', 'cuda:1'\].*leave"):
        load_model(over_two(folder), device="cuda:0")


@needs_old
def test_a_spread_object_becomes_what_is_asked_for(tmp_path):
    folder = save("llama", tmp_path)
    with pretended():
        model = load_model(over_two(folder), device="cuda:0", bridge=False)
        assert {str(one.device) for one in model.parameters()} == {"cuda:0"}
