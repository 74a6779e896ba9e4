"""Numbers of sinks here and there: the share of each text, and what all texts together say."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from secondary_sinks.statistics import Interval, jackknife, outcome_of, share_over_texts

Counts = NDArray[np.int64]
OPPOSITE = "all texts together say the opposite of most texts, so the claim stays open"
"""A few texts with many sinks outweigh the others: "more" is then true of texts, not of sinks."""


def share_of_sinks(
    here: Counts, there: Counts, texts: "pd.Series[str]", n_claims: int = 1
) -> Interval:
    """Share of a text's sinks that are `here`, not `there`: mean over texts with its interval."""
    values = np.repeat([1.0, 0.0] * len(here), np.stack([here, there], axis=1).ravel())
    names = np.repeat(texts.to_numpy(), here + there).tolist()
    return share_over_texts(values, names, n_claims=n_claims)


def beside_totals(found: Interval, here: float, there: float) -> tuple[str, str]:
    """Outcome of a share by text, and why it is open where the totals say the opposite.

    "supported" needs more in all `here` than in all `there`, "contradicted" needs fewer.
    """
    outcome = outcome_of(found)
    against = {"supported": here <= there, "contradicted": here >= there}
    return ("inconclusive", OPPOSITE) if against.get(outcome, False) else (outcome, "")


def with_unmatched(
    more: "pd.Series[float]", unmatched: "pd.Index[str]", n_claims: int
) -> tuple[Interval, Interval]:
    """Share of questions with more: if the unmatched count against it, and if they count for it.

    `more` has, by question, what the rule has more than the control, where the two differ.
    """
    texts = more.index.union(unmatched)
    found = pd.Series(more > 0).reindex(texts, fill_value=False)
    alone = ~texts.isin(unmatched)
    least = share_over_texts(found & alone, texts.tolist(), n_claims=n_claims)
    return least, share_over_texts(found | ~alone, texts.tolist(), n_claims=n_claims)


def rates_by(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """Sinks per 10,000 tokens by a column, with approximate intervals, used in no verdict."""
    rows: list[dict[str, Any]] = []
    for name, part in frame.groupby(column, sort=False):
        sums = part[["n_sinks", "n_tokens"]].dropna().to_numpy(dtype=float)
        rate = jackknife(sums, lambda total: float(1e4 * total[0] / total[1]))
        low = max(rate.low, 0.0)
        rows.append({"row": name, "series": "", "value": rate.value, "low": low, "high": rate.high})
    return pd.DataFrame(rows)
