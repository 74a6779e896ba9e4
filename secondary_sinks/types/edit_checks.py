"""What makes an `Edit` possible wherever it is made: checked when it is created."""

import math
from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Any

from secondary_sinks.errors import EditError, expected_one_of
from secondary_sinks.numbers import real_number, whole_number
from secondary_sinks.types.edit_kinds import KINDS, LARGEST, OVER, SEEDS
from secondary_sinks.types.edit_sites import RESIDUAL, SITE_OF
from secondary_sinks.types.sinks import format_layers

_SEVERAL, _WORDS = ("pos", "layer", "donor"), ("kind", "site", "over", "text")
FIELDS = (*_SEVERAL, "units", "key", "seed", *_WORDS, "value")


def as_field(name: str, value: Any, of: str = "an edit") -> Any:
    """The value of a field: whole numbers of any library as int, several of them as a tuple.

    `of` is what the field belongs to. Raises `EditError` for a value of another type.

    >>> as_field("pos", [3, 4]), as_field("donor", None)
    ((3, 4), None)
    """
    words = f"{name} of {of}"
    if name in _WORDS:
        return _expect(words, value, isinstance(value, str), "a string")
    if value is None and name in ("donor", "key", "value"):
        return None
    if name == "value":
        return real_number(words, value, EditError)
    if name == "units" or (name in _SEVERAL and isinstance(value, list | tuple | range)):
        _expect(words, value, isinstance(value, list | tuple | range), "a list of whole numbers")
        return tuple(whole_number(words, one, EditError, words="whole numbers") for one in value)
    return whole_number(words, value, EditError, words="a whole number")


def check_edit(edit: Any) -> None:
    """Raise `EditError` for an unknown kind, site or mean, and for fields that do not combine."""
    for words, name, known in (
        ("edit", edit.kind, KINDS),
        ("site", edit.site, SITE_OF),
        ("mean over", edit.over, OVER),
    ):
        if name not in known:
            raise EditError(f"unknown {words} {name!r}", expected_one_of(known, name))
    if edit.site not in KINDS[edit.kind].sites:
        able = [name for name, kind in KINDS.items() if edit.site in kind.sites]
        raise EditError(
            f"edit {edit.kind!r} has no meaning at site {edit.site!r}",
            f"expected one of {', '.join(able)} there, or {edit.kind!r} at "
            f"{' or '.join(KINDS[edit.kind].sites)}",
        )
    if SITE_OF[edit.site].first and edit.layers != (0,):
        raise EditError(
            f"site {edit.site!r} is before the first layer, got layer {format_layers(edit.layers)}",
            "expected layer=0, or another site, such as resid_pre",
        )
    _check_value(edit)
    _check_key(edit)
    _check_over_and_seed(edit)
    _check_units(edit)
    _check_donor(edit)
    for words, numbers in (("layer", edit.layers), ("position", edit.positions)):
        refuse_repeats(words, numbers)


def refuse_repeats(name: str, numbers: Sequence[int]) -> None:
    """Raise `EditError` where an edit names no layer, position and so on, or one of them twice."""
    if not numbers:
        raise EditError(f"an edit names no {name}", "expected at least one")
    if len(set(numbers)) < len(numbers):
        raise EditError(f"an edit names a {name} twice: {list(numbers)}")


def _check_value(edit: Any) -> None:
    expected = KINDS[edit.kind].value
    if (edit.value is not None) != (expected is not None):
        words = "needs a value" if expected is not None else "takes no value"
        raise EditError(f"edit {edit.kind!r} {words}; got {edit.value}")
    if edit.value is None or expected is None:
        return
    least, most = expected
    if not max(least, -LARGEST) <= edit.value <= min(most, LARGEST):
        limits = f" from {least:g}" if least > -math.inf else ""
        limits += f" to {most:g}" if most < math.inf else ""
        raise EditError(
            f"value of {edit.kind!r} is {edit.value}",
            f"expected a finite number{limits}, of at most {LARGEST:.2g} in size (float32)",
        )


def _check_over_and_seed(edit: Any) -> None:
    """A kind whose row names no mean or seed would not read it."""
    if not 0 <= edit.seed < SEEDS:
        raise EditError(f"seed of {edit.kind!r} is {edit.seed}", "expected 0 to 2^32 - 1")
    if edit.seed and not KINDS[edit.kind].seed:
        able = ", ".join(name for name, kind in KINDS.items() if kind.seed)
        raise EditError(f"edit {edit.kind!r} takes no seed; got {edit.seed}", f"only {able} do")
    if edit.over != OVER[0] and edit.over not in KINDS[edit.kind].over:
        raise EditError(
            f"edit {edit.kind!r} takes no mean over {edit.over!r}", "expected kind='mean' with it"
        )


def _check_units(edit: Any) -> None:
    """Single coordinates and neurons have no direction; heads have one each."""
    if edit.units and KINDS[edit.kind].of_vectors and edit.site in RESIDUAL:
        raise EditError(
            f"edit {edit.kind!r} needs the whole {SITE_OF[edit.site].words}, which has a "
            "direction; single coordinates have none",
            "leave units out, or use a kind that edits each coordinate on its own, such as zero, "
            "patch or scale",
        )


def _check_key(edit: Any) -> None:
    if (edit.key is not None) != KINDS[edit.kind].key:
        words = "needs" if KINDS[edit.kind].key else "takes no"
        raise EditError(
            f"edit {edit.kind!r} {words} key: the position of an earlier token that is attended to"
        )


def _check_donor(edit: Any) -> None:
    if not KINDS[edit.kind].donor and (edit.donor is not None or edit.text):
        raise EditError(f"edit {edit.kind!r} takes no donor; only a patch does")
    if KINDS[edit.kind].donor:
        if not edit.donors:
            raise EditError("a patch needs a donor: the position that the activation is taken from")
        refuse_repeats("donor", edit.donors)


def _expect(name: str, value: Any, true: bool, words: str) -> Any:
    if not true:
        raise EditError(f"{name} is {value!r:.60}", f"expected {words}")
    return value


def fields_given(recipe: Any, needed: Collection[str]) -> dict[str, Any]:
    """The `needed` fields of a data class, and those that differ from their defaults.

    Tuples become lists, as JSON has them.
    """
    given = {item.name: (getattr(recipe, item.name), item.default) for item in fields(recipe)}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, (value, default) in given.items()
        if name in needed or value != default
    }
