"""Every experiment, question and notebook session runs on a device, and answers as it does here."""

import functools
from importlib import import_module

import pytest

from experiments.all import EXPERIMENTS
from experiments.shared import observe_fed
from secondary_sinks.models.planted import plant
from secondary_sinks.texts import TokenizedText
from tests.devices.pretended import pretended
from tests.marks import needs_old
from tests.questions.gardens import PRIMARY, texts, three

pytestmark = [
    pytest.mark.filterwarnings("ignore:MPS backend may produce"),
    pytest.mark.filterwarnings("ignore:at..frobenius_norm is deprecated"),
]
DEVICE = "mps"
"""Mixes no more than the others do, and has no float64."""
SMALLER = {"norm_and_score": {"resamples": 49}}


def observed(device):
    garden = plant([PRIMARY, *three(forming=(3,))[:2]], n_layers=5)
    garden.model.to(device)
    fed = [
        TokenizedText(text_id=f"t{number}", tokens=tokens, feed="raw", fed="")
        for number, tokens in enumerate(texts(garden, 3))
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
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_answer_as_on_the_processor(name):
    expected = answer(name, here())
    with pretended():
        found = answer(name, there())
    for one, other in zip(found.verdicts, expected.verdicts, strict=True):
        assert (one.claim, one.outcome) == (other.claim, other.outcome)
        assert one.value == pytest.approx(other.value, rel=1e-3, abs=1e-4, nan_ok=True)
