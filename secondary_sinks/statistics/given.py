"""Numbers as they are given to a statistic: as many as their partners, and within their bounds."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from secondary_sinks.errors import MeasureError

ROUNDING = 1e-9
"""How far beyond its bounds rounding may carry a mean."""


def paired_numbers(**given: ArrayLike) -> list[NDArray[np.float64]]:
    """Lists of numbers of one length. Raises `MeasureError` for others; none is repeated.

    >>> paired_numbers(case=[1, 1, 1], control=[0])
    Traceback (most recent call last):
    secondary_sinks.errors.MeasureError: case has shape [3], and control has shape [1]; expected \
lists of one length: the numbers of the same cases
    """
    numbers = [np.asarray(one, dtype=float) for one in given.values()]
    name = next(iter(given))
    for other, one in zip(given, numbers, strict=True):
        if one.ndim != 1 or one.shape != numbers[0].shape:
            raise MeasureError(
                f"{name} has shape {list(numbers[0].shape)}, and {other} has shape "
                f"{list(one.shape)}",
                "expected lists of one length: the numbers of the same cases",
            )
    return numbers


def within(name: str, numbers: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """The numbers, of which NaN is missing. Raises `MeasureError` for one beyond the bounds.

    What rounding has carried beyond a bound is put back on it.

    >>> within("a value", np.array([0.5, 2.0]), 0.0, 1.0)
    Traceback (most recent call last):
    secondary_sinks.errors.MeasureError: a value is 2; expected numbers from 0 to 1, or NaN for a \
missing one
    """
    beyond = numbers[(numbers < low - ROUNDING) | (numbers > high + ROUNDING)]
    if len(beyond):
        raise MeasureError(
            f"{name} is {beyond[0]:g}",
            f"expected numbers from {low:g} to {high:g}, or NaN for a missing one",
        )
    return np.clip(numbers, low, high)


def check_bounds(bounds: Any) -> tuple[float, float]:
    """The two bounds of a number. Raises `MeasureError` unless the first is below the second."""
    low, high = (float(one) for one in bounds)
    if not -math.inf < low < high < math.inf:
        raise MeasureError(
            f"bounds are {low:g} and {high:g}", "expected a lower and a higher number"
        )
    return low, high


def names_of_texts(texts: Sequence[Any], n: int) -> list[str]:
    """The name of the text of each of `n` values, as words.

    Raises `MeasureError` for another number of names, for a missing one, and for two different ones
    that are written alike, such as 1 and "1", which would be merged.
    """
    if len(texts) != n:
        raise MeasureError(
            f"got {n} values of {len(texts)} texts", "expected the text of each value"
        )
    first: dict[str, Any] = {}
    for name in texts:
        before = first.setdefault(str(name), name)
        if name is None or before != name:
            both = f"{before!r} and {name!r}, written alike" if name == name else repr(name)
            raise MeasureError(f"texts have the names {both}", "expected one name for each text")
    return [str(name) for name in texts]
