"""Edges of a circuit, one row each, and their means over the texts of a level."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from secondary_sinks.statistics import mean_over_texts
from secondary_sinks.types import Sink
from secondary_sinks.types.frames import tidy

PARTS = ("trigger", "writer", "reader", "function")
GROUP = ("kind", "level", "part", "measure", "site", "layer", "head", "unit")
"""Columns that edges of different sinks share if they are the same edge of a level."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """One cause or effect of one sink, as measured."""

    text_id: str
    pos: int
    token: str
    kind: str
    level: float
    """NaN for a sink without a level."""
    part: str
    """One of `PARTS`."""
    measure: str
    """What `effect` is: a name that docs/circuit.md explains."""
    site: str = ""
    """The site that was edited or read; empty if the edge has none."""
    layer: float
    """0-based; NaN if the edge belongs to no single layer."""
    head: float = float("nan")
    """Head, neuron or coordinate at the site; NaN if all together."""
    source_pos: float = float("nan")
    """The other token of the edge; NaN if there is none."""
    source_token: str = ""
    effect: float
    low: float = float("nan")
    """The smallest effect over repeats (donors, draws); NaN for a single measurement."""
    high: float = float("nan")
    """The largest one."""
    control: float = float("nan")
    """The same measure at the control; NaN without a control."""
    unit: str
    """Unit of effect, low, high and control."""


def of_sink(sink: Sink) -> dict[str, Any]:
    """The fields of an edge that name its sink."""
    return sink.fields("text_id", "pos", "token", "kind", "level")


def edges_frame(edges: Iterable[Edge]) -> pd.DataFrame:
    """One row per edge, with the columns of `Edge` even without rows."""
    return tidy([asdict(edge) for edge in edges], Edge)


def by_level(edges: pd.DataFrame) -> pd.DataFrame:
    """Mean effect of the same edge (`GROUP`) over the sinks of a level, with its interval.

    The unit is the text: mean of the text means; `low` and `high` are the ends of a t interval at
    95 %, a description and not a test, NaN with one text. `control` is the mean control.
    """
    rows = []
    for names, part in edges.groupby(list(GROUP), sort=False, dropna=False):
        found = mean_over_texts(part["effect"], part["text_id"].tolist())
        control = mean_over_texts(part["control"], part["text_id"].tolist())
        rows.append(
            {
                **dict(zip(GROUP, names, strict=True)),
                "effect": found.value,
                "low": found.low,
                "high": found.high,
                "control": control.value,
                "n_sinks": len(part[["text_id", "pos"]].drop_duplicates()),
                "n_texts": found.n_texts,
            }
        )
    columns = [*GROUP, "effect", "low", "high", "control", "n_sinks", "n_texts"]
    return pd.DataFrame(rows, columns=columns)
