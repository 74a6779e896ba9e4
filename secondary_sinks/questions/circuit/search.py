"""Searches that run side by side, so that all sinks of a text share each replay.

A search is a generator: it yields trials, is sent their rows, and returns what it found. So the
steps for one sink read from top to bottom, while the trials that many sinks ask for at the same
step run together (`side_by_side`).
"""

from collections.abc import Callable, Generator, Sequence
from itertools import islice
from typing import Any, TypeVar

from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.questions.role_tests import NOTHING_KEPT, Kept, SinkWithTwins, run_rows
from secondary_sinks.questions.trials import Trial
from secondary_sinks.types import SinkTable

T = TypeVar("T")
Member = tuple[int, ...]
"""(layer,), (layer, head), or (layer, head, source position)."""
Group = tuple[Member, ...]
Row = dict[str, Any]
Search = Generator[list[tuple[SinkWithTwins, Trial]], list[Row], T]
MOST = 16
"""Largest size of a set that is searched for."""
FEW = 4
"""A set is small if it holds a fourth of all members at most, and no more than `MOST`."""


def run_search(
    model: HookedModel,
    search: Search[T],
    sinks: SinkTable,
    kept: Kept = NOTHING_KEPT,
) -> T:
    """What a search finds, with one replay per step and edited text; `kept` as for `run_rows`."""
    try:
        pairs = next(search)
        while True:
            pairs = search.send(run_rows(model, pairs, sinks, kept))
    except StopIteration as stop:
        found: T = stop.value
        return found


def side_by_side(searches: Sequence[Search[Any]]) -> Search[list[Any]]:
    """Several searches as one, whose steps hold the trials of all that are not done yet."""
    found: dict[int, Any] = {}
    rows: dict[int, list[Row] | None] = dict.fromkeys(range(len(searches)))
    while rows:
        asked: dict[int, list[tuple[SinkWithTwins, Trial]]] = {}
        for number, own in rows.items():
            try:
                asked[number] = searches[number].send(own)  # type: ignore[arg-type]
            except StopIteration as stop:
                found[number] = stop.value
        if not asked:
            break
        given = iter((yield [pair for pairs in asked.values() for pair in pairs]))
        rows = {number: list(islice(given, len(pairs))) for number, pairs in asked.items()}
    return [found[number] for number in range(len(searches))]


def smallest(
    ranked: Sequence[Member],
    passes: Callable[[Sequence[Group]], Search[list[bool]]],
    *,
    alone: bool = False,
    most: int = MOST,
) -> Search[Group]:
    """The smallest set found that passes; empty if the first `most` members do not pass together.

    `alone` says whether the first member passes on its own, which is known by then.

    Else the first members of `ranked` are taken until they pass. Then members are left out, the
    last ones first, until no further one can be. So no member of the result can be left out; a set
    of other members may still be smaller.
    """
    if alone:
        return (ranked[0],)
    first = [tuple(ranked[:size]) for size in range(2, min(len(ranked), most) + 1)]
    enough = (yield from passes(first)) if first else []
    if not any(enough):
        return ()
    kept: Group = first[enough.index(True)]
    while len(kept) > 1:
        without = [_without(kept, [member]) for member in kept]
        spare = [
            member for member, fine in zip(kept, (yield from passes(without)), strict=True) if fine
        ]
        if not spare:
            break
        sizes = range(2, min(len(spare), len(kept) - 1) + 1)
        fewer = [_without(kept, spare[-size:]) for size in sizes]
        fine = (yield from passes(fewer)) if fewer else []
        able = [group for group, one in zip(fewer, fine, strict=True) if one]
        kept = able[-1] if able else _without(kept, spare[-1:])
    return kept


def _without(group: Group, members: Sequence[Member]) -> Group:
    return tuple(member for member in group if member not in members)
