"""Options of questions: what is no valid number or way to ablate is refused before any work."""

import inspect

import pytest

from secondary_sinks import questions
from secondary_sinks.errors import EditError
from secondary_sinks.testing import Plant, plant
from secondary_sinks.types import SinkTable

ASKED = {one.name: one.ask for one in questions.QUESTIONS}
COUNTS = ("n_claims", "draws", "seeds", "window")
WRONG = [
    (name, option, value)
    for name, ask in ASKED.items()
    for option in inspect.signature(ask).parameters
    for value in {"edits": [(), ("zero", "zero"), ("nonsense",)]}.get(
        option, [0, -1, True] if option in COUNTS else []
    )
]


@pytest.fixture(scope="module")
def model():
    return plant([Plant(pos=0, forming=(1,), strength=400.0)]).model


@pytest.mark.parametrize(("name", "option", "value"), WRONG)
def test_an_option_that_is_wrong_is_refused_by_name(model, name, option, value):
    with pytest.raises(EditError, match=option.removesuffix("s")):
        ASKED[name](model, [], SinkTable(sinks=()), **{option: value})


def test_every_question_has_a_number_of_claims():
    assert {name for name, option, _ in WRONG if option == "n_claims"} == {*ASKED}
