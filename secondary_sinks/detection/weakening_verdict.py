"""The verdict on primary weakening."""

from collections.abc import Sequence

import numpy as np

from secondary_sinks.statistics import CONFIDENCE, min_texts, sign_flip_interval
from secondary_sinks.types import Verdict, WeakeningContrast

CLAIM = "the primary sink weakens as secondary sinks arise"


def judge(found: Sequence[WeakeningContrast], n_left_out: int, window: int) -> Verdict:
    """Verdict over the texts that have a partner; `why` mentions the others."""
    paired = [one for one in found if one.control]
    value, low, high = sign_flip_interval(np.array([one.difference for one in paired]))
    outcome = "supported" if high < 0 else "contradicted" if low > 0 else "inconclusive"
    return Verdict(
        claim=CLAIM,
        outcome=outcome,
        why=_why(found, paired),
        statistic=f"attention paid to the primary: {window} layers from l_start on less {window} "
        "before, queries after the first secondary sink less queries before it, less the same "
        "without a sink",
        unit="attention",
        value=value,
        low=low,
        high=high,
        confidence=CONFIDENCE,
        controls="another text without a secondary sink at these positions, each text in one pair "
        f"only; {n_left_out} text(s) without a whole window of an active primary, or with too few "
        "queries around the sink, left out",
        n_sinks=len(paired),
        n_texts=len(paired),
        line=0.0,
    )


def _why(found: Sequence[WeakeningContrast], paired: Sequence[WeakeningContrast]) -> str:
    if not found:
        return (
            "no text has a secondary sink with layers of an active primary before and after its "
            "creation, so nothing is claimed"
        )
    before, after = (
        float(np.mean([getattr(one, name) for one in found]))
        for name in ("change_before", "change_after")
    )
    told = (
        f"from before to after the creation layer, what queries pay to the primary changes by "
        f"{after:+.3f} after the sink and by {before:+.3f} before it ({len(found)} text(s))"
    )
    if len(paired) < min_texts():
        return (
            f"{told}; but {len(paired)} text(s) have a partner without a sink at the same "
            f"positions, at least {min_texts()} are needed: add texts, also some without secondary "
            "sinks"
        )
    control = float(np.mean([one.change_control for one in paired]))
    matched = float(np.mean([one.change_matched for one in paired]))
    return (
        f"{told}; in {len(paired)} pair(s) of texts the difference of both is {matched:+.3f} with "
        f"a sink and {control:+.3f} without"
    )
