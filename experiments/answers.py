"""Causal questions as findings: find the forming MLPs once, then answer each question."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from experiments.shared import Finding, Observed, unanswered, why_no_sinks
from secondary_sinks import Answer, forming_mlps
from secondary_sinks.questions import Forming
from secondary_sinks.statistics import mean_and_percentiles


@lru_cache(maxsize=1)
def forming_of(observed: Observed) -> tuple[Forming, ...]:
    """Forming MLPs of every sink that can be tested; computed once for all experiments."""
    progress = observed.progress("forming MLPs")
    return forming_mlps(observed.model, observed.traces, observed.sinks, progress=progress)


def answer_question(
    name: str,
    question: str,
    claim: str,
    observed: Observed,
    ask: Callable[..., Answer],
    draw: Callable[[Answer], Mapping[str, go.Figure]],
    captions: Mapping[str, str],
    **asked: Any,
) -> Finding:
    """Ask a question about the sinks; without any, return a finding that says so.

    `draw` returns figures by name; the first is the main figure. `captions` describe them.
    """
    if why := why_no_sinks(observed):
        return unanswered(name, question, claim, why, {})
    traces, sinks = observed.traces, observed.sinks
    asked |= {"forming": forming_of(observed), "progress": observed.progress(name)}
    answer = ask(observed.model, traces, sinks, **asked)
    (_, figure), *others = draw(answer).items()
    headline, *further = answer.verdicts
    return Finding(
        name=name,
        question=question,
        frame=answer.effects,
        columns={},
        figure=figure,
        verdict=headline,
        further=tuple(further),
        tables={"cells": answer.cells, **answer.tables},
        figures=dict(others),
        captions=captions,
    )


def lines_by_group(
    cells: pd.DataFrame, groups: Mapping[str, str], by: str, x: str, responses: Sequence[str]
) -> pd.DataFrame:
    """Mean and percentiles over tokens by response, group and x, for `interval_lines`.

    `groups` maps values of the column `by` to their names.
    """
    rows = [
        {
            "panel": response,
            "group": name,
            "x": at,
            **mean_and_percentiles(part[response].to_numpy()),
        }
        for response in responses
        for value, name in groups.items()
        for at, part in cells[cells[by] == value].groupby(x)
    ]
    return pd.DataFrame(rows, columns=["panel", "group", "x", "value", "low", "high"])
