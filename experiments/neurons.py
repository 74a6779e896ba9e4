"""How few neurons carry a secondary sink?"""

from collections.abc import Mapping
from typing import Annotated

import plotly.graph_objects as go

from experiments.answers import found, lines_by_group
from experiments.command import main_of
from experiments.shared import Finding, Observed
from secondary_sinks import Answer, sparsity
from secondary_sinks.cli import number
from secondary_sinks.plots import interval_lines

NAME, QUESTION = "neurons", "How few neurons carry a secondary sink?"
PAPER = (
    "The paper (Wong et al. 2025, arXiv 2512.22213) says that MLPs form secondary sinks, not how "
    "much of an MLP that takes. Massive activations are known to come from few neurons (Sun et "
    "al. 2024, arXiv 2402.17762), so the claim tested is that one in a hundred is needed, and "
    "enough."
)
METHOD = (
    "The neurons of the forming MLPs in the order of what they write along the primary's "
    "direction. The first 1, 2, 4, ... are zeroed at the sink, or all others are. Beside it as "
    "many random neurons of the same MLPs, and the same neurons zeroed at the control token."
)
REFUTATION = (
    "Sinks that live on without the first hundredth, or as often end without random ones; sinks "
    "that end when the first hundredth is all that is left."
)
CLAIM = "few neurons are needed: without those that write most of it, the sink ends"
GROUPS = {"top": "those that write most", "random": "random ones"}
TITLES = {"without": "without them", "only": "with them alone"}
CAPTIONS = {
    "figure": (
        "Share of its lifetime that a sink keeps when so many neurons are zeroed: means over "
        "sinks, bands the 10th to 90th percentile. Sinks that end are counted in the verdict."
    ),
    "only": "The same where these neurons are all that is left of the forming MLPs.",
}


def run(
    observed: Observed,
    *,
    few: Annotated[float, number("Share that is few.", least=0.0, most=1.0)] = 0.01,
) -> Finding:
    """Zero a few neurons of the forming MLPs at each sink, or all others."""
    return found(NAME, QUESTION, CLAIM, observed, sparsity, _figures, CAPTIONS, few=few)


def _figures(answer: Answer) -> Mapping[str, go.Figure]:
    """Share of its lifetime that a sink keeps, by number of neurons zeroed or kept.

    Uses only numbers that were tried at every sink: a given share of all neurons is a different
    number where more MLPs form a sink.
    """
    cells = answer.cells.assign(
        kept=answer.cells["lifetime_edited"] / answer.cells["lifetime_clean"]
    )
    n_sinks = (cells["text_id"] + cells["sink_pos"].astype(str)).groupby(cells["k"]).nunique()
    cells = cells[cells["k"].isin(n_sinks.index[n_sinks == n_sinks.max()])]
    figures = {}
    for name, test in (("figure", "without"), ("only", "only")):
        frame = lines_by_group(cells[cells["test"] == test], GROUPS, "neurons", "k", ["kept"])
        panels = {"kept": (f"lifetime kept {TITLES[test]}", "linear")}
        figures[name] = interval_lines(frame, panels, "neurons", x_scale="log")
    return figures


main = main_of(run)

if __name__ == "__main__":
    main()
