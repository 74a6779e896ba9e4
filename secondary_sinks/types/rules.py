"""`Rule`: an edit of all tokens that meet a condition, as plain data that converts to JSON."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from secondary_sinks import files
from secondary_sinks.errors import EditError, expected_one_of
from secondary_sinks.numbers import real_number, true_or_false
from secondary_sinks.types.edit_checks import as_field, fields_given
from secondary_sinks.types.edit_kinds import LARGEST, SEEDS

KINDS_OF_RULES = ("set_norm", "mask")
NUMBERS = ("value", "tau")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """An edit of every token at which an MLP writes along a direction, while a text grows.

    A token *meets* the rule if the cosine of what the MLP of `layer` writes there with the
    direction is above `tau`, from position `exempt` on. Every token that meets it is edited:

    * `set_norm`: what the MLP writes is rescaled to norm `value`, in the same direction;
    * `mask`: later queries pay no attention to the token in the layers after `layer`, and their
      other attention is normalised again.

    With `control`, as many tokens that don't meet the rule are edited instead, in the same way:
    random ones of the prompt (`seed`), and after it the next one for each token that meets the
    rule. Raises `EditError` for fields out of range.

    >>> Rule(layer=5, value=0.0).to_json()
    '{"layer": 5, "kind": "set_norm", "value": 0.0}'
    >>> Rule.from_json('{"layer": 5, "kind": "mask", "control": true}').control
    True
    """

    layer: int
    """Layer of the MLP."""
    kind: str = "set_norm"
    """set_norm or mask."""
    value: float | None = None
    """The norm that `set_norm` gives, in units of the residual; None for `mask`."""
    tau: float = 0.98
    """Cosine above which a token meets the rule; at 1 none does."""
    exempt: int = 3
    """Number of first positions that never meet it, and are never edited."""
    direction: Sequence[float] | None = None
    """Vector `[d_model]` of any length. None: what the same MLP writes at the first token, which
    is the primary of most models."""
    control: bool = False
    """Whether other tokens are edited, as many as meet the rule."""
    seed: int = 0
    """Random seed for the control's tokens in a prompt."""

    def __post_init__(self) -> None:
        for name in ("layer", "exempt", "seed", "kind", *NUMBERS):
            object.__setattr__(self, name, _field(name, getattr(self, name)))
        control = true_or_false("control of a rule", self.control, EditError)
        object.__setattr__(self, "control", control)
        if self.direction is not None:
            object.__setattr__(self, "direction", _vector(self.direction))
        _check(self)

    def to_dict(self) -> dict[str, Any]:
        """The layer, the kind, and the fields that differ from their defaults."""
        return fields_given(self, {"layer", "kind"})

    @staticmethod
    def from_dict(given: Any) -> "Rule":
        """The inverse of `to_dict`. Raises `EditError` for unknown or missing fields."""
        known = [one.name for one in fields(Rule)]
        if not isinstance(given, dict) or "layer" not in given:
            raise EditError(f"expected a rule as an object with a layer; got {given!r:.60}")
        unknown = sorted(given.keys() - known)
        if unknown:
            raise EditError(f"unknown {unknown[0]!r} in a rule", expected_one_of(known, unknown[0]))
        return Rule(**given)

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(self.to_dict())

    @staticmethod
    def from_json(line: str) -> "Rule":
        """The inverse of `to_json`. Raises `EditError` for anything else."""
        if not isinstance(line, str):
            raise EditError(f"expected a rule in JSON; got {line!r:.60}")
        try:
            given = files.load_json(line)
        except (ValueError, RecursionError) as error:
            raise EditError(f"expected a rule in JSON; got {line[:80]!r} ({error})") from error
        return Rule.from_dict(given)


def _field(name: str, given: Any) -> Any:
    """The value of a field in plain Python types. Raises `EditError` for another type."""
    if name not in NUMBERS:
        return as_field(name, given, "a rule")
    return None if given is None else real_number(f"{name} of a rule", given, EditError)


def _vector(given: Any) -> tuple[float, ...]:
    """The numbers of a list, an array or a tensor. Raises `EditError` for other things."""
    listed = given.tolist() if hasattr(given, "tolist") else given
    if not isinstance(listed, list | tuple) or not listed:
        raise EditError(f"direction of a rule is {given!r:.60}", "expected a list of numbers")
    name = "a number in the direction of a rule"
    numbers = tuple(real_number(name, one, EditError) for one in listed)
    if not all(map(math.isfinite, numbers)) or not any(numbers):
        raise EditError(
            "direction of a rule is zero, or holds NaN or infinity", "expected finite numbers"
        )
    return numbers


def _check(rule: Rule) -> None:
    if rule.kind not in KINDS_OF_RULES:
        raise EditError(
            f"unknown kind {rule.kind!r} of a rule", expected_one_of(KINDS_OF_RULES, rule.kind)
        )
    if (rule.value is None) != (rule.kind == "mask"):
        words = "takes no value" if rule.kind == "mask" else "needs a value: the norm to set"
        raise EditError(f"a rule that does {rule.kind!r} {words}; got {rule.value}")
    if rule.value is not None and not 0 <= rule.value <= LARGEST:
        raise EditError(
            f"value of a rule is {rule.value}",
            f"expected a finite number of at least 0, and at most {LARGEST:.2g} (float32)",
        )
    if rule.tau is None or not -1 <= rule.tau <= 1:
        raise EditError(f"tau of a rule is {rule.tau}", "expected a cosine, -1 to 1")
    for name, number in (("layer", rule.layer), ("exempt", rule.exempt)):
        if number < 0:
            raise EditError(f"{name} of a rule is {number}", "expected 0 or more")
    if not 0 <= rule.seed < SEEDS:
        raise EditError(f"seed of a rule is {rule.seed}", "expected 0 to 2^32 - 1")
    if rule.seed and not rule.control:
        raise EditError(
            f"a rule without a control takes no seed; got {rule.seed}",
            "give control=True, whose random tokens the seed draws, or leave it out",
        )
