"""Rules as data: checked, and the same after a way through JSON."""

import numpy as np
import pytest
import torch

from secondary_sinks.errors import EditError
from secondary_sinks.types import Rule
from tests.shapes import FIRST

for _ in range(FIRST):  # from now on types are not checked, as in a user's session
    Rule(layer=0, kind="mask")
RULES = [
    Rule(layer=3, value=0.0),
    Rule(layer=0, kind="mask", tau=0.5, exempt=0, control=True, seed=7),
    Rule(layer=np.int64(2), value=4, direction=torch.tensor([0.5, -2.0])),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.to_json())
def test_a_rule_is_the_same_after_json(rule):
    assert Rule.from_json(rule.to_json()) == rule
    assert "seed" in rule.to_dict() or rule.seed == 0


WRONG = {
    "kind": ({"kind": "masks"}, "unknown kind 'masks' of a rule; did you mean 'mask'"),
    "no value": ({}, "'set_norm' needs a value: the norm to set; got None"),
    "value of a mask": ({"kind": "mask", "value": 1.0}, "'mask' takes no value; got 1.0"),
    "negative": ({"value": -1.0}, "value of a rule is -1.0; expected a finite number of at least"),
    "infinite": ({"value": 1e400}, "value of a rule is inf"),
    "tau": ({"kind": "mask", "tau": 1.5}, "tau of a rule is 1.5; expected a cosine, -1 to 1"),
    "nan": ({"kind": "mask", "tau": float("nan")}, "tau of a rule is nan"),
    "layer": ({"kind": "mask", "layer": -1}, "layer of a rule is -1; expected 0 or more"),
    "half": ({"kind": "mask", "layer": 1.5}, "layer of a rule is 1.5; expected a whole number"),
    "exempt": ({"kind": "mask", "exempt": -2}, "exempt of a rule is -2"),
    "seed": ({"kind": "mask", "seed": 2**32}, "seed of a rule is"),
    "too large": ({"value": 1e300}, "value of a rule is 1e\\+300; expected .*3.4e"),
    "truth value": ({"value": np.True_}, "value of a rule is .*True"),
    "truth values": ({"kind": "mask", "direction": [np.True_, 1.0]}, "in the direction of a rule"),
    "complex": ({"kind": "mask", "tau": np.complex128(0.5)}, "tau of a rule is .*0.5"),
    "seed of nothing": ({"kind": "mask", "seed": 4}, "without a control takes no seed; got 4"),
    "control": ({"kind": "mask", "control": 1}, "control of a rule is 1; expected True or False"),
    "zero": ({"kind": "mask", "direction": (0.0, 0.0)}, "direction of a rule is zero"),
    "no list": ({"kind": "mask", "direction": 3.0}, "expected a list of numbers"),
    "holes": ({"kind": "mask", "direction": [1.0, float("nan")]}, "or holds NaN"),
}


@pytest.mark.parametrize(("fields", "said"), WRONG.values(), ids=WRONG)
def test_what_is_no_rule_is_refused(fields, said):
    with pytest.raises(EditError, match=said):
        Rule(**{"layer": 3} | fields)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "expected a rule in JSON"),
        ("[]", "expected a rule as an object with a layer"),
        ('{"kind": "mask"}', "expected a rule as an object with a layer"),
        ('{"layer": 1, "kind": "mask", "taw": 0.5}', "unknown 'taw' in a rule; did you mean 'tau'"),
    ],
)
def test_lines_that_hold_no_rule_are_refused(line, said):
    with pytest.raises(EditError, match=said):
        Rule.from_json(line)


def test_a_key_that_stands_twice_is_refused():
    with pytest.raises(EditError, match="key 'value' appears twice"):
        Rule.from_json('{"layer": 2, "value": 1.0, "value": 2.0}')
