"""Lists as users give them: no item twice, and none empty.

An item that is given twice would be merged, computed twice or reused, and nothing would say which.
"""

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from secondary_sinks.errors import EditError, SinkError
from secondary_sinks.numbers import whole_number


def one_or_more(
    given: Any, name: str = "layers", error: type[SinkError] = EditError
) -> tuple[int, ...]:
    """Whole numbers of any library, of which one may stand alone; raises `error` for anything else.

    >>> one_or_more(3), one_or_more([1, 2])
    ((3,), (1, 2))
    """
    alone = isinstance(given, str | bytes) or getattr(given, "ndim", 1) == 0
    several = isinstance(given, Iterable) and not alone
    words = "a whole number, or several of them"
    return tuple(
        whole_number(name, one, error, words=words) for one in (given if several else [given])
    )


def refuse_empty(name: str, items: Sequence[Any], error: type[SinkError], words: str = "") -> None:
    """Raise `error` for a list without an item; `words` describes those that it needs."""
    if not items:
        raise error(f"{name} is empty", f"expected {words or 'at least one'}")


def split_words(name: str, words: str, error: type[SinkError], known: str = "words") -> list[str]:
    """The words between commas. Raises `error` for an empty one, and for one that is given twice.

    `known` describes the valid words in the error.

    >>> split_words("--edit", "zero, twins", SinkError)
    ['zero', 'twins']
    """
    found = [word.strip() for word in words.split(",")]
    if "" in found:
        raise error(
            f"{name} {words!r:.200} has an empty item", f"expected {known} with commas between"
        )
    refuse_twice(name, found, error)
    return found


def join_words(words: Sequence[str]) -> str:
    """Join words with commas, and "and" before the last.

    >>> join_words(["zero", "mean", "resample"]), join_words(["zero"])
    ('zero, mean and resample', 'zero')
    """
    return " and ".join([", ".join(words[:-1])] * (len(words) > 1) + list(words[-1:]))


def refuse_twice(
    name: str, items: Sequence[Any], error: type[SinkError], keys: Sequence[Any] | None = None
) -> None:
    """Raise `error` for an item that is given twice; two items with the same key are the same."""
    first: dict[Any, Any] = {}
    for item, key in zip(items, items if keys is None else keys, strict=True):
        if key in first:
            before = first[key]
            both = f"{item!r} twice" if item == before else f"{before!r} and {item!r}, the same"
            raise error(f"{name} has {both}", "expected each once")
        first[key] = item


def parse_numbers(words: str, most: int) -> list[int]:
    """Whole numbers from 0, and ranges of them, that are below `most`, between commas.

    Raises `ValueError` that says which part is wrong.

    >>> parse_numbers("0-3, 7", most=100)
    [0, 1, 2, 3, 7]
    """
    found: list[int] = []
    for part in map(str.strip, words.split(",")):
        first, dash, last = part.partition("-")
        ends = [first, last] if dash else [first]
        if not all(one.isascii() and one.strip().isdecimal() for one in ends):
            raise ValueError(f"{part!r:.60} cannot be read, expected like 0-11,20")
        if any(len(one.strip()) > len(str(most)) or int(one) >= most for one in ends):
            raise ValueError(f"{part!r:.60} is out of range, expected numbers below {most:,}")
        if int(ends[-1]) < int(first):
            raise ValueError(f"{part!r:.60} runs backwards, expected like 0-11")
        found += range(int(first), int(ends[-1]) + 1)
        if len(found) > most:  # at least one is repeated
            break
    return found


def whole_word(word: str) -> int:
    """The whole number that a word writes in plain digits. Raises `ValueError` for another word.

    `int` also takes 1_0 for 10, and digits of all scripts.

    >>> whole_word("12")
    12
    """
    digits = word.strip()
    if not re.fullmatch(r"[+-]?[0-9]{1,50}", digits):
        raise ValueError(f"{word!r:.60} is not a whole number in plain digits, such as 12")
    return int(digits)


def number_word(word: str) -> float:
    """The number that a word writes in plain digits; it may be infinite, or NaN.

    Raises `ValueError` for another word, such as 1_0 or digits of other scripts, and for a whole
    number that no `float` equals.

    >>> number_word("0.5")
    0.5
    """
    try:
        number = float("" if "_" in word or not word.isascii() else word)
    except ValueError as error:
        raise ValueError(
            f"{word!r:.60} is not a number in plain digits, such as 10 or 0.5"
        ) from error
    if re.fullmatch(r"[+-]?[0-9]+", word.strip()) and number != Decimal(word.strip()):
        raise ValueError(f"{word!r:.60} has more digits than a float holds")
    return number
