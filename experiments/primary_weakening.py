"""Does the primary weaken as secondary sinks arise, and because of them?

Claim of the paper (Wong et al. 2025, arXiv 2512.22213): the primary sink weakens in middle
layers, coinciding with the emergence of secondary sinks.

Method: the primary's attention mass, key norm and score (q.k), aligned to each secondary sink's
creation layer; the null hypothesis is that creation layers are random layers of the primary's
span (`secondary_sinks.primary_weakening`). That is the verdict. A coincidence says nothing about
causes, so each secondary sink is then removed at its forming MLPs, and its attention followed:
does the primary get more of it than a softmax without any mechanism would give it
(`secondary_sinks.redistribution`, total effects)?

What would refute it: the primary's mass rises where secondary sinks arise, or falls no more than
at other layers. A primary that gains no more than its proportion refutes a mechanism that gives
attention back, not the coincidence.

    python -m experiments.primary_weakening --model smollm2-135m --out results/primary_weakening
"""

from typing import Annotated

import pandas as pd
import plotly.graph_objects as go
import torch
import typer

from experiments.answers import forming_of
from experiments.command import main_of
from experiments.shared import Finding, Observed, nobody, unanswered
from secondary_sinks import Verdict, primary_weakening, redistribution
from secondary_sinks.detection.weakening import WINDOW
from secondary_sinks.plots import interval_dots, interval_lines
from secondary_sinks.questions.necessity import EDITS
from secondary_sinks.questions.redistribution import MATERIAL

NAME, QUESTION = "primary_weakening", "Does the primary weaken as secondary sinks arise?"
CLAIM = "the primary weakens as secondary sinks arise"
PANELS = {
    "mass": ("attention mass", "linear"),
    "key_norm": ("length of key", "linear"),
    "score": ("score (q.k)", "linear"),
}
COLUMNS = {
    "measure": "of the primary: mass, key_norm or score (q.k x scale), in units of the model",
    "relative": "layer less the creation layer of a secondary sink; from 0 on, there is one",
    "mean": "mean over secondary sinks, in the block that reads the layer",
    "low": "lower end of its 95 % interval over texts",
    "high": "upper end",
    "n_sinks": "secondary sinks whose primary has such a layer",
    "n_texts": "texts with one",
}
CAPTIONS = {
    "figure": (
        "The primary, by layers after a secondary sink arises (dotted): means over sinks, bands "
        "95 % intervals over texts."
    ),
    "restored": (
        "Who gets more of the attention of a removed secondary sink than in proportion, by how it "
        "is removed: medians over texts, with exact 95 % intervals. Dotted: the line."
    ),
}


def run(
    observed: Observed,
    *,
    window: Annotated[
        int, typer.Option(min=1, help="Layers before and after that are compared.")
    ] = WINDOW,
    restore: Annotated[
        bool, typer.Option(help="Also remove each sink, and see who gets its attention.")
    ] = True,
    edit: Annotated[
        list[str] | None,
        typer.Option(help="How to remove; again for more. By default zero, mean, three draws."),
    ] = None,
) -> Finding:
    """The primary aligned to the creation layers, and what removing secondary sinks does to it."""
    why = nobody(observed)
    if why:
        return unanswered(NAME, QUESTION, CLAIM, why, COLUMNS)
    generator = torch.Generator().manual_seed(observed.seed)
    found = primary_weakening(observed.traces, observed.sinks, window=window, generator=generator)
    profile = found.to_frame()
    tables, figures = {"changes": found.changes_frame()}, {}
    further: tuple[Verdict, ...] = ()
    if restore:
        answer = redistribution(
            *(observed.model, observed.traces, observed.sinks),
            edits=tuple(edit or EDITS),
            forming=forming_of(observed),
            progress=observed.progress(NAME),
        )
        tables |= {"restored": answer.effects, "cells": answer.cells}
        figures = {"restored": _receivers(answer.effects)} if len(answer.effects) else {}
        further = answer.verdicts
    return Finding(
        name=NAME,
        question=QUESTION,
        frame=profile,
        columns=COLUMNS,
        captions=CAPTIONS,
        figure=interval_lines(
            _lines(profile), PANELS, "layers after a secondary sink's creation", marks=[-0.5]
        ),
        verdict=found.verdict,
        further=further,
        tables=tables,
        figures=figures,
    )


def _lines(profile: pd.DataFrame) -> pd.DataFrame:
    names = {"measure": "panel", "relative": "x", "mean": "value"}
    return profile.rename(columns=names).assign(group="primary")


def _receivers(effects: pd.DataFrame) -> go.Figure:
    """Who gets more attention than in proportion, by way to ablate."""
    words = {"primary": "the primary", "others": "other sinks", "rest": "all other tokens"}
    names = {"edit": "series", "receiver": "row", "beyond": "value"}
    gains = effects.rename(columns=names).replace({"row": words})
    return interval_dots(gains, "share of freed attention beyond proportional", line=MATERIAL)


main = main_of(run)

if __name__ == "__main__":
    main()
