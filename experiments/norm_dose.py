"""Does a sink depend on the direction or on the norm of the MLP output that forms it?"""

from experiments.answers import answer_question
from experiments.command import main_of
from experiments.shared import Finding, Observed
from secondary_sinks.questions import BY_NAME

NAME = "norm_dose"
DOSE = BY_NAME["norm_dose"]
QUESTION = DOSE.asks
PAPER = (
    "Claim of the paper (Wong et al. 2025, arXiv 2512.22213): the norm of the MLP's output "
    "determines the sink score and the lifetime of the sink. The paper shows a correlation across "
    "sinks (see `norm_and_score`); this experiment intervenes."
)
METHOD = (
    "The output of the MLP of the creation layer is scaled by factors from 1/16 to 4, at each sink "
    "and at its control token. Other MLPs that a sink needs are left alone: scaled, they would "
    "change what this MLP reads. The output is also rotated by 90 degrees to random directions, at "
    "the same norm. A sink has a large norm by definition, so its lifetime depends on the norm in "
    "any model: only attention is tested. Verdicts: attention, and the number of layers attended, "
    "follow the factor where it is 1 or more (rank correlation minus the control's, a trend test, "
    "and a gain of more than a tenth at 4 times the norm), and they follow it at the sinks alone "
    "too. Factors below 1 take the output away, so they enter the curves alone: whatever needs the "
    "output at all follows them. Sinks lose half of their attention if the output is rotated by 90 "
    "degrees, which leaves nothing along its own direction, and if it is scaled down to 1/16; and "
    "they do not if the same is done to the MLP before. The primary is active at the same layers "
    "at every factor."
)
REFUTATION = (
    "Attention falls where the factor rises above 1, both at sinks and compared with controls. If "
    "it does not change, or changes just as much at controls, nothing is shown or refuted. The "
    "number of layers attended cannot exceed that of the model, so large factors give ties."
)
CLAIM = "sinks draw more attention if the MLP output of their creation layer is scaled up"


def run(observed: Observed) -> Finding:
    """Scale and rotate the output of the MLP of the creation layer at each sink and its control."""
    return answer_question(DOSE, NAME, CLAIM, observed)


main = main_of(run)

if __name__ == "__main__":
    main()
