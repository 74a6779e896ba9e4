"""The types and ranges of a config's values: the same from a file, flags and Python."""

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from secondary_sinks.errors import SweepError

SIMPLE: Mapping[str, type] = {
    "feed": str,
    "limit": int,
    "max_tokens": int,
    "criterion": str,
    "ordinary": int,
    "trace": bool,
    "seed": int,
    "pooled": bool,
}
SPEC: Mapping[str, type] = {
    "revision": str,
    "device": str,
    "dtype": str,
    "bridge": bool,
    "trust_remote_code": bool,
    "n_devices": int,
}
OPTIONAL = ("limit", "max_tokens", "revision", "device", "dtype")
"""Values that may be None."""
_WORDS = {str: "a string", int: "a whole number", bool: "true or false", list: "a list"}
_WORDS |= {dict: "keys and values"}


class _Short(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:
        """Python refuses to print a number of more than 4,300 digits; cut it short here."""
        bits = x.bit_length()
        return super().repr_int(x, level) if bits < 10_000 else f"a number of {bits:,} bits"


_SHORT = _Short()


def short(value: Any) -> str:
    """A value in at most 100 characters; YAML can describe one whose full repr is endless.

    >>> short([list(range(100))])
    '[[0, 1, 2, 3, 4, 5, ...]]'
    """
    return _SHORT.repr(value)[:100]


def expect(value: Any, kind: type, name: str, where: str = "") -> Any:
    """The value, unchanged. Raises `SweepError` for one that is not of the kind."""
    wrong = not isinstance(value, kind)
    if kind is int:
        wrong = isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63
    if wrong:
        span = " of at least 0 and below 2^63" if kind is int else ""
        begin = f"{where}: " if where else ""
        raise SweepError(f"{begin}{name} is {short(value)}", f"expected {_WORDS[kind]}{span}")
    return value


def expect_all(owner: Any, kinds: Mapping[str, type]) -> None:
    """Raise `SweepError` for the first attribute that is not of its kind."""
    for name, kind in kinds.items():
        value = getattr(owner, name)
        if value is not None or name not in OPTIONAL:
            expect(value, kind, name)


def expect_list(owner: Any, name: str, kind: type, words: str) -> None:
    """Raise `SweepError` for an attribute that is not a list, and for an item of another type."""
    value = getattr(owner, name)
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise SweepError(f"{name} is {short(value)}", f"expected a list of {words}")
    for item in value:
        if not isinstance(item, kind) or isinstance(item, bool):
            raise SweepError(f"{name} holds {short(item)}", f"expected only {words}")
