"""Which MLPs do secondary sinks need?"""

from typing import Annotated, Any

import typer

from experiments.answers import answer_question
from experiments.command import main_of
from experiments.shared import Finding, Observed
from secondary_sinks.questions import BY_NAME

NAME = "mlp_ablation"
NECESSITY = BY_NAME["necessity"]
QUESTION = NECESSITY.asks
PAPER = (
    "Claim of the paper (Wong et al. 2025, arXiv 2512.22213): specific middle-layer MLPs form "
    "secondary sinks. The paper infers this from the directions of vectors, without ablations."
)
METHOD = (
    "At each secondary sink, at its control (a token twin, else the nearest ordinary token) and "
    "at an ordinary token of similar position and norm, the MLP of one layer is ablated at that "
    "token only: its output is replaced by zero, by its mean over ordinary tokens, by its output "
    "at random ordinary tokens, or by its mean at token twins, which alone keeps what it says "
    "about which token this is. The token's lifetime as a sink and the attention it draws are "
    "compared before and after. Statistic of a layer: the share of sinks that end, among those "
    "that the layer could have ended; the attention they lose must also exceed that of controls. "
    "Intervals over texts, corrected for the number of layers that could end a sink: those up to "
    "the last creation layer. A second verdict ablates together the MLPs that formed sinks in "
    "earlier texts, compared with the same number of other MLPs that could have ended the sink: "
    "a sink ends if it no longer meets the criterion and draws less than half of its attention. "
    "One with too few other MLPs supports nothing."
)
REFUTATION = (
    "Whichever single MLP is ablated, half of the sinks or more survive, or controls lose as much "
    "attention as sinks. If the ways to ablate disagree, the verdict is inconclusive."
)
CLAIM = "the MLP of one layer forms most secondary sinks"


def run(
    observed: Observed,
    *,
    edit: Annotated[
        str, typer.Option(help="zero, mean, resample or mean:twins. Default: all.")
    ] = "",
) -> Finding:
    """Ablate every MLP at every secondary sink and its controls, then compare."""
    asked: dict[str, Any] = {"edits": (edit,)} if edit else {}
    return answer_question(NECESSITY, NAME, CLAIM, observed, **asked)


main = main_of(run)

if __name__ == "__main__":
    main()
