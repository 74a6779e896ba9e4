"""Which sinks are behind the cells of a map, so that a click in it finds them on the page."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from secondary_sinks.report.strips import MOST_SINKS, sink_key

WORDS = " A click leads to {} in the table of all sinks; a sink chosen there is framed here."


def link_rows(figure: go.Figure, rows: pd.DataFrame) -> go.Figure:
    """Link row 0, 1, ... of a map to the sinks (`text_id`, `sink_pos`) of a frame."""
    named = zip(rows["text_id"], rows["sink_pos"], strict=True)
    return _linked(figure, [(None, row, [sink_key(*name)]) for row, name in enumerate(named)])


def link_levels(figure: go.Figure, sinks: pd.DataFrame) -> go.Figure:
    """Link each cell (creation layer, lifetime) to the secondary sinks that it counts.

    Only the sinks that the table of the page has are linked.
    """
    listed = sinks.head(MOST_SINKS)
    counted = listed[(listed["kind"] == "secondary") & (listed["copy_of"].fillna("") == "")]
    return _linked(
        figure,
        [
            (int(str(x)), int(str(y)), [*map(sink_key, part["text_id"], part["pos"])])
            for (x, y), part in counted.groupby(["l_start", "lifetime"])
        ],
    )


def _linked(figure: go.Figure, places: list[tuple[int | None, int, list[str]]]) -> go.Figure:
    """The script of the page reads x (None: the whole row), y and the keys of each place."""
    meta: dict[str, Any] = {"sinks": [list(place) for place in places]}
    return figure.update_layout(meta=meta)
