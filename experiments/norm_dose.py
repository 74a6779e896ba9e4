"""Is it how long the MLP's output is, or where it points?"""

from collections.abc import Mapping

import plotly.graph_objects as go

from experiments.answers import found, lines_by_group
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
    "its control token. Also turned, at the same norm, to random directions at right angles. Being "
    "a sink asks for a norm by definition, so its lifetime follows the norm whatever the norm "
    "does: the attention alone is judged. Verdicts: attention, and the number of layers attended, "
    "follow the factor (rank correlation beyond the control's, and a trend test); sinks lose half "
    "of their attention when the output is turned, and when it is short. At every dose the primary "
    "is active at the same layers."
)
REFUTATION = (
    "Attention that doesn't follow the factor, or that follows it at controls alike. The number of "
    "layers attended is capped by that of the model, so high doses tie."
)
CLAIM = "the longer what the forming MLPs write, the more attention the sink draws"
GROUPS = {"sink": "sinks", "control": "control tokens"}
PANELS = {
    "mass_edited": ("attention mass", "linear"),
    "lifetime_attention_edited": ("layers attended", "linear"),
    "lifetime_edited": ("lifetime, norm in it", "linear"),
}
CAPTIONS = {
    "figure": "Means over tokens, bands the 10th to 90th percentile. Factor 1 changes nothing.",
}


def run(observed: Observed) -> Finding:
    """Scale and rotate the output of the forming MLPs at each sink and its control."""
    return found(NAME, QUESTION, CLAIM, observed, ask, _figures, CAPTIONS)


def _figures(answer: Answer) -> Mapping[str, go.Figure]:
    doses = answer.cells[answer.cells["test"] == "dose"]
    frame = lines_by_group(doses, GROUPS, "role", "factor", list(PANELS))
    title = "factor on what the forming MLPs write"
    return {"figure": interval_lines(frame, PANELS, title, x_scale="log")}


main = main_of(run)

if __name__ == "__main__":
    main()
