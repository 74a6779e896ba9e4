"""Parts of a circuit as findings: questions that need no forming MLPs."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from experiments.shared import Finding, Observed, unanswered, why_no_sinks
from secondary_sinks import Answer
from secondary_sinks.plots import interval_dots, interval_lines, message_figure
from secondary_sinks.questions import Cost, Drawing, Question, Sample, Shown


def find_part(
    part: Question,
    name: str,
    claim: str,
    observed: Observed,
    columns: Mapping[str, str],
    **asked: Any,
) -> Finding:
    """Ask about a part of the circuit of the sinks; without any, a finding that says so.

    The first figure of the question is the main one, and its data the frame, with these `columns`.
    """
    if why := why_no_sinks(observed):
        return unanswered(name, part.asks, claim, why, columns)
    asked |= {"progress": observed.progress(name)}
    answer: Answer = part.ask(observed.model, observed.traces, observed.sinks, **asked)
    shown = Shown(sinks=observed.sinks.to_frame(), n_layers=observed.n_layers)
    figures = {one.name: one for one in part.figures(answer, shown)}
    first = next(iter(figures), "")
    frame = figures[first].frame if first else pd.DataFrame(columns=list(columns))
    drawn = {name: _figure(one) for name, one in figures.items()}
    captions = {name: one.caption for name, one in figures.items()}
    headline, *further = answer.verdicts
    return Finding(
        name=name,
        question=part.asks,
        frame=frame,
        columns=columns,
        figure=drawn.pop(first, None) or message_figure(headline.why),
        verdict=headline,
        further=tuple(further),
        tables={"cells": answer.cells, "effects": answer.effects, **answer.tables},
        figures=drawn,
        captions={"figure": captions.pop(first, headline.why)} | captions,
    )


def _figure(drawing: Drawing) -> go.Figure:
    plot = interval_dots if drawing.plot == "dots" else interval_lines
    figure: go.Figure = plot(drawing.frame, **drawing.options)
    return figure


def cost_of(part: Question, observed: Observed) -> Cost:
    """What a part costs with its defaults, for the secondary sinks."""
    sample = Sample(
        texts=observed.cases,
        sinks=observed.sinks,
        n_layers=observed.n_layers,
        d_mlp=int(observed.model.cfg.d_mlp),
    )
    return part.cost_of(sample)
