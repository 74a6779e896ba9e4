"""Numbers as users give them: whole or finite, never a truth value, refused by name otherwise."""

import math
import operator
from numbers import Real
from typing import Any

from secondary_sinks.errors import SinkError


def whole_number(
    name: str, value: Any, error: type[SinkError], least: int | None = None, words: str = ""
) -> int:
    """A whole number of any library as an `int`, of at least `least` if that is given.

    Raises `error` for anything else: fractions, words, True and False. `words` replaces the
    description of the valid numbers in the error.

    >>> whole_number("chunk", 3, SinkError)
    3
    >>> whole_number("chunk", True, SinkError, least=1)
    Traceback (most recent call last):
    secondary_sinks.errors.SinkError: chunk is True; expected a whole number of at least 1
    """
    try:
        alone = not _is_bool(value) and not getattr(value, "ndim", 0)
        number = operator.index(value) if alone else None
    except TypeError:
        number = None
    if number is None or (least is not None and number < least):
        limit = "" if least is None else f" of at least {least}"
        raise error(f"{name} is {value!r:.60}", f"expected {words or f'a whole number{limit}'}")
    return number


def check_whole(error: type[SinkError], least: int = 1, **given: Any) -> None:
    """Raise `error` for an option that is no whole number of at least `least`.

    None stands for the default of an option.

    >>> check_whole(SinkError, draws=5, n_claims=None)
    >>> check_whole(SinkError, draws=0)
    Traceback (most recent call last):
    secondary_sinks.errors.SinkError: draws is 0; expected a whole number of at least 1
    """
    for name, value in given.items():
        if value is not None:
            whole_number(name, value, error, least)


def real_number(name: str, value: Any, error: type[SinkError], words: str = "a number") -> float:
    """A real number of any library, alone or in an array without axes, as the same `float`.

    It need not be finite. Raises `error` for anything else: words, lists, complex numbers, True and
    False, and numbers that no `float` equals, such as 2**53 + 1. `words` describes the valid ones.

    >>> real_number("value", 3, SinkError)
    3.0
    >>> real_number("value", 2**53 + 1, SinkError)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    secondary_sinks.errors.SinkError: value is 9007...; expected a number that a float holds exactly
    """
    plain = value.item() if getattr(value, "ndim", None) == 0 else value
    if not isinstance(plain, Real) or isinstance(plain, bool):
        raise error(f"{name} is {value!r:.60}", f"expected {words}")
    try:
        number = float(plain)
    except OverflowError:
        number = math.inf
    if number != plain and not math.isnan(number):
        raise error(f"{name} is {value!r:.60}", f"expected {words} that a float holds exactly")
    return number


def finite_number(
    name: str,
    value: Any,
    error: type[SinkError],
    least: float | int = -math.inf,
    *,
    above: bool = False,
) -> float:
    """A finite number of at least `least`, or above it, as a `float`.

    Raises `error` for anything else: NaN, infinity, words, arrays, True and False.

    >>> finite_number("eps", 1, SinkError)
    1.0
    """
    try:
        number = float(value) if isinstance(value, Real) and not _is_bool(value) else math.nan
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number < least or (above and number == least):
        limit = f" {'above' if above else 'of at least'} {least:g}" if least > -math.inf else ""
        raise error(f"{name} is {value!r:.60}", f"expected a finite number{limit}")
    return number


def true_or_false(name: str, value: Any, error: type[SinkError]) -> bool:
    """A truth value of any library as a `bool`. Raises `error` for anything else: words, numbers.

    >>> true_or_false("kl", "no", SinkError)
    Traceback (most recent call last):
    secondary_sinks.errors.SinkError: kl is 'no'; expected True or False
    """
    axes: int = getattr(value, "ndim", 0)
    if not _is_bool(value) or axes:
        raise error(f"{name} is {value!r:.60}", "expected True or False")
    return bool(value)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool) or "bool" in str(getattr(value, "dtype", ""))
