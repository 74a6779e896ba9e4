"""Does the MLP output at a sink make another token a sink?"""

from experiments.answers import answer_question
from experiments.command import main_of
from experiments.shared import Finding, Observed
from secondary_sinks.questions import BY_NAME

NAME = "mlp_patching"
SUFFICIENCY = BY_NAME["sufficiency"]
QUESTION = SUFFICIENCY.asks
PAPER = (
    "Claim of the paper (Wong et al. 2025, arXiv 2512.22213): middle-layer MLPs map a token onto "
    "the direction of the primary sink, which is what makes it a sink. Then their output should "
    "be enough."
)
METHOD = (
    "Patching in both directions. *Denoising* patches the output of the MLP of the creation layer "
    "at the sink into its control (a token twin, else the nearest ordinary token): does the "
    "control become a sink by the criterion? Compared with patching in the outputs of the same MLP "
    "at ordinary tokens. *Noising* patches the control's outputs of the forming MLPs into the "
    "sink, compared with the same patch at the same number of other MLPs; with fewer of them, "
    "nothing is supported. A sink ends if it no longer meets the criterion and draws less than "
    "half of its attention. Both are repeated with all forming MLPs and for every single layer, "
    "shown as heat maps."
)
REFUTATION = (
    "Controls do not become sinks, or also become sinks with the outputs of ordinary tokens; sinks "
    "survive with the control's outputs."
)
CLAIM = "the output of the MLP of its creation layer at a sink makes another token a sink"


def run(observed: Observed) -> Finding:
    """Patch the MLP outputs of each sink into its control token, and back."""
    return answer_question(SUFFICIENCY, NAME, CLAIM, observed)


main = main_of(run)

if __name__ == "__main__":
    main()
