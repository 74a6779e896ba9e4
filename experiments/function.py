"""Are secondary sinks no-ops, or do their values tell later tokens something?"""

from experiments.answers import answer_question
from experiments.command import main_of
from experiments.shared import Finding, Observed
from secondary_sinks.questions import FUNCTION

NAME = "function"
QUESTION = FUNCTION.asks
PAPER = (
    "Wong et al. 2025 (arXiv 2512.22213) call these tokens sinks, as others call tokens that take "
    "attention and give nothing; their scripts do not measure what their values give."
)
METHOD = (
    "One sink at a time, in the blocks that read it, for all later queries: they do not see the "
    "sink; or they attend to it and get nothing; or they get the mean value of ordinary tokens "
    "instead. Everything after the sink is run again. The same is done with ordinary keys drawn at "
    "random until later queries pay them as much attention, and with the primary. A sink is a "
    "no-op if a head writes less for it, per unit of attention, than for the ordinary keys, and it "
    "tells later predictions less; a broadcast if both are more. What a value tells is the KL when "
    "it is replaced by nothing or by the mean, whichever changes less: a part that all values "
    "share tells nothing. Verdict, per level, with exact intervals over texts."
)
REFUTATION = (
    "Most sinks deliver more than ordinary keys of equal attention, and predictions depend more on "
    "their values. One alone refutes nothing: what several keys tell may cancel, or add up. A sink "
    "with more attention than all ordinary keys together has no control: it is left out, and "
    "counted."
)
CLAIM = "secondary sinks are no-ops: they take attention and tell less than ordinary keys would"
COLUMNS = {
    "panel": "what later queries do not get: attention, value, or mean_value (they get the mean "
    "value of ordinary tokens instead of it)",
    "group": "whose: secondary sinks, ordinary keys of equal attention, or the primary",
    "x": "distance of the position that predicts from the sink, in tokens",
    "value": "KL(clean || cut) in nats, mean over positions, then over texts",
    "low": "lower end of its approximate 95 % interval over texts",
    "high": "upper end of it",
    "loss_rise": "rise of the loss in nats, mean over texts",
    "n_texts": "number of texts",
}


def run(observed: Observed) -> Finding:
    """Cut off the attention to one sink at a time, or its value, and run the rest again."""
    return answer_question(FUNCTION, NAME, CLAIM, observed, COLUMNS)


main = main_of(run)

if __name__ == "__main__":
    main()
