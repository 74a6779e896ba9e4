"""Verdicts on the authors' rule: what it edits, and what that does beyond matched tokens."""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from experiments.members import COPIES
from experiments.shared import Observed
from secondary_sinks import Verdict
from secondary_sinks.display import count
from secondary_sinks.questions import judge
from secondary_sinks.statistics import Interval, median_over_texts

CLAIM = "the authors' rule edits the sinks that arise at its layer, and little else"
LOSES = (
    "sinks whose MLP output the rule zeroes lose half of their attention or more, beyond controls"
)
MORE = (
    "at twice the norm, the rule and an edit of one sink alone differ by a tenth of its attention "
    "or more"
)
HARMS = (
    "zeroing by the rule raises the loss of later tokens by 1% or more, beyond zeroing at matched "
    "tokens"
)
N_CLAIMS = 4
TENTH, HUNDREDTH = 0.1, 0.01
SHORT = "in texts with fewer matched tokens than the rule edits"
"""Why tokens and sinks are left out where the two arms are compared."""


def short_texts(damage: pd.DataFrame) -> set[str]:
    """Texts with fewer matched tokens than the rule edits: the two arms are not comparable there.

    `damage` has one row per text, arm and dose, with the number of tokens that are edited at once.
    """
    number = damage.pivot_table(index="text_id", columns="arm", values="n_edited", aggfunc="max")
    number = number.reindex(columns=["rule", "matched"]).fillna(0)
    return set(number.index[number["matched"] < number["rule"]])


def coverage(tokens: pd.DataFrame, layer: int, tau: float) -> Verdict:
    """Whether the rule edits the sinks of its layer and little else; copies are left out.

    Supported: in most texts, more than half of the tokens that are edited, or are sinks, are both.
    """
    fresh = tokens[~tokens["copy"]]
    counts, reasons = fresh["found"].value_counts(), fresh[fresh["found"] != "both"]["reason"]
    missed = ", ".join(f"{reason} ({n})" for reason, n in reasons.value_counts().items())
    return judge(
        CLAIM,
        _median((fresh["found"] == "both").astype(float), fresh),
        f"at layer {layer} with a cosine above {tau:g} the rule edits "
        f"{count(counts.get('both', 0), 'sink')} and "
        f"{count(counts.get('rule', 0), 'other token')}, and misses "
        f"{count(counts.get('sinks', 0), 'sink')}" + (f": {missed}" if missed else ""),
        statistic="share of tokens that are both edited and a sink, among those that are either, "
        "median over texts",
        controls="none",
        controlled=False,
        counted="token",
        left_out={COPIES: int(tokens["copy"].sum())},
        n_claims=N_CLAIMS,
    )


def _wide(cells: pd.DataFrame, dose: str, arms: Sequence[str]) -> pd.DataFrame:
    """Attention lost at one dose by the sinks that the rule touches, one column per arm."""
    own = cells[cells["touched"] & (cells["dose"] == dose)]
    table = own.pivot_table(index=["text_id", "pos"], columns="arm", values="lost")
    return table.reindex(columns=list(arms)).reset_index()


def _median(values: "pd.Series[float]", texts: pd.DataFrame) -> Interval:
    return median_over_texts(values, texts["text_id"].tolist(), n_claims=N_CLAIMS)


def loses(cells: pd.DataFrame, damage: pd.DataFrame, observed: Observed) -> Verdict:
    """Whether sinks that the rule zeroes lose attention beyond as many matched tokens."""
    every = _wide(cells, "0", ("rule", "matched", "alone"))
    lost = every[~every["text_id"].isin(short_texts(damage))]
    rule, matched, alone = lost[["rule", "matched", "alone"]].median()
    beyond = _median(lost["rule"] - lost["matched"], lost)
    return judge(
        LOSES,
        beyond,
        f"sinks lose {rule:.0%} of their attention, matched tokens {matched:.0%} in the same "
        f"units; zeroed alone, a sink loses {alone:.0%}",
        statistic="attention lost at norm 0 by edited sinks minus that lost by matched tokens, "
        "median over texts",
        controls="token twins, or ordinary tokens nearby, zeroed at once",
        left_out=observed.left_out | {SHORT: len(every) - len(lost)},
        n_claims=N_CLAIMS,
        least=_median(lost["rule"], lost),
    )


def more(cells: pd.DataFrame) -> Verdict:
    """Whether the rule affects a sink differently from an edit of this sink alone."""
    several = cells[cells["n_touched"] > 1]
    lost = _wide(several, "2x", ("rule", "alone"))
    apart, (rule, alone) = lost["rule"] - lost["alone"], 1 - lost[["rule", "alone"]].median()
    return judge(
        MORE,
        _median(apart.abs(), lost),
        f"edited together with all others, a sink draws {rule:.0%} of its clean attention; edited "
        f"alone, {alone:.0%}; the difference is {-apart.median():+.0%} (medians over sinks)",
        statistic="absolute difference of the attention lost by the rule and by editing the sink "
        "alone, median over texts",
        controls="the same edit of the sink alone",
        controlled=False,
        line=TENTH,
        n_claims=N_CLAIMS,
    )


def harms(damage: pd.DataFrame) -> Verdict:
    """Whether the loss of later tokens rises by zeroing beyond that of as many matched tokens."""
    every = damage[damage["dose"] == "0"]
    silent = every[~every["text_id"].isin(short_texts(damage))]
    n_all, n_touched = (int(one[one["arm"] == "rule"]["n_edited"].sum()) for one in (every, silent))
    rise = (silent["loss_edited"] - silent["loss_clean"]) / silent["loss_clean"]
    table = silent.assign(rise=rise).pivot_table(index="text_id", columns="arm", values="rise")
    table = table.reindex(columns=["rule", "matched", "alone"]).reset_index()
    rule, matched, alone = table[["rule", "matched", "alone"]].median()
    beyond = replace(_median(table["rule"] - table["matched"], table), n=n_touched)
    return judge(
        HARMS,
        beyond,
        f"the loss rises by {rule:.2%} of the clean loss with the rule, by {matched:.2%} with "
        f"matched tokens zeroed, by {alone:.2%} with one sink zeroed at a time",
        statistic="rise of the loss of later tokens as a share of the clean loss, minus that with "
        "matched tokens, median over texts",
        controls="token twins, or ordinary tokens nearby, zeroed at once",
        line=HUNDREDTH,
        counted="edited token",
        left_out={SHORT: n_all - n_touched},
        n_claims=N_CLAIMS,
        least=_median(table["rule"], table),
    )
