"""Statistics over texts: intervals, tests, and the error rates that they promise.

The unit is the text. Sinks of one text share a model, a topic and often a cause, so they are no
independent observations; texts are assumed to be independent of each other.

function | statistic | its interval
---|---|---
`share_over_texts` | mean of the text means, of numbers within bounds | exact
`paired_share_over_texts` | share that happens at cases and not at their controls | exact
`median_over_texts` | median of the text means | exact
`mean_over_texts` | mean of the text means: each text weighs the same | approximate
`pooled_mean` | mean of all values: a text weighs by its number of values | approximate
`total_over_texts` | sum of counts over texts | approximate
`jackknife` | any function of a sum over texts, such as a ratio | approximate
`mean_and_percentiles` | mean over tokens | none: percentiles of tokens

*Exact*: with any number of texts and any distribution, each end is wrong with a probability of at
most 2.5 % divided by the number of claims. *Approximate*: a t interval, for descriptions and
figures; `outcome_of` refuses to base a verdict on it.

Tests: `page_trend_test` and `partial_correlation_within_texts` (permutations, exact p), and `holm`
for several p-values together. `chosen_before` chooses on the texts before each one, so that what
was chosen is judged exactly.
"""

from secondary_sinks.statistics.choice import chosen_before
from secondary_sinks.statistics.decisions import (
    HALF,
    MIN_SINKS,
    left_open_by_controls,
    outcome_of,
    too_few,
)
from secondary_sinks.statistics.descriptive import (
    MOST_TEXTS,
    effective_texts,
    jackknife,
    mean_and_percentiles,
    mean_over_texts,
    pooled_mean,
    total_over_texts,
)
from secondary_sinks.statistics.over_texts import (
    CONFIDENCE,
    DIFFERENCE,
    SHARE,
    Interval,
    claims_together,
    median_over_texts,
    min_texts,
    paired_share_over_texts,
    share_over_texts,
    tail_probability,
)
from secondary_sinks.statistics.permutations import (
    MIN_IN_TEXT,
    PERMUTATIONS,
    WithinTexts,
    holm,
    page_trend_test,
    partial_correlation_within_texts,
    rank_correlation,
)

__all__ = [
    "CONFIDENCE",
    "DIFFERENCE",
    "HALF",
    "MIN_IN_TEXT",
    "MIN_SINKS",
    "MOST_TEXTS",
    "PERMUTATIONS",
    "SHARE",
    "Interval",
    "WithinTexts",
    "chosen_before",
    "claims_together",
    "effective_texts",
    "holm",
    "jackknife",
    "left_open_by_controls",
    "mean_and_percentiles",
    "mean_over_texts",
    "median_over_texts",
    "min_texts",
    "outcome_of",
    "page_trend_test",
    "paired_share_over_texts",
    "partial_correlation_within_texts",
    "pooled_mean",
    "rank_correlation",
    "share_over_texts",
    "tail_probability",
    "too_few",
    "total_over_texts",
]
