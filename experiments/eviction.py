"""What does it cost to drop secondary sinks from the cache, or to keep little else?"""

from typing import Annotated

from experiments.answers import answer_question
from experiments.command import main_of
from experiments.shared import Finding, Observed
from secondary_sinks.cli import whole
from secondary_sinks.questions import EVICTION

NAME = "eviction"
QUESTION = EVICTION.asks
PAPER = (
    "Wong et al. 2025 (arXiv 2512.22213) remove no token. That a cache must keep the first tokens "
    "is known (Xiao et al. 2023, arXiv 2309.17453), and so is the use of heavy hitters, keys with "
    "much attention (Zhang et al. 2023, arXiv 2306.14048)."
)
METHOD = (
    "At all layers, queries more than a window after a key do not see it. Dropped are the "
    "secondary sinks of a text, its primary, both, or as many heavy hitters, random keys or tokens "
    "directly before the query. Kept with the window are only the primary, the primary and the "
    "secondary sinks, or the primary and as many heavy hitters: of all keys that have left the "
    "window of a query, sinks too, those with the most attention over the whole text, layers and "
    "heads together; a key that is dropped stays dropped. (Dropped heavy hitters are ordinary "
    "tokens, as the random keys are.) Measured is the loss at positions at which every dropped key "
    "is gone, as a share of the clean loss. Verdicts, about medians "
    "over texts with exact intervals: dropping secondary sinks raises the loss by 1% or more "
    "beyond random keys, and so it does with the primary dropped too; keeping them lowers it by 1% "
    "or more, compared with heavy hitters, in texts in which these are other keys."
)
REFUTATION = (
    "The loss rises as much without as many random keys, or is as low with heavy hitters kept. "
    "Texts no longer than the window after their last sink cannot be tested: they are left out. So "
    "are, of the last verdict, texts in which the secondary sinks are the heavy hitters."
)
CLAIM = "dropping the secondary sinks from the cache raises the loss more than dropping random keys"
COLUMNS = {
    "row": "dropped: these keys are missing; kept: all but these and the recent window are",
    "series": "dropped or kept",
    "value": "rise of the loss as a share of the clean loss, median over texts",
    "low": "lower end of its exact 95 % interval over texts, not corrected for several rows",
    "high": "upper end of it",
    "n_texts": "number of texts",
}


def run(
    observed: Observed,
    *,
    window: Annotated[int, whole("Number of recent tokens that are never dropped.", least=1)] = 64,
) -> Finding:
    """Drop keys from the cache, or keep only a few, and run each text again."""
    return answer_question(EVICTION, NAME, CLAIM, observed, COLUMNS, window=window)


main = main_of(run)

if __name__ == "__main__":
    main()
