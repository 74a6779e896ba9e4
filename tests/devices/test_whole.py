"""Every experiment, question and notebook session runs on a device, and answers as it does here."""

import functools
from importlib import import_module

import pytest
import torch

from experiments.shared import observe_fed
from experiments.table import BY_NAME
from secondary_sinks import load_model, trace_from_cache
from secondary_sinks.layerwise.cached_generation import Continuation
from secondary_sinks.models.identity import weight_hash
from secondary_sinks.notebook import Session
from secondary_sinks.testing.planted import plant
from secondary_sinks.texts import TokenizedText
from tests.devices.pretended import pretended
from tests.marks import needs_old, thinned
from tests.questions.gardens import PRIMARY, texts, three
from tests.tiny import tiny_llama, tiny_tokenizer

pytestmark = [
    pytest.mark.filterwarnings("ignore:MPS backend may produce"),
    pytest.mark.filterwarnings("ignore:at..frobenius_norm is deprecated"),
]
DEVICE = "mps"
"""Mixes no more than the others do, and has no float64."""
TYPICAL = ["mlp_directions"]
"""It reads activations, and replays edits."""
SMALLER = {"norm_and_score": {"permutations": 99}}


def observed(device):
    garden = plant([PRIMARY, *three(forming=(3,))[:2]], n_layers=5)
    garden.model.to(device)
    fed = [
        TokenizedText(text_id=f"t{number}", tokens=tokens, feed="raw", fed="")
        for number, tokens in enumerate(texts(garden, 2))
    ]
    return observe_fed(garden.model, fed)


@functools.cache
def here():
    return observed("cpu")


@functools.cache
def there():
    return observed(DEVICE)


def answer(name, seen):
    return import_module(f"experiments.{name}").run(seen, **SMALLER.get(name, {}))


@needs_old
@pytest.mark.parametrize("name", thinned(list(BY_NAME), TYPICAL))
def test_experiments_answer_as_on_the_processor(name):
    expected = answer(name, here())
    with pretended():
        found = answer(name, there())
    for one, other in zip(found.verdicts, expected.verdicts, strict=True):
        assert (one.claim, one.outcome) == (other.claim, other.outcome)
        assert one.value == pytest.approx(other.value, rel=1e-3, abs=1e-4, nan_ok=True)


def model_on(device):
    garden = plant([PRIMARY, *three(forming=(3,))], n_layers=5, content_queries=True)
    garden.model.to(device)
    return garden.model, garden.tokens


def said_by_a_session(device):
    rows = Session(*model_on(device)).choose(pos=12, layer=3, kind="zero").rows
    numbers = [one for row in rows for one in row.values() if isinstance(one, int | float)]
    assert len(numbers) > 10
    return [torch.tensor(numbers)]


def seen_in_a_cache(device):
    model, tokens = model_on(device)
    trace = trace_from_cache(model.run_with_cache(tokens[None])[1], tokens)
    return [trace.mass, trace.norm, trace.score, trace.alignment]


def continued(device):
    text = Continuation(load_model(tiny_llama(), tokenizer=tiny_tokenizer(), device=device))
    return [text.read(torch.arange(20)), text.read(torch.tensor([20]))]


@needs_old
def test_weights_have_the_same_name_everywhere():
    expected = weight_hash(model_on("cpu")[0])
    with pretended():
        assert weight_hash(model_on(DEVICE)[0]) == expected


@needs_old
@pytest.mark.parametrize("ask", [said_by_a_session, seen_in_a_cache, continued])
def test_what_users_call_gives_the_same(ask):
    expected = ask("cpu")
    with pretended():
        found = ask(DEVICE)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5, equal_nan=True)
