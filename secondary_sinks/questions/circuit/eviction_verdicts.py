"""Verdicts on eviction: are secondary sinks worth their place in the cache?"""

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from secondary_sinks.questions.answer import judge
from secondary_sinks.statistics import median_over_texts
from secondary_sinks.types import Verdict

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
SAME = "in texts in which the secondary sinks are the heavy hitters"
"""Reason to leave out sinks: where the loss counts, the cache is the same with either kept."""
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
    interval of the median over texts lies above `LINE`, and so does that of what the secondary
    sinks do alone, compared with the cache that only differs in them; contradicted: the first lies
    below. Texts whose caches
    are the same with either kept are left out of the third. Corrected for `n_claims`.
    """
    rises, still = _by_text(losses), _by_text(losses, "n_secondary")["kept"]
    differs = still["primary and heavy hitters"] < still["primary and secondary"]
    dropped, kept = rises["dropped"], rises["kept"][differs]
    lost, left = ({name: f"{one[name].median():+.2%}" for name in one} for one in (dropped, kept))
    n_sinks = losses.groupby("text_id")["n_sinks"].first()

    def verdict(
        claim: str,
        more: "pd.Series[float]",
        alone: "pd.Series[float]",
        difference: str,
        why: str,
    ) -> Verdict:
        found, least = (
            median_over_texts(one, one.index.tolist(), n_claims=n_claims) for one in (more, alone)
        )
        n_same = int(n_sinks.sum() - n_sinks[more.index].sum())
        return judge(
            claim,
            replace(found, n=int(n_sinks[more.index].sum())),
            lambda: f"the loss changes by {why} (medians over texts)",
            statistic=f"rise of the loss as a share of the clean loss, {difference}, median over "
            "texts",
            controls="the same number of keys",
            left_out={**left_out, SAME: n_same},
            n_claims=n_claims,
            line=LINE,
            least=least,
        )

    return (
        verdict(
            DROP,
            dropped["secondary"] - dropped["random"],
            dropped["secondary"],
            "secondary sinks minus random keys",
            f"{lost['secondary']} without the secondary sinks, {lost['random']} without random "
            f"keys, {lost['heavy hitters']} without heavy hitters, {lost['recent']} without recent "
            "tokens",
        ),
        verdict(
            DROP_BOTH,
            dropped["primary and secondary"] - dropped["primary and random"],
            dropped["primary and secondary"] - dropped["primary"],
            "secondary sinks minus random keys, the primary dropped with both",
            f"{lost['primary']} without the primary, {lost['primary and secondary']} without the "
            f"secondary sinks too, {lost['primary and random']} without random keys too",
        ),
        verdict(
            KEEP,
            kept["primary and heavy hitters"] - kept["primary and secondary"],
            kept["primary"] - kept["primary and secondary"],
            "heavy hitters kept minus secondary sinks kept",
            f"{left['primary']} with the primary and a recent window only, by "
            f"{left['primary and secondary']} with the secondary sinks kept too, by "
            f"{left['primary and heavy hitters']} with heavy hitters instead",
        ),
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
