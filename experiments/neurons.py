"""How many neurons does a secondary sink need?"""

from typing import Annotated

from experiments.answers import answer_question
from experiments.command import main_of
from experiments.shared import Finding, Observed
from secondary_sinks.cli import number
from secondary_sinks.questions import BY_NAME

NAME = "neurons"
SPARSITY = BY_NAME["sparsity"]
QUESTION = SPARSITY.asks
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


def run(
    observed: Observed,
    *,
    few: Annotated[float, number("Share of neurons in the verdict.", least=0.0, most=1.0)] = 0.01,
) -> Finding:
    """Zero a few neurons of the forming MLPs at each sink, or all others."""
    return answer_question(SPARSITY, NAME, CLAIM, observed, few=few)


main = main_of(run)

if __name__ == "__main__":
    main()
