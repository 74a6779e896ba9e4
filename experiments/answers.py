"""Answers to causal questions as findings, with the figures of the question."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import plotly.graph_objects as go

from experiments.shared import Finding, Observed, unanswered, why_no_sinks
from secondary_sinks import Answer, forming_mlps
from secondary_sinks.plots import draw, message_figure
from secondary_sinks.questions import Drawing, Forming, Question, Shown


@lru_cache(maxsize=1)
def forming_of(observed: Observed) -> tuple[Forming, ...]:
    """Forming MLPs of every sink that can be tested; computed once for all experiments."""
    progress = observed.progress("forming MLPs")
    return forming_mlps(observed.model, observed.traces, observed.sinks, progress=progress)


def answer_question(
    question: Question,
    name: str,
    claim: str,
    observed: Observed,
    columns: Mapping[str, str] | None = None,
    **asked: Any,
) -> Finding:
    """Ask a causal question about the sinks; without any, a finding that says so.

    The first figure of the question is the main one. The table of the finding holds the effects or,
    if `columns` describe them, the data of that figure.
    """
    if why := why_no_sinks(observed):
        return unanswered(name, question.asks, claim, why, columns or {})
    asked |= {"progress": observed.progress(name)}
    if question.needs_forming:
        asked |= {"forming": forming_of(observed)}
    answer: Answer = question.ask(observed.model, observed.traces, observed.sinks, **asked)
    headline, *further = answer.verdicts
    drawings = drawings_of(question, answer, observed)
    main, others = next(iter(drawings), None), drawings[1:]
    captions = {"figure": main.caption if main else headline.why}
    tables, frame = {"cells": answer.cells, **answer.tables}, answer.effects
    if columns is not None:
        tables |= {"effects": frame}
        frame = main.frame if main else frame.reindex(columns=list(columns))
    return Finding(
        name=name,
        question=question.asks,
        frame=frame,
        columns=columns or {},
        figure=figure_of(main) if main else message_figure(headline.why),
        verdict=headline,
        further=tuple(further),
        tables=tables,
        figures={one.name: figure_of(one) for one in others},
        captions=captions | {one.name: one.caption for one in others},
    )


def drawings_of(question: Question, answer: Answer, observed: Observed) -> list[Drawing]:
    """The figures of an answer as data; none without effects."""
    if answer.effects.empty:
        return []
    shown = Shown(sinks=observed.sinks.to_frame(), n_layers=observed.n_layers)
    return question.figures(answer, shown)


def figure_of(drawing: Drawing) -> go.Figure:
    """The drawn figure."""
    return draw(drawing.plot, drawing.frame, **drawing.options)[0]
