"""How much the counts depend on the thresholds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from secondary_sinks.detection.detect import detect
from secondary_sinks.errors import DetectionError
from secondary_sinks.types import SinkTable, Thresholds, Trace, as_traces
from secondary_sinks.types.lists import refuse_twice

if TYPE_CHECKING:
    import pandas as pd

GRID: Mapping[str, Sequence[float | int]] = {
    "aligned": (0.7, 0.8, 0.9, 0.95),
    "outlying": (2.0, 3.0, 5.0),
    "attended": (1.5, 2.0, 3.0),
}
"""Around the thresholds of the joint criterion, mild to strict."""
PERSISTENCE: Mapping[str, Sequence[float | int]] = {
    "persists": (1, 2, 3, 4, 5),
    "draws": (0.0, 0.005, 0.01, 0.02, 0.05),
}
"""Around the thresholds that decide what is transient, mild to strict."""


def threshold_sweep(
    traces: Trace | Iterable[Trace],
    grid: Mapping[str, Sequence[float | int]] | None = None,
    criterion: str = "joint",
) -> "pd.DataFrame":
    """Counts of sinks for every combination of thresholds, one row each.

    `grid` maps names of `Thresholds` to values; the others stay at their defaults. Columns of
    counts: `sinks` (tokens other than the primary that are a sink at some layer), `cells` (token x
    layer), `secondary`, `primary_like`, `transient` and `texts` (with an active primary). A
    stricter test never adds a sink or a cell; it can turn a primary-like sink into a secondary or
    transient one. `PERSISTENCE` is a grid of how long a sink must last and how much attention it
    must draw: these two only decide which of the sinks are transient. A count that stays the same
    over a range of thresholds does not depend on them. Raises `DetectionError` for an unknown name,
    or for values that are no list, none or twice the same.
    """
    import pandas as pd

    grid = GRID if grid is None else grid
    _check(grid)
    texts = as_traces(traces)
    rows = []
    for values in product(*grid.values()):
        chosen: dict[str, Any] = dict(zip(grid, values, strict=True))
        found = detect(texts, replace(Thresholds(), **chosen), criterion)
        rows.append({"criterion": criterion, **chosen, **_counts(found)})
    return pd.DataFrame(rows)


def _counts(table: SinkTable) -> dict[str, int]:
    others = [sink for sink in table.sinks if sink.kind != "primary"]
    return {
        "sinks": len(others),
        "cells": sum(sink.lifetime for sink in others),
        "secondary": len(table.of_kind("secondary").sinks),
        "primary_like": len(table.of_kind("primary_like").sinks),
        "transient": len(table.of_kind("transient").sinks),
        "texts": len(table.of_kind("primary").sinks),
    }


def _check(grid: Mapping[str, Sequence[float | int]]) -> None:
    known = [item.name for item in fields(Thresholds)]
    for name, values in grid.items():
        if name not in known:
            raise DetectionError(
                f"unknown threshold {name!r}", f"expected one of {', '.join(known)}"
            )
        if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray):
            raise DetectionError(
                f"threshold {name!r} is {values!r:.60}", "expected a list of values to try"
            )
        if not len(values):
            raise DetectionError(f"no value to try for threshold {name!r}")
        refuse_twice(f"the list of threshold {name!r}", list(values), DetectionError)
