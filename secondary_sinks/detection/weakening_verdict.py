"""The verdict on primary weakening."""

from collections.abc import Mapping, Sequence

import numpy as np

from secondary_sinks.detection.contrasts import LEAST_QUERIES
from secondary_sinks.display import count
from secondary_sinks.statistics import CONFIDENCE, median_over_texts, min_texts, outcome_of
from secondary_sinks.types import Verdict, WeakeningContrast

CLAIM = "the primary sink weakens as secondary sinks arise"
FALLS = {"supported": "contradicted", "contradicted": "supported", "inconclusive": "inconclusive"}
"""Outcome by where the interval lies: the claim is about a fall, so below 0 supports it."""


def judge(
    found: Sequence[WeakeningContrast],
    left_out: Mapping[str, int],
    window: int,
    n_claims: int = 1,
) -> Verdict:
    """Verdict over the texts that have a partner; `why` mentions the others.

    `left_out` counts the texts with a secondary sink that are not in `found`, by the reason. The
    interval is corrected for `n_claims` claims.
    """
    paired = [one for one in found if one.control]
    repeating = [one for one in found if not one.control and one.n_before < LEAST_QUERIES]
    names = [one.text_id for one in paired]
    median = median_over_texts([one.difference for one in paired], names, n_claims=n_claims)
    return Verdict(
        claim=CLAIM,
        outcome=FALLS[outcome_of(median, 0.0)],
        why=_why(found, paired, left_out, min_texts(n_claims)),
        statistic=f"change of the attention paid to the primary ({window} layers from l_start on "
        f"minus {window} before): queries after the first secondary sink minus queries before it, "
        "minus the same without a sink; median over pairs of texts",
        unit="attention",
        value=median.value,
        low=median.low,
        high=median.high,
        confidence=CONFIDENCE,
        controls="another text without a secondary sink at these positions, each text in one pair "
        "only; queries whose tokens up to there stand in an earlier pair too are not compared "
        f"again; left out: {count(sum(left_out.values()), 'text')}{_reasons(left_out)}, and "
        f"{count(len(repeating), 'text')} with too few queries before the sink whose tokens up to "
        "there stand in no pair",
        n_sinks=len(paired),
        n_texts=len(paired),
        n_claims=n_claims,
        line=0.0,
    )


def _reasons(left_out: Mapping[str, int]) -> str:
    """Each reason with its number of texts."""
    words = ", ".join(f"{reason} ({number})" for reason, number in left_out.items())
    return f": {words}" if words else ""


def _why(
    found: Sequence[WeakeningContrast],
    paired: Sequence[WeakeningContrast],
    left_out: Mapping[str, int],
    least: int,
) -> str:
    if not found:
        return (
            f"none of {count(sum(left_out.values()), 'text')} with a secondary sink can be "
            f"compared{_reasons(left_out)}, so no claim is made"
        )
    before, after = (
        float(np.median([getattr(one, name) for one in found]))
        for name in ("change_before", "change_after")
    )
    changes = (
        f"at the creation layer, the attention paid to the primary changes by {after:+.3f} for "
        f"queries after the sink and by {before:+.3f} for queries before it "
        f"(medians over {count(len(found), 'text')})"
    )
    if len(paired) < least:
        return (
            f"{changes}; only {count(len(paired), 'text')} can be paired with a text without a "
            f"sink at the same positions, and at least {least} are needed: add texts, "
            "including some without secondary sinks"
        )
    control = float(np.median([one.change_control for one in paired]))
    matched = float(np.median([one.change_matched for one in paired]))
    return (
        f"{changes}; in {count(len(paired), 'pair')} of texts the difference between these changes "
        f"is {matched:+.3f} with a sink and {control:+.3f} without (medians)"
    )
