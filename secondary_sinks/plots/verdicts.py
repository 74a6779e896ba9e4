"""What was judged: the number of each verdict, its interval, and the line it was held against."""

from collections.abc import Iterable, Sequence
from textwrap import wrap
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from secondary_sinks.plots.dots import interval_dots
from secondary_sinks.plots.labels import plain_label
from secondary_sinks.plots.theme import TEXT
from secondary_sinks.types import Verdict

WIDTH = 44
"""Characters of a claim in a line of its label."""


def verdict_table(verdicts: Iterable[Verdict]) -> pd.DataFrame:
    """The verdicts that have a number, one row each, with the fields that `verdict_dots` draws."""
    names = ["claim", "outcome", "statistic", "value", "low", "high", "line", "n_claims"]
    names += ["n_sinks", "n_texts"]
    known = [one for one in verdicts if one.value == one.value]
    return pd.DataFrame([[getattr(one, name) for name in names] for one in known], columns=names)


def verdict_dots(verdicts: Iterable[Verdict]) -> go.Figure:
    """A row per verdict: value (dot), interval (whisker), and the line (upright tick).

    All are fields of the verdict, so that the figure shows the numbers of the badges. A verdict
    without an interval has no whisker; a verdict without a number has no row. Raises `SinkError`
    if no verdict has a number.
    """
    table = verdict_table(verdicts)
    rows = [
        f"{number + 1}. {claim}" for number, claim in enumerate(table["claim"])
    ]  # two may say the same
    frame = table.assign(row=rows, series="value")
    figure = interval_dots(frame, "statistic of the verdict", line=None)
    figure.add_trace(_lines(table["line"].tolist()))
    labels = [[plain_label(line) for line in wrap(row, WIDTH)] for row in rows]
    figure.update_yaxes(ticktext=["<br>".join(lines) for lines in labels])
    tallest = max(46, 19 * max(map(len, labels)) + 8)  # no label reaches into the next row
    return figure.update_layout(height=70 + tallest * len(rows), margin_t=12, showlegend=False)


def _lines(lines: Sequence[float]) -> go.Scatter:
    marker: dict[str, Any] = {"symbol": "line-ns", "size": 22, "line": {"width": 2, "color": TEXT}}
    return go.Scatter(
        x=list(lines),
        y=list(range(len(lines))),
        mode="markers",
        marker=marker,
        name="line",
        hovertemplate="threshold %{x:.3g}<extra></extra>",
    )
