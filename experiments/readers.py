"""Which heads read secondary sinks, do they read the primary too, and what makes the score?"""

from experiments.answers import answer_question
from experiments.command import main_of
from experiments.shared import Finding, Observed
from secondary_sinks.questions import READER_HEADS

NAME = "readers"
QUESTION = READER_HEADS.asks
PAPER = (
    "Wong et al. 2025 (arXiv 2512.22213) average attention over heads: they do not say which heads "
    "attend to secondary sinks, or whether these are the heads of the primary."
)
METHOD = (
    "One more pass, in the blocks that read each sink. A head reads a token if later queries pay "
    "it on average at least twice their even share and twice the median of its neighbours. The "
    "score of a head on a sink is split into parts that add up: the key's bias, the component of "
    "the token along the primary, the rest of the token, and rotary positions. Verdicts, per "
    "level: most attention beyond the even share comes from heads that also read the primary, and "
    "more of it than from as many heads drawn at random; heads that attend more to the primary "
    "attend more to the sinks (rank correlation, beyond that at control tokens). Exact intervals "
    "over texts, two for each verdict."
)
REFUTATION = (
    "Other heads than those of the primary pay most of it; or heads that attend more to the "
    "primary attend less to the sinks, and less than to control tokens. Where as many heads drawn "
    "at random pay as much, or the controls have the same correlation, nothing is shown or "
    "refuted. Blocks where all heads read the primary, or none does, leave the first claim no "
    "choice and do not count."
)
CLAIM = "most attention to secondary sinks comes from heads that also read the primary"
COLUMNS = {
    "row": "level of the sinks",
    "series": "whose attention: heads that read the primary; what as many heads drawn at random "
    "have on average; the same heads at the sinks' control tokens",
    "value": "share of the attention beyond the even share, in [0, 1], mean over texts",
    "low": "lower end of its approximate 95 % interval over texts",
    "high": "upper end of it",
    "n_texts": "number of texts",
}


def run(observed: Observed) -> Finding:
    """Attention and scores of every head on each secondary sink."""
    return answer_question(READER_HEADS, NAME, CLAIM, observed, COLUMNS)


main = main_of(run)

if __name__ == "__main__":
    main()
