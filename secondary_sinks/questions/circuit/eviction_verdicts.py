"""Verdicts on eviction: are secondary sinks worth their place in the cache?"""

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from secondary_sinks.questions.answer import format_exclusions, verdict_of
from secondary_sinks.statistics import Interval, median_over_texts, outcome_of, too_few
from secondary_sinks.types import SHARE_UNIT, Verdict

LINE = 0.01
"""A change of the loss counts if it is at least this share of the clean loss."""
N_CLAIMS = 3
DROPPED = (
    *("secondary", "random", "heavy hitters", "recent", "primary"),
    *("primary and secondary", "primary and random"),
)
KEPT = ("primary", "primary and secondary", "primary and heavy hitters")
CACHES = [*(("dropped", name) for name in DROPPED), *(("kept", name) for name in KEPT)]
EFFECTS = ("cache", "keys", "rise", "low", "high", "kl", "n_texts")
DROP = (
    "dropping the secondary sinks from the cache raises the loss by 1% or more, beyond the rise "
    "without as many random keys"
)
DROP_BOTH = (
    "with the primary dropped, dropping the secondary sinks too raises the loss by 1% or more, "
    "beyond the rise with as many random keys dropped too"
)
KEEP = (
    "next to the primary and a recent window, keeping the secondary sinks lowers the loss by 1% or "
    "more, compared with keeping as many heavy hitters"
)


def eviction_verdicts(
    losses: pd.DataFrame, left_out: Mapping[str, int], n_claims: int
) -> tuple[Verdict, ...]:
    """Is dropping secondary sinks worse than dropping random keys, and keeping them better?

    With and without the primary; from a table with a row per text and cache. supported: the
    interval of the median over texts lies above `LINE`; contradicted: below. Corrected for
    `n_claims`.
    """
    return (
        _verdict(DROP, *_dropping(losses, n_claims), left_out, n_claims),
        _verdict(DROP_BOTH, *_dropping_both(losses, n_claims), left_out, n_claims),
        _verdict(KEEP, *_keeping(losses, n_claims), left_out, n_claims),
    )


def _by_text(losses: pd.DataFrame, column: str = "rise") -> pd.DataFrame:
    """One row per text, one column per cache; mean over draws."""
    keys = [losses["text_id"], losses["cache"], losses["keys"]]
    whole = losses[column].astype(float).groupby(keys).mean().unstack(["cache", "keys"])
    return whole.reindex(columns=pd.MultiIndex.from_tuples(CACHES))


def effects_of(losses: pd.DataFrame) -> pd.DataFrame:
    """Medians over texts, one row per cache; intervals are not corrected for several rows."""
    if losses.empty:
        return pd.DataFrame(columns=list(EFFECTS))
    rises, kl, rows = _by_text(losses), _by_text(losses, "kl"), []
    for cache, keys in CACHES:
        found = median_over_texts(rises[cache, keys], rises.index.tolist())
        rows.append((cache, keys, found.value, found.low, found.high, kl[cache, keys].median()))
    return pd.DataFrame(rows, columns=list(EFFECTS[:-1])).assign(n_texts=len(rises))


def _dropping(losses: pd.DataFrame, n_claims: int) -> tuple[Interval, str, str]:
    rises = _by_text(losses)["dropped"]
    words = {name: f"{rises[name].median():+.2%}" for name in DROPPED}
    why = (
        f"the loss changes by {words['secondary']} without the secondary sinks, "
        f"{words['random']} without random keys, {words['heavy hitters']} without heavy hitters, "
        f"{words['recent']} without recent tokens (medians over texts)"
    )
    beyond = rises["secondary"] - rises["random"]
    return _over_texts(losses, beyond, n_claims), why, "secondary sinks minus random keys"


def _dropping_both(losses: pd.DataFrame, n_claims: int) -> tuple[Interval, str, str]:
    rises = _by_text(losses)["dropped"]
    words = {name: f"{rises[name].median():+.2%}" for name in DROPPED}
    why = (
        f"the loss changes by {words['primary']} without the primary, "
        f"{words['primary and secondary']} without the secondary sinks too, "
        f"{words['primary and random']} without random keys too (medians over texts)"
    )
    beyond = rises["primary and secondary"] - rises["primary and random"]
    difference = "secondary sinks minus random keys, the primary dropped with both"
    return _over_texts(losses, beyond, n_claims), why, difference


def _keeping(losses: pd.DataFrame, n_claims: int) -> tuple[Interval, str, str]:
    rises = _by_text(losses)["kept"]
    words = {name: f"{rises[name].median():+.2%}" for name in KEPT}
    why = (
        f"the loss changes by {words['primary']} with the primary and a recent window only, by "
        f"{words['primary and secondary']} with the secondary sinks kept too, by "
        f"{words['primary and heavy hitters']} with heavy hitters instead (medians over texts)"
    )
    better = rises["primary and heavy hitters"] - rises["primary and secondary"]
    return (
        _over_texts(losses, better, n_claims),
        why,
        "heavy hitters kept minus secondary sinks kept",
    )


def _over_texts(losses: pd.DataFrame, values: "pd.Series[float]", n_claims: int) -> Interval:
    found = median_over_texts(values, values.index.tolist(), n_claims=n_claims)
    return replace(found, n=int(losses.groupby("text_id")["n_sinks"].first().sum()))


def _verdict(
    claim: str,
    found: Interval,
    why: str,
    difference: str,
    left_out: Mapping[str, int],
    n_claims: int,
) -> Verdict:
    missing = too_few(found.n, found.n_texts, left_out, n_claims)
    return verdict_of(
        claim,
        "inconclusive" if missing else outcome_of(found, LINE),
        missing or why,
        found,
        statistic=f"rise of the loss as a share of the clean loss, {difference}, median over texts",
        unit=SHARE_UNIT,
        controls="the same number of keys" + format_exclusions(left_out),
        n_claims=n_claims,
        line=LINE,
    )
