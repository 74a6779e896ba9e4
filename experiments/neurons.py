"""How many neurons does a secondary sink need?"""

from collections.abc import Mapping
from typing import Annotated

import plotly.graph_objects as go

from experiments.answers import answer_question, lines_by_group
from experiments.command import main_of
from experiments.shared import Finding, Observed
from secondary_sinks import Answer, sparsity
from secondary_sinks.cli import number
from secondary_sinks.plots import interval_lines

NAME, QUESTION = "neurons", "How many neurons does a secondary sink need?"
PAPER = (
    "The paper (Wong et al. 2025, arXiv 2512.22213) says that MLPs form secondary sinks, but not "
    "how many of their neurons that takes. Massive activations are known to come from few neurons "
    "(Sun et al. 2024, arXiv 2402.17762), so the claim tested is that 1% of the neurons is "
    "necessary and sufficient."
)
METHOD = (
    "The neurons of the forming MLPs, sorted by how much they write along the primary's "
    "direction. The first 1, 2, 4, ... of them are zeroed at the sink, or all others are. Compared "
    "with the same number of random neurons of the same MLPs, and with the same neurons zeroed at "
    "the control token. The verdict also needs the mean at the same token elsewhere in place of "
    "zero: a neuron that is as active there cannot tell the sink from its twins. A sink ends if it "
    "no longer meets the criterion and draws less than half of its attention."
)
REFUTATION = (
    "Sinks survive without the top 1% of neurons, or end as often without random ones; sinks end "
    "if only the top 1% is left."
)
CLAIM = "a sink ends without the few neurons that write most of it"
GROUPS = {"top": "neurons that write most", "random": "random neurons"}
TITLES = {"without": "without these neurons", "only": "with only these neurons"}
CAPTIONS = {
    "figure": (
        "Share of its lifetime that a sink keeps, by the number of zeroed neurons: means over "
        "sinks, bands the 10th to 90th percentile. The verdict counts the sinks that end."
    ),
    "only": "The same if all other neurons of the forming MLPs are zeroed.",
}


def run(
    observed: Observed,
    *,
    few: Annotated[float, number("Share of neurons in the verdict.", least=0.0, most=1.0)] = 0.01,
) -> Finding:
    """Zero a few neurons of the forming MLPs at each sink, or all others."""
    return answer_question(NAME, QUESTION, CLAIM, observed, sparsity, _figures, CAPTIONS, few=few)


def _figures(answer: Answer) -> Mapping[str, go.Figure]:
    """Share of its lifetime that a sink keeps, by number of neurons zeroed or kept.

    Uses only numbers that were tried at every sink: a given share of all neurons is a different
    number where more MLPs form a sink.
    """
    cells = answer.cells[answer.cells["edit"] == "zero"]
    cells = cells.assign(kept=cells["lifetime_edited"] / cells["lifetime_clean"])
    n_sinks = (cells["text_id"] + cells["sink_pos"].astype(str)).groupby(cells["k"]).nunique()
    cells = cells[cells["k"].isin(n_sinks.index[n_sinks == n_sinks.max()])]
    figures = {}
    for name, test in (("figure", "without"), ("only", "only")):
        frame = lines_by_group(cells[cells["test"] == test], GROUPS, "neurons", "k", ["kept"])
        panels = {"kept": (f"lifetime kept,<br>{TITLES[test]}", "linear")}
        figures[name] = interval_lines(frame, panels, "neurons", x_scale="log")
    return figures


main = main_of(run)

if __name__ == "__main__":
    main()
