"""Verdicts on readers: do the heads that read the primary also read secondary sinks?"""

from collections.abc import Mapping

import pandas as pd

from secondary_sinks.questions import format_exclusions, levels_in, verdict_of
from secondary_sinks.statistics import (
    HALF,
    Interval,
    median_over_texts,
    outcome_of,
    share_over_texts,
    too_few,
)
from secondary_sinks.types import SHARE_UNIT, Verdict

SINK_COLUMNS = (
    *("text_id", "pos", "token", "kind", "level", "control_pos", "n_heads", "n_sink"),
    *("n_primary", "n_control", "n_both", "share", "chance", "control_share"),
)
STATISTIC = (
    "share of the attention to a sink beyond the even share that comes from heads which read the "
    "primary in the same block, mean over texts"
)
CONTROLS = "as many heads drawn at random; the same share at token twins, or ordinary tokens nearby"
TESTS = 2
"""Intervals of each verdict: one against one half, one against random heads."""


def reader_verdicts(
    table: pd.DataFrame, left_out: Mapping[str, int], n_claims: int | None = None
) -> tuple[Verdict, ...]:
    """One verdict per level, from a table with a row per sink (`SINK_COLUMNS`).

    supported: the interval of the share lies above one half, and that of the share minus what as
    many random heads have (median over texts) lies above 0. contradicted: one of the two lies
    below. inconclusive: otherwise, and where every head reads the primary, so that the share could
    not be otherwise. Corrected for `n_claims`, by default twice the number of levels: two intervals
    are read.
    """
    known = table[table["share"].notna() & (table["chance"] < 1)]
    levels = levels_in(table)
    n_claims = n_claims or TESTS * max(len(levels), 1)
    if not levels:
        return (_verdict("secondary sinks", known, 0, left_out, n_claims),)
    return tuple(
        _verdict(
            name,
            part[part.index.isin(known.index)],
            len(part) - int(part.index.isin(known.index).sum()),
            left_out,
            n_claims,
        )
        for name, part in levels
    )


def _verdict(
    name: str, part: pd.DataFrame, n_all: int, left_out: Mapping[str, int], n_claims: int
) -> Verdict:
    texts = part["text_id"].tolist()
    found = share_over_texts(part["share"].astype(float), texts, n_claims=n_claims)
    beyond = median_over_texts(part["share"] - part["chance"], texts, n_claims=n_claims)
    lost = {**left_out, "read by no head, or in blocks where all heads read the primary": n_all}
    missing = too_few(found.n, found.n_texts, lost, n_claims)
    why = missing or (
        f"{found.value:.0%} of the attention comes from heads that read the primary, "
        f"{part['chance'].mean():.0%} from as many random heads (median difference "
        f"{beyond.value:.0%} [{beyond.low:.0%}, {beyond.high:.0%}]){_of_controls(part)}"
    )
    return verdict_of(
        f"most attention to {name} comes from heads that also read the primary",
        "inconclusive" if missing else _outcome(found, beyond),
        why,
        found,
        statistic=STATISTIC,
        unit=SHARE_UNIT,
        controls=CONTROLS + format_exclusions(lost),
        n_claims=n_claims,
    )


def _of_controls(part: pd.DataFrame) -> str:
    """The share at controls, as the end of a sentence; empty if no head reads any of them."""
    share = part["control_share"].mean()
    return "" if pd.isna(share) else f"; at controls {share:.0%}"


def _outcome(found: Interval, beyond: Interval) -> str:
    both = {outcome_of(found, HALF), outcome_of(beyond, 0.0)}
    if both == {"supported"}:
        return "supported"
    return "contradicted" if "contradicted" in both else "inconclusive"
