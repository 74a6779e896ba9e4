"""Does what the MLP writes at a sink make another token one?"""

from collections.abc import Mapping

import plotly.graph_objects as go

from experiments.answers import found
from experiments.command import main_of
from experiments.shared import Finding, Observed
from secondary_sinks import Answer, sufficiency
from secondary_sinks.plots import patch_heatmap, patch_table

NAME = "mlp_patching"
QUESTION = "Does what the MLP writes at a sink make another token one?"
PAPER = (
    "Claim of the paper (Wong et al. 2025, arXiv 2512.22213): middle-layer MLPs map a token onto "
    "the direction of the primary sink, which is what makes it a sink. Then their output should "
    "be enough."
)
METHOD = (
    "Patching in both directions. *Denoising* puts what the forming MLPs wrote at the sink into "
    "its control (a token twin, else the nearest ordinary token): does that become a sink by the "
    "criterion? Beside it the outputs of ordinary tokens at the same MLPs. *Noising* puts the "
    "control's output into the sink, beside the same patch at as many other MLPs. Each single "
    "layer too, which is the heat map."
)
REFUTATION = (
    "Controls that stay what they are, or that become sinks with outputs of ordinary tokens as "
    "well; sinks that live on with the control's output."
)
CLAIM = "what the forming MLPs write at a sink makes its control token one"
CAPTIONS = {
    "figure": (
        "Denoising, one row per sink: the share of the sink's lifetime that its control token gets "
        "from what the MLP of one layer wrote at the sink. At the right all forming MLPs at once, "
        "with the sink's outputs and with those of ordinary tokens. At most 60 sinks."
    ),
    "noising": (
        "Noising: the share of its lifetime that the sink loses by what the MLP of one layer wrote "
        "at its control. At the right all forming MLPs at once, and as many others."
    ),
}


def run(observed: Observed) -> Finding:
    """Patch the MLP outputs of each sink into its control token, and back."""

    def draw(answer: Answer) -> Mapping[str, go.Figure]:
        sinks, figures = observed.sinks.to_frame(), {}
        for name, patch in (("figure", "denoising"), ("noising", "noising")):
            table = patch_table(answer.cells, sinks, patch)
            figures[name] = patch_heatmap(table, patch, observed.n_layers)
        return figures

    return found(NAME, QUESTION, CLAIM, observed, sufficiency, draw, CAPTIONS)


main = main_of(run)

if __name__ == "__main__":
    main()
