"""Does the primary weaken as secondary sinks arise, and because of them?"""

from typing import Annotated

import pandas as pd
import plotly.graph_objects as go
import typer

from experiments.answers import forming_of
from experiments.command import main_of
from experiments.shared import Finding, Observed, unanswered, why_no_sinks
from secondary_sinks import Verdict, primary_weakening, redistribution, restoration
from secondary_sinks.cli import whole
from secondary_sinks.detection import WEAKENING_WINDOW
from secondary_sinks.plots import interval_dots, interval_lines
from secondary_sinks.questions import EDITS, MATERIAL

NAME, QUESTION = "primary_weakening", "Does the primary weaken as secondary sinks arise?"
PAPER = (
    "Claim of the paper (Wong et al. 2025, arXiv 2512.22213): the primary sink weakens in middle "
    "layers, coinciding with the emergence of secondary sinks."
)
METHOD = (
    "A difference in differences (`secondary_sinks.primary_weakening`). What queries pay to the "
    "primary, in the layers after the creation of a text's first secondary sink less the layers "
    "before; of queries after the sink, less queries before it, which cannot see it; less the "
    "same at the same positions of another text that has no secondary sink there. One number per "
    "pair of texts, and exact sign flips: that is the verdict. Then the sink is removed at its "
    "forming MLPs: do later queries pay the primary more than after the same edit at a control "
    "token (`secondary_sinks.restoration`)? And does the primary get more of its attention than a "
    "softmax without any mechanism would give it (`secondary_sinks.redistribution`, total "
    "effects)?"
)
REFUTATION = (
    "Queries after the sink lose no more than those before it, beyond what texts without a sink "
    "lose at the same place. A removal that gives the primary nothing back refutes the cause, not "
    "the coincidence; a primary that gains no more than its proportion refutes a mechanism that "
    "gives attention back."
)
CLAIM = "the primary weakens as secondary sinks arise"
PANELS = {
    "by_query": ("attention paid by queries", "linear"),
    "mass": ("attention mass", "linear"),
    "key_norm": ("length of used key", "linear"),
    "score": ("score (q.k)", "linear"),
}
COLUMNS = {
    "measure": "of the primary: by_query (what some queries pay to it), mass, key_norm (used key: "
    "after q/k norm and rotation) or score (q.k x scale), in units of the model",
    "group": "primary, or the queries of by_query: after or before the first secondary sink of a "
    "text, and the same places in the text without a sink that it is compared with",
    "relative": "layer less the creation layer of a secondary sink; from 0 on, there is one",
    "mean": "mean over secondary sinks (by_query: over texts), in the block that reads the layer",
    "low": "lower end of its 95 % interval over texts",
    "high": "upper end",
    "n_sinks": "secondary sinks whose primary has such a layer",
    "n_texts": "texts with one",
}
CAPTIONS = {
    "figure": (
        "The primary, by layers after a secondary sink arises (dotted). On top, what the judged "
        "difference is made of: the attention paid to it by queries after and before the first "
        "secondary sink of a text, and at the same places of a text without one. Below: means over "
        "sinks. Bands are 95 % intervals over texts."
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
        int, whole("Layers before and after that are compared.", least=1)
    ] = WEAKENING_WINDOW,
    restore: Annotated[
        bool, typer.Option(help="Also remove each sink, and see who gets its attention.")
    ] = True,
    edit: Annotated[
        list[str] | None,
        typer.Option(help="How to remove; again for more. By default zero, mean, three draws."),
    ] = None,
) -> Finding:
    """The primary aligned to the creation layers, and its gain when secondary sinks are removed."""
    why = why_no_sinks(observed)
    if why:
        return unanswered(NAME, QUESTION, CLAIM, why, COLUMNS)
    found = primary_weakening(observed.traces, observed.sinks, window=window)
    profile = found.to_frame()
    tables = {"contrasts": found.contrasts_frame(), "changes": found.changes_frame()}
    figures: dict[str, go.Figure] = {}
    further: tuple[Verdict, ...] = ()
    if restore:
        given = (observed.model, observed.traces, observed.sinks)
        how, forming = tuple(edit or EDITS), forming_of(observed)
        told = observed.progress(NAME)
        removed = restoration(*given, edits=how, window=window, forming=forming, progress=told)
        answer = redistribution(*given, edits=how, forming=forming, progress=told)
        tables |= {"removed": removed.effects, "removed_cells": removed.cells}
        tables |= {"restored": answer.effects, "cells": answer.cells}
        figures = {"restored": _receivers(answer.effects)} if len(answer.effects) else {}
        further = (*removed.verdicts, *answer.verdicts)
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
    return profile.rename(columns=names)


def _receivers(effects: pd.DataFrame) -> go.Figure:
    """Which tokens gain more attention than in proportion, by way of ablating."""
    words = {"primary": "the primary", "others": "other sinks", "rest": "all other tokens"}
    names = {"edit": "series", "receiver": "row", "beyond": "value"}
    gains = effects.rename(columns=names).replace({"row": words})
    return interval_dots(gains, "share of freed attention beyond proportional", line=MATERIAL)


main = main_of(run)

if __name__ == "__main__":
    main()
