"""Verdicts on readers: do the heads that read the primary also read secondary sinks?"""

from collections.abc import Mapping

import pandas as pd

from secondary_sinks.questions.answer import AT_CONTROLS, judge, judge_beyond
from secondary_sinks.questions.writers import judged_levels
from secondary_sinks.statistics import (
    HALF,
    Interval,
    median_over_texts,
    outcome_of,
    share_over_texts,
)
from secondary_sinks.types import SHARE_UNIT, Verdict

SINK_COLUMNS = (
    *("text_id", "pos", "token", "kind", "level", "control_pos", "n_heads", "n_sink"),
    *("n_primary", "n_control", "n_both", "share", "chance", "share_of_all", "control_share"),
    *("rank", "control_rank"),
)
STATISTIC = (
    "share of the attention to a sink beyond the even share that comes from heads which read the "
    "primary in the same block, in blocks where some heads read it and others do not; mean over "
    "texts"
)
CONTROLS = (
    "as many heads of the same blocks, drawn at random; the same share at token twins, or ordinary "
    "tokens nearby"
)
RANKS = (
    "rank correlation over the heads of a block of their attention to the sink and to the primary, "
    "mean over blocks, median over texts"
)
RANK_CONTROLS = "the same correlation at token twins, or ordinary tokens nearby"
OPEN = "read by no head, or only in blocks where all heads, or no head, read the primary"
NO_LOWER = (
    "without any relation it is below 0 as well, and it is not shown to lie below that at "
    "controls, so the claim is neither shown nor refuted"
)
IN_ALL = "counting blocks too where all heads read the primary, so the claim is not refuted"
NO_RANKS = "in blocks where all heads attend alike to the primary"
TESTS = 4
"""Intervals of each level: two verdicts, each held against a line and a control."""


def reader_verdicts(
    table: pd.DataFrame, left_out: Mapping[str, int], n_claims: int
) -> tuple[Verdict, ...]:
    """Two verdicts per level, from a table with a row per sink (`SINK_COLUMNS`).

    *Most attention comes from heads that also read the primary*. supported: the interval of the
    share lies above one half, and that of the share minus what as many random heads have (median
    over texts) lies above 0. Blocks where every head reads the primary, or none does, are left out,
    since the share could not be otherwise there. Where most heads read the primary it tells little,
    so:

    *Heads that attend more to the primary attend more to the sinks*. supported: the interval of the
    rank correlation over heads lies above 0, and that of the correlation minus the control's too.
    The attention of a head adds up to 1, so more to one token leaves less for another: without any
    relation the correlation is below 0. contradicted: so only if both intervals lie below 0.

    The share is contradicted if its interval lies below one half, whatever the control does, and
    that of the share in all blocks too (`judge_beyond`): blocks that cannot support the claim can
    still speak for it. inconclusive: otherwise; the verdict says so where the control, or the other
    blocks, are why. All are corrected for `n_claims` intervals; each level has `TESTS`.
    """
    return tuple(
        judge(name, part, left_out, n_claims)
        for name, part in judged_levels(table)
        for judge in (_from_readers, _by_rank)
    )


def _from_readers(
    name: str, part: pd.DataFrame, left_out: Mapping[str, int], n_claims: int
) -> Verdict:
    known = part[part["share"].notna() & part["chance"].between(0, 1, "neither")]
    texts = known["text_id"].tolist()
    found = share_over_texts(known["share"].astype(float), texts, n_claims=n_claims)
    beyond = median_over_texts(known["share"] - known["chance"], texts, n_claims=n_claims)
    most = share_over_texts(known["share_of_all"].astype(float), texts, n_claims=n_claims)
    at_controls = known["control_share"].mean()  # NaN if no head reads any of them
    why = (
        f"{found.value:.0%} of the attention comes from heads that read the primary, "
        f"{known['chance'].mean():.0%} from as many random heads (median difference "
        f"{_in_words(beyond, '.0%')})"
        + ("" if pd.isna(at_controls) else f"; at controls {at_controls:.0%}")
        + (f"; {most.value:.0%} {IN_ALL}" if found.high < HALF <= most.high else "")
    )
    return judge_beyond(
        f"most attention to {name} comes from heads that also read the primary",
        found,
        beyond,
        why,
        left_out={**left_out, OPEN: len(part) - len(known)},
        statistic=STATISTIC,
        unit=SHARE_UNIT,
        controls=CONTROLS,
        n_claims=n_claims,
        most=most,
    )


def _by_rank(name: str, part: pd.DataFrame, left_out: Mapping[str, int], n_claims: int) -> Verdict:
    known = part[part["rank"].notna() & part["control_rank"].notna()]
    own, control = known["rank"].astype(float), known["control_rank"].astype(float)
    texts = known["text_id"].tolist()
    found = median_over_texts(own, texts, n_claims=n_claims)
    beyond = median_over_texts(own - control, texts, n_claims=n_claims)
    why = (
        f"rank correlation with the attention to the primary {own.median():.2f} at sinks, "
        f"{control.median():.2f} at controls (medians over sinks; median difference over texts "
        f"{_in_words(beyond, '.2f')})"
    )
    outcome, left_open = _of_both(found, beyond)
    return judge(
        f"heads that attend more to the primary attend more to {name}",
        found,
        "; ".join(filter(None, [why, left_open])),
        line=0.0,
        outcome=outcome,
        left_out={**left_out, NO_RANKS: len(part) - len(known)},
        statistic=RANKS,
        unit="rank correlation",
        controls=RANK_CONTROLS,
        n_claims=n_claims,
    )


def _of_both(found: Interval, beyond: Interval) -> tuple[str, str]:
    """Outcome of a correlation and its difference from the control, and why the control opens it.

    A correlation below 0 alone refutes nothing: attention adds up to 1.
    """
    own, difference = (outcome_of(one, 0.0) for one in (found, beyond))
    if own == difference:
        return own, AT_CONTROLS if own == "inconclusive" and beyond.high <= 0 else ""
    if own == "contradicted":
        return "inconclusive", NO_LOWER
    return "inconclusive", AT_CONTROLS if beyond.high <= 0 else ""


def _in_words(found: Interval, form: str) -> str:
    return f"{found.value:{form}} [{found.low:{form}}, {found.high:{form}}]"
