"""Verdicts on what secondary sinks are for: no-op or broadcast?"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from secondary_sinks.display import count
from secondary_sinks.questions.answer import judge
from secondary_sinks.questions.writers import judged_levels
from secondary_sinks.statistics import HALF, outcome_of, share_over_texts
from secondary_sinks.types import Verdict

_MEASURES = (
    *("delivered", "kl_without_attention", "loss_without_attention", "kl_without_value"),
    *("loss_without_value", "kl_with_mean_value", "loss_with_mean_value"),
)
SINK_COLUMNS = (
    *("text_id", "pos", "token", "kind", "level", "attention", "n_keys"),
    *_MEASURES,
    *(f"{name}_control" for name in _MEASURES),
)
STATISTIC = (
    "share of sinks that deliver less than ordinary keys of equal attention, and tell later "
    "predictions less (KL), mean over texts"
)
UNTOLD = ("kl_without_value", "kl_with_mean_value")
NO_KEYS = "without ordinary keys of equal attention"
EITHER = (
    "sinks that are mixed may be no-ops, since what several ordinary keys tell may partly cancel, "
    "or add up, so the claim is neither shown nor refuted"
)
ROUNDING = 1e-6
"""KL in nats below which two cuts do not differ (`Losses.kl`)."""


def kinds_of(table: pd.DataFrame) -> "pd.Series[str]":
    """Whether each sink is a no-op, a broadcast, mixed, or unknown, from a row per sink.

    no-op: it delivers less per unit of attention than the ordinary keys, and tells less (`told`).
    broadcast: both are more. mixed: one of each. unknown: without ordinary keys, or if what is told
    differs by rounding only.
    """
    less = table["delivered_control"] - table["delivered"]
    milder = told(table, "_control") - told(table)
    unknown = less.isna() | milder.isna() | (milder.abs() <= ROUNDING)
    both = {"no-op": (less > 0) & (milder > 0), "broadcast": (less <= 0) & (milder < 0)}
    kinds = np.select([unknown, *both.values()], ["unknown", *both], default="mixed")
    return pd.Series(kinds, index=table.index, dtype=str)


def told(table: pd.DataFrame, suffix: str = "") -> "pd.Series[float]":
    """What a value tells later predictions beyond a value that says nothing, in nats.

    That is nothing, or the mean value of ordinary tokens: the KL when the value is replaced by the
    one that changes less. What all values share, as from a bias, tells nothing about a token.
    """
    return table[[f"{name}{suffix}" for name in UNTOLD]].min(axis=1, skipna=False)


def function_verdicts(
    table: pd.DataFrame, left_out: Mapping[str, int], n_claims: int
) -> tuple[Verdict, ...]:
    """One verdict per level, from a table with a row per sink (`SINK_COLUMNS`).

    supported: the interval of the share of no-ops, mean over texts, lies above one half.
    contradicted: that of the share of broadcasts does, so that most sinks give more by both
    measures, even if all others were no-ops. The KL of one key is compared with that of several
    together, whose values may partly cancel, or add up: alone it is biased, in either direction.
    Sinks without ordinary keys of equal attention are left out and counted. Corrected for
    `n_claims`.
    """
    return tuple(_verdict(name, part, left_out, n_claims) for name, part in judged_levels(table))


def _verdict(name: str, part: pd.DataFrame, left_out: Mapping[str, int], n_claims: int) -> Verdict:
    known = part[part["delivered_control"].notna()]
    kinds, texts = kinds_of(known), known["text_id"].tolist()
    found, most = (
        share_over_texts(kinds.isin(some).astype(float), texts, n_claims=n_claims)
        for some in (["no-op"], ["no-op", "mixed", "unknown"])
    )
    outcome = outcome_of(found, most=most)
    left_open = outcome == "inconclusive" and found.high < HALF and bool((kinds == "mixed").any())
    return judge(
        f"{name} are no-ops: they take attention and tell less than ordinary keys would",
        found,
        lambda: "; ".join([_why(known, kinds), *[EITHER] * left_open]),
        statistic=STATISTIC,
        controls="ordinary keys drawn at random until later queries pay them as much attention",
        left_out={**left_out, NO_KEYS: len(part) - len(known)},
        n_claims=n_claims,
        outcome=outcome,
    )


def _why(known: pd.DataFrame, kinds: "pd.Series[str]") -> str:
    numbers = {kind: int((kinds == kind).sum()) for kind in ("no-op", "broadcast", "mixed")}
    middle = known.median(numeric_only=True)
    return (
        f"{count(numbers['no-op'], 'no-op')}, {count(numbers['broadcast'], 'broadcast')}, "
        f"{numbers['mixed']} mixed, of {count(len(known), 'sink')}; medians: a head writes "
        f"{middle['delivered']:.3g} per unit of attention, {middle['delivered_control']:.3g} for "
        f"ordinary keys; KL without the value {middle['kl_without_value']:.2g} nats, "
        f"{middle['kl_without_value_control']:.2g} without theirs, and with the mean value instead "
        f"{middle['kl_with_mean_value']:.2g}, {middle['kl_with_mean_value_control']:.2g}"
    )
