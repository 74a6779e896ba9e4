"""Which MLPs do secondary sinks need?"""

from collections.abc import Mapping
from typing import Annotated

import pandas as pd
import plotly.graph_objects as go
import typer

from experiments.answers import found
from experiments.command import main_of
from experiments.shared import Finding, Observed
from secondary_sinks import Answer, necessity
from secondary_sinks.plots import interval_lines

NAME, QUESTION = "mlp_ablation", "Which MLPs do secondary sinks need?"
PAPER = (
    "Claim of the paper (Wong et al. 2025, arXiv 2512.22213): specific middle-layer MLPs form "
    "secondary sinks. It rests on where vectors point; nothing was taken away."
)
METHOD = (
    "At each secondary sink, at its control (a token twin, else the nearest ordinary token) and "
    "at an ordinary token of similar position and norm, switch off the MLP of one layer at that "
    "token alone: by nothing (zero), by its mean over ordinary tokens, by its output at random "
    "ones. Compare its lifetime and the attention that it draws, before and after. Statistic of a "
    "layer: the share of sinks that end, of those that it could have ended; their lost attention "
    "must exceed that of controls, too. Intervals by text, corrected for the number of layers that "
    "could end a sink, those up to the last creation layer. A second verdict takes together the "
    "MLPs that formed sinks in the texts before, against as many others that could have ended the "
    "sink too."
)
REFUTATION = (
    "Without any single layer's MLP half of the sinks or more live on, or controls lose as much "
    "attention as sinks do. Where the three ways to ablate disagree, nothing is claimed."
)
CLAIM = "the MLP of one layer forms most secondary sinks"
EDITS = ("zero", "mean", "resample")
PANELS = {
    "ended": ("share of sinks that end", "linear"),
    "lost": ("mass lost beyond controls", "linear"),
}
CAPTIONS = {
    "figure": (
        "One MLP switched off, in three ways, with intervals over texts (bands). Above, what a "
        "layer is judged by: the share of sinks that end, of those that it could have ended, mean "
        "over texts. Below: mass lost by sinks less that lost by controls, both in units of the "
        "sinks' clean mass, median over texts. There are none above the last creation layer."
    ),
}


def run(
    observed: Observed,
    *,
    edit: Annotated[str, typer.Option(help="zero, mean or resample; else all three.")] = "",
) -> Finding:
    """Ablate every MLP at every secondary sink and its controls, then compare."""
    edits = (edit,) if edit else EDITS
    return found(NAME, QUESTION, CLAIM, observed, necessity, _figures, CAPTIONS, edits=edits)


def _figures(answer: Answer) -> Mapping[str, go.Figure]:
    effects = answer.effects
    numbers = {"ended": ("removed", "removed_low", "removed_high"), "lost": ("lost", "low", "high")}
    parts = [
        pd.DataFrame(
            {
                "panel": panel,
                "group": effects["edit"],
                "x": effects["layer"],
                "value": effects[value],
                "low": effects[low],
                "high": effects[high],
            }
        )
        for panel, (value, low, high) in numbers.items()
    ]
    frame = pd.concat(parts, ignore_index=True)
    return {"figure": interval_lines(frame, PANELS, "layer of the ablated MLP")}


main = main_of(run)

if __name__ == "__main__":
    main()
