"""Does the primary weaken as secondary sinks arise, and does it gain when they are removed?"""

from typing import Annotated, Any

import typer

from experiments.answers import drawings_of, figure_of, forming_of
from experiments.command import main_of
from experiments.shared import Finding, Observed, unanswered, why_no_sinks
from secondary_sinks import Verdict, primary_weakening, redistribution, restoration
from secondary_sinks.cli import whole
from secondary_sinks.detection import WEAKENING_WINDOW
from secondary_sinks.plots import interval_lines
from secondary_sinks.questions import BY_NAME, Drawing

NAME, QUESTION = "primary_weakening", "Does the primary weaken as secondary sinks arise?"
PAPER = (
    "Claim of the paper (Wong et al. 2025, arXiv 2512.22213): the primary sink weakens in middle "
    "layers, coinciding with the emergence of secondary sinks."
)
METHOD = (
    "A difference in differences (`secondary_sinks.primary_weakening`) of the attention that "
    "queries pay to the primary: layers after the creation of a text's first secondary sink minus "
    "layers before; queries after the sink minus queries before it, which cannot see it; minus the "
    "same at the same positions of another text without a secondary sink there. The verdict uses "
    "one number per pair of texts, in which queries whose tokens up to there stand in an earlier "
    "pair too are not compared again, and the exact interval of the median over pairs. Then the "
    "sink is removed at its forming MLPs: do later queries pay the primary more than after the "
    "same edit at a control token (`secondary_sinks.restoration`, median over texts)? The softmax "
    "alone gives the primary a part of any removed key's attention, so this shows that the sink "
    "took it, and no further mechanism. Does the primary get more of the sink's attention than "
    "the softmax alone would give it (`secondary_sinks.redistribution`, total effects, median over "
    "texts)?"
)
REFUTATION = (
    "Queries after the sink do not lose more than those before it, compared with the same "
    "positions of texts without a sink, which must be texts of the same kind: chats that change "
    "at these layers for another reason would look the same. If the primary regains nothing when "
    "the sink is removed, the sink took nothing from it. If the primary gains no more than its "
    "proportional share, no mechanism returns attention to it."
)
N_CLAIMS = 3
"""It weakens; it regains attention when the sink is removed; more than the softmax gives."""
CLAIM = "the primary weakens as secondary sinks arise"
PANELS = {
    "by_query": ("attention paid by queries", "linear"),
    "mass": ("attention mass", "linear"),
    "key_norm": ("norm of used key", "linear"),
    "score": ("score (q.k)", "linear"),
}
COLUMNS = {
    "measure": "of the primary: by_query (attention of some queries), mass, key_norm (used key: "
    "after q/k norm and rotation) or score (q.k x scale), in units of the model",
    "group": "primary, or the queries of by_query: after or before the first secondary sink of a "
    "text, and the same positions in the paired text without a sink",
    "relative": "layer minus the creation layer of a secondary sink; the sink exists from 0 on",
    "mean": "mean over secondary sinks (by_query: over texts), in the block that reads the layer",
    "low": "lower end of its 95 % interval over texts",
    "high": "upper end of it",
    "n_sinks": "secondary sinks whose primary has such a layer",
    "n_texts": "texts with such a sink",
}
CAPTIONS = {
    "figure": (
        "The primary, by layer relative to the creation of a secondary sink (dotted). Top, the "
        "parts of the tested difference: attention paid to the primary by queries after and before "
        "the first secondary sink of a text, and at the same positions of a text without one. "
        "Below: means over sinks. Bands are 95 % intervals over texts."
    ),
}


def run(
    observed: Observed,
    *,
    window: Annotated[
        int, whole("Number of layers before and after that are compared.", least=1)
    ] = WEAKENING_WINDOW,
    restore: Annotated[
        bool,
        typer.Option(help="Also remove each sink, and measure which tokens gain its attention."),
    ] = True,
    edit: Annotated[
        list[str] | None,
        typer.Option(
            help="Ablation that removes sinks. Repeatable. Default: zero, mean, three resamples; "
            "for freed attention mean:twins too."
        ),
    ] = None,
) -> Finding:
    """The primary aligned to the creation layers, and its gain when secondary sinks are removed."""
    if why := why_no_sinks(observed):
        return unanswered(NAME, QUESTION, CLAIM, why, COLUMNS)
    together = {"n_claims": N_CLAIMS if restore else 1}
    found = primary_weakening(observed.traces, observed.sinks, window=window, **together)
    profile = found.to_frame()
    tables = {"contrasts": found.contrasts_frame(), "changes": found.changes_frame()}
    drawn: list[Drawing] = []
    further: tuple[Verdict, ...] = ()
    if restore:
        given = (observed.model, observed.traces, observed.sinks)
        asked: dict[str, Any] = {"edits": tuple(edit)} if edit else {}
        asked |= {"forming": forming_of(observed), "progress": observed.progress(NAME), **together}
        removed = restoration(*given, window=window, **asked)
        answer = redistribution(*given, **asked)
        tables |= {"removed": removed.effects, "removed_cells": removed.cells}
        tables |= {"restored": answer.effects, "cells": answer.cells}
        drawn = drawings_of(BY_NAME["redistribution"], answer, observed)
        further = (*removed.verdicts, *answer.verdicts)
    return Finding(
        name=NAME,
        question=QUESTION,
        frame=profile,
        columns=COLUMNS,
        captions=CAPTIONS | {one.name: one.caption for one in drawn},
        figure=interval_lines(
            profile.rename(columns={"measure": "panel", "relative": "x", "mean": "value"}),
            PANELS,
            "layer relative to a secondary sink's creation",
            marks=[-0.5],
        ),
        verdict=found.verdict,
        further=further,
        tables=tables,
        figures={one.name: figure_of(one) for one in drawn},
    )


main = main_of(run)

if __name__ == "__main__":
    main()
