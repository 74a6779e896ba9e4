"""The verdict on primary weakening."""

import math
from collections.abc import Sequence

from secondary_sinks.types import Verdict, WeakeningChange

LEAST_SINKS, LEAST_TEXTS = 5, 3
ALPHA = 0.05
CLAIM = "the primary sink weakens as secondary sinks arise"


def judge(
    changes: Sequence[WeakeningChange],
    n_arrangements: float,
    n_blocks: int,
    n_left_out: int,
    window: int,
    confidence: float,
) -> Verdict:
    """Verdict on the change of the primary's mass; the other measures are told beside it."""
    mass = next(change for change in changes if change.measure == "mass")
    outcome, why = _outcome(mass, n_arrangements, len(changes), window)
    others = [_words(c) for c in changes if c.measure != "mass" and not math.isnan(c.change)]
    return Verdict(
        claim=CLAIM,
        outcome=outcome,
        why="; ".join([why, *others]),
        statistic=f"mean mass over {window} layers from l_start on, less that over {window} before",
        value=mass.change,
        low=mass.low,
        high=mass.high,
        confidence=confidence,
        controls=f"creation layers moved to random layers of the primary's span: {n_blocks} "
        f"block(s), {n_arrangements:,.0f} arrangement(s); {n_left_out} sink(s) without a whole "
        "window left out",
        n_sinks=mass.n_sinks,
        n_texts=mass.n_texts,
    )


def _outcome(
    mass: WeakeningChange, n_arrangements: float, n_measures: int, window: int
) -> tuple[str, str]:
    if mass.n_sinks < LEAST_SINKS or mass.n_texts < LEAST_TEXTS:
        return "inconclusive", (
            f"{mass.n_sinks} sink(s) in {mass.n_texts} text(s) have {window} layer(s) of an active "
            f"primary before and after; at least {LEAST_SINKS} in {LEAST_TEXTS} are needed"
        )
    told = _words(mass)
    if mass.low > 0:
        return "contradicted", told
    if n_measures > ALPHA * n_arrangements:
        return "inconclusive", (
            f"{told}, but the creation layers can be arranged in {n_arrangements:,.0f} way(s) "
            f"only; at least {n_measures / ALPHA:.0f} are needed"
        )
    if mass.high < 0 and mass.p_adjusted <= ALPHA:
        return "supported", told
    if mass.high < 0:
        return "inconclusive", f"{told}: no more than at other layers of the primary's span"
    return "inconclusive", f"{told}: the interval includes no change"


def _words(change: WeakeningChange) -> str:
    name = change.measure.replace("_", " ")
    p = "" if math.isnan(change.p_adjusted) else f", corrected p = {change.p_adjusted:.2g}"
    return f"its {name} goes from {change.before:.3g} to {change.after:.3g}{p}"
