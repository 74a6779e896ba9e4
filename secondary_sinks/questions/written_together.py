"""MLPs that write a sink together: which of those that may do so are needed, and are enough."""

from collections.abc import Mapping, Sequence

import pandas as pd

from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.questions.role_tests import Kept, SinkWithTwins, group_tests, run_pairs
from secondary_sinks.types import SinkTable

Group = tuple[int, ...]
Place = tuple[str, int]
"""Text and position of a sink."""
Results = Mapping[tuple[Group, str], float]
"""(layers, test) -> share of cells after which the token lives (`role_tests`); for one sink."""
NAN = float("nan")


def written_together(
    model: HookedModel, may: Sequence[tuple[SinkWithTwins, Group]], sinks: SinkTable, kept: Kept
) -> dict[Place, Group]:
    """The MLPs that write each sink together, of the groups of MLPs that `may`.

    They are the members without which the group makes no sink, if there are several, and if they
    make it a sink without the others of the group. Sinks without such MLPs are missing.
    """
    parts = [(one, part) for one, group in may for part in (group, *_without_one(group))]
    alive = _tested(model, parts, sinks, kept)
    needed = [(one, _needed(group, alive[one.place])) for one, group in may]
    new = [(one, part) for one, part in needed if part and (part, "rescue") not in alive[one.place]]
    for place, found in _tested(model, new, sinks, kept).items():
        alive[place] |= found
    return {one.place: part for one, part in needed if part and _passes(part, alive[one.place])}


def _tested(
    model: HookedModel, parts: Sequence[tuple[SinkWithTwins, Group]], sinks: SinkTable, kept: Kept
) -> dict[Place, dict[tuple[Group, str], float]]:
    """Results of the tests of groups, by sink."""
    pairs = [(one, trial) for one, part in parts for trial in group_tests(one, part)]
    return by_sink(run_pairs(model, pairs, sinks, kept))


def by_sink(
    frame: pd.DataFrame, column: str = "alive"
) -> dict[Place, dict[tuple[Group, str], float]]:
    """Results of tests, by sink: a share (`column`) of what `role_tests.run_pairs` returns."""
    found: dict[Place, dict[tuple[Group, str], float]] = {}
    columns = (frame[name] for name in ("text_id", "pos", "group", "test", column))
    for text_id, pos, group, test, share in zip(*columns, strict=True):
        found.setdefault((str(text_id), int(pos)), {})[group, test] = float(share)
    return found


def _without_one(group: Group) -> list[Group]:
    return [tuple(layer for layer in group if layer != one) for one in group]


def _needed(group: Group, alive: Results) -> Group:
    """The members without which the group makes no sink, if there are several.

    Empty if the group makes no sink.
    """
    if not _passes(group, alive):
        return ()
    parts = zip(group, _without_one(group), strict=True)
    needed = tuple(layer for layer, rest in parts if not _passes(rest, alive))
    return needed if len(needed) > 1 else ()


def _passes(group: Group, alive: Results) -> bool:
    rescued = alive[group, "rescue"] > 0 and alive[group, "floor"] == 0
    return rescued and alive.get((group, "create"), NAN) > 0.5
