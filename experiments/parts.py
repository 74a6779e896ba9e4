"""Parts of a circuit as findings."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from experiments.shared import Finding, Observed, unanswered, why_no_sinks
from secondary_sinks.circuit import Part
from secondary_sinks.statistics import Interval, mean_over_texts


def find_part(
    name: str,
    question: str,
    claim: str,
    observed: Observed,
    find: Callable[..., Part],
    draw: Callable[[Part], tuple[pd.DataFrame, Mapping[str, go.Figure]]],
    columns: Mapping[str, str],
    captions: Mapping[str, str],
    **asked: Any,
) -> Finding:
    """Find a part of the circuit of the secondary sinks; without any, a finding that says so.

    `draw` gives the frame of the finding and its figures by name, of which the first is the main
    one.
    """
    why = why_no_sinks(observed)
    if why:
        return unanswered(name, question, claim, why, columns)
    asked |= {"progress": observed.progress(name)}
    part = find(observed.model, observed.traces, observed.sinks, **asked)
    frame, figures = draw(part)
    (_, figure), *others = figures.items()
    headline, *further = part.verdicts
    edges = {"edges": part.edges} if len(part.edges) else {}
    return Finding(
        name=name,
        question=question,
        frame=frame,
        columns=columns,
        captions=captions,
        figure=figure,
        verdict=headline,
        further=tuple(further),
        tables={**edges, **part.tables},
        figures=dict(others),
    )


def over_texts(table: pd.DataFrame, column: str) -> Interval:
    """Mean over texts of a column, with an approximate interval, for figures."""
    return mean_over_texts(table[column].astype(float), table["text_id"].tolist())


def dot(row: str, series: str, found: Interval) -> dict[str, Any]:
    """A row of the frame of `interval_dots`."""
    return {
        "row": row,
        "series": series,
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "n_texts": found.n_texts,
    }
