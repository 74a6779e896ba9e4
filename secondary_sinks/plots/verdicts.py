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

    All from the verdict's own fields, so that what stands next to a badge is what was judged. A
    verdict without an interval has no whisker, one without a number no row. Raises `SinkError`
    where none has one.
    """
    table = verdict_table(verdicts)
    rows = [_label(number, claim) for number, claim in enumerate(table["claim"])]
    frame = table.assign(row=rows, series="value")
    figure = interval_dots(frame, "number that was judged", line=None)
    figure.add_trace(_lines(table["line"].tolist()))
    figure.update_yaxes(ticktext=["<br>".join(map(plain_label, wrap(row, WIDTH))) for row in rows])
    return figure.update_layout(height=70 + 46 * len(rows), margin_t=12, showlegend=False)


def _label(number: int, claim: str) -> str:
    """The claim, numbered: two claims may say the same."""
    return f"{number + 1}. {claim}"


def _lines(lines: Sequence[float]) -> go.Scatter:
    marker: dict[str, Any] = {"symbol": "line-ns", "size": 22, "line": {"width": 2, "color": TEXT}}
    return go.Scatter(
        x=list(lines),
        y=list(range(len(lines))),
        mode="markers",
        marker=marker,
        name="line",
        hovertemplate="held against %{x:.3g}<extra></extra>",
    )
