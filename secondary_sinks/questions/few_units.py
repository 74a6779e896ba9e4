"""Do few of many units, neurons or coordinates, carry a sink? The first k of a ranking, or random.

Column `test`: "without" edits k units, "only" edits all others. A column named as the units are,
`neurons` or `coordinates`: "top" are the first k of the ranking, "random" are k drawn of all.
"""

import random
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import pandas as pd

from secondary_sinks.questions.trials import paired_rates, rate_difference, survives
from secondary_sinks.statistics import Interval
from secondary_sinks.types import Sink

Unit = TypeVar("Unit", int, tuple[int, int])
FEW = 0.01
"""Few units: at most this share of all, but at least one."""
SEEDS = 3
STAYS = {"without": False, "only": True}
"""By test: whether sinks stay if the claim holds, or end."""
VERBS = {"without": "end", "only": "stay"}


def least_of(n: int, few: float = FEW) -> int:
    """The number of units that verdicts are about: the share `few` of all, at least one."""
    return max(1, int(few * n))


def sizes_of(n: int, few: float = FEW) -> list[int]:
    """The numbers of units that are tried: powers of two, and `least_of` all.

    >>> sizes_of(8)
    [1, 2, 4]
    """
    return sorted({least_of(n, few), *(1 << p for p in range(n.bit_length()) if 1 << p < n)})


def edited_units(
    sink: Sink, ranked: Sequence[Unit], k: int, noun: str, seeds: int = SEEDS
) -> Iterator[tuple[dict[str, Any], list[Unit]]]:
    """The units to edit at a sink, with the words of the cell: the top k, then random ones."""
    yield from _both(ranked, ranked[:k], {noun: "top", "seed": None})
    for seed in range(seeds):
        chance = random.Random(f"{seed} {sink.text_id} {sink.pos} {k}")
        yield from _both(ranked, chance.sample(ranked, k), {noun: "random", "seed": seed})


def _both(
    ranked: Sequence[Unit], chosen: Sequence[Unit], words: dict[str, Any]
) -> Iterator[tuple[dict[str, Any], list[Unit]]]:
    """The chosen units, then all others."""
    yield words | {"test": "without"}, list(chosen)
    yield words | {"test": "only"}, sorted(set(ranked).difference(chosen))


def judged(cells: pd.DataFrame, test: str) -> pd.DataFrame:
    """The cells of a test that its verdict is about: those of few units."""
    return cells[(cells["test"] == test) & cells["few"].astype(bool)]


def share_of(part: pd.DataFrame, test: str, noun: str, n_claims: int) -> Interval:
    """Share of sinks that end, or stay, with few units edited, but not with random ones."""
    alive = STAYS[test]
    return rate_difference(part, noun, "top", "random", alive=alive, n_claims=n_claims)


def in_words(part: pd.DataFrame, test: str, noun: str, which: str) -> str:
    """How many sinks end, or stay, with few units edited: the top ones, `which`, or random ones."""
    top, other = paired_rates(part, noun, "top", "random", alive=STAYS[test]).mean()
    also = " do, or draw half of their attention" * STAYS[test]
    return (
        f"{'with only' if STAYS[test] else 'without'} the {which}, {top:.0%} of the sinks "
        f"{VERBS[test]}; with random {noun} instead, {other:.0%}{also}"
    )


def statistic_of(test: str, noun: str) -> str:
    """The statistic of a verdict on few units."""
    return f"share of sinks that {VERBS[test]}, but not with random {noun} instead"


def smallest_sizes(top: pd.DataFrame) -> pd.DataFrame:
    """Per sink: the smallest k without which it ends, and with which alone it stays.

    NaN where no k that was tried does.
    """
    needed = top["k"].where((top["test"] == "without") & (survives(top) == 0))
    enough = top["k"].where((top["test"] == "only") & top["is_sink"].astype(bool))
    by_sink = top.assign(needed=needed, enough=enough).groupby(["text_id", "sink_pos"], sort=False)
    found = by_sink[["needed", "enough"]].min().astype(float)
    return found.rename_axis(["text_id", "pos"]).reset_index()
