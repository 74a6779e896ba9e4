"""Choose on some texts, test on others: choices that leave an interval over texts exact.

What was chosen because it did well does well again on the same texts, true or not. So each text is
judged by what the texts *before* it chose, and the first one by a rule that no outcome had a part
in. Given all texts before it, the choice is fixed, and a text is a fresh draw: where no choice
succeeds in more than half of all texts, neither does the chosen one, whatever happened so far.
Both statistics of `over_texts` keep their promise on this alone: the bound of Bentkus (2004) holds
for numbers that are bounded given the past (a supermartingale), and of signs that are positive with
a chance of one half or less given the past, k or more are no more likely than k or more coins.

To choose on *all other* texts is not exact: those choices share data, so that texts succeed
together. Two fair coins in each of six texts, the better one chosen on the other five: all six
succeed more often than 2^-6 (tests/statistics/test_choice.py counts all outcomes).
"""

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

from secondary_sinks.errors import MeasureError

Choice = TypeVar("Choice", bound=Hashable)


def chosen_before(
    scores: Sequence[Mapping[Choice, float | int]], able: Sequence[Sequence[Choice]]
) -> list[Choice]:
    """For each text, the choice that scored most in the texts before it.

    `scores` has the score of each choice in each text, `able` the choices that are possible in each
    text. Scores are added up over texts; a choice that was not tried before has 0. Of equal ones
    the first in `able` is taken; so it is for the first text. Raises `MeasureError` for a text
    without a choice, and for a score that is no finite number: leave out what was not tried.

    >>> chosen_before([{"a": 1, "b": 0}, {"b": 3}, {}], [["b", "a"], ["b", "a"], ["b", "a"]])
    ['b', 'a', 'b']
    """
    total: Counter[Choice] = Counter()
    chosen = []
    if len(scores) != len(able):
        raise MeasureError(
            f"got the scores of {len(scores)} texts and the choices of {len(able)}",
            "expected both for each text",
        )
    for number, (own, possible) in enumerate(zip(scores, able, strict=True)):
        _check(number, own, possible)
        chosen.append(max(possible, key=lambda one: total[one]))
        for one, score in own.items():
            total[one] += score  # type: ignore[assignment]
    return chosen


def _check(number: int, own: Mapping[Any, float | int], possible: Sequence[Any]) -> None:
    if not len(possible):
        raise MeasureError(f"text {number} has no choice", "expected one or more: leave it out")
    for one, score in own.items():
        if not math.isfinite(score):
            raise MeasureError(
                f"the score of {one!r} in text {number} is {score}",
                "expected a finite number: leave out what was not tried",
            )
