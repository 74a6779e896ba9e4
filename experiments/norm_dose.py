"""Is it how long the MLP's output is, or where it points?"""

from collections.abc import Mapping

import plotly.graph_objects as go

from experiments.answers import found, spread
from experiments.command import main_of
from experiments.shared import Finding, Observed
from secondary_sinks import Answer
from secondary_sinks import norm_dose as ask
from secondary_sinks.plots import interval_lines

NAME, QUESTION = "norm_dose", "Is it how long the MLP's output is, or where it points?"
PAPER = (
    "Claim of the paper (Wong et al. 2025, arXiv 2512.22213): the norm of what the MLP writes "
    "sets the sink score and the lifetime of the sink. There it is a correlation across sinks "
    "(see `norm_and_score`); here it is an intervention."
)
METHOD = (
    "The output of the forming MLPs at each sink, times factors from 1/16 to 4, and the same at "
    "its control token. Also turned, at the same norm, to random directions at right angles. "
    "Verdicts: lifetime follows the factor (rank correlation beyond the control's, and a trend "
    "test); sinks end when the output is turned; sinks end when it is short."
)
REFUTATION = (
    "Lifetimes that don't follow the factor, or that follow it at controls alike. Lifetimes are "
    "capped by the number of layers, so high doses tie."
)
CLAIM = "the longer what the forming MLPs write, the longer the sink lives"
GROUPS = {"sink": "sinks", "control": "control tokens"}
PANELS = {
    "lifetime_edited": ("lifetime (layers)", "linear"),
    "mass_edited": ("attention mass", "linear"),
}
CAPTIONS = {
    "figure": "Means over tokens, bands the 10th to 90th percentile. Factor 1 changes nothing.",
}


def run(observed: Observed) -> Finding:
    """Scale and turn what the forming MLPs write at each sink and its control."""
    return found(NAME, QUESTION, CLAIM, observed, ask, _figures, CAPTIONS)


def _figures(answer: Answer) -> Mapping[str, go.Figure]:
    doses = answer.cells[answer.cells["test"] == "dose"]
    frame = spread(doses, GROUPS, "role", "factor", list(PANELS))
    title = "factor on what the forming MLPs write"
    return {"figure": interval_lines(frame, PANELS, title, x_scale="log")}


main = main_of(run)

if __name__ == "__main__":
    main()
