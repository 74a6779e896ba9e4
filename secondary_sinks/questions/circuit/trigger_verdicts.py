"""The verdicts on triggers, over texts: by attention, by few heads, by one layer, by one head.

The layer and the head are named by the sinks that they are judged on. Each sink has one group of
layers and one of heads, so this costs a factor of two, as for writers (`questions.writers`).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from secondary_sinks.display import count
from secondary_sinks.questions.answer import judge
from secondary_sinks.questions.circuit.search import FEW, MOST
from secondary_sinks.questions.writers import NAMING, NO_TWIN, judged_levels, levels_in
from secondary_sinks.statistics import (
    HALF,
    Interval,
    claims_together,
    median_over_texts,
    outcome_of,
    paired_share_over_texts,
    share_over_texts,
)
from secondary_sinks.types import Verdict

BY_LEVEL = 2 + 2 * NAMING
"""Claims per level: that attention triggers its sinks, and few heads of it; and which layer and
which head, each of which counts twice since the same sinks name it."""
FEW_HEADS = f"a fourth of the attention heads up to their layer, or fewer ({MOST} at most)"
ALIKE = (
    "whose twins enter the first layer with the same state, so that only what attention reads can "
    "tell them apart"
)
ONE_TWIN = "with one token twin only"
NO_FEW = f"with fewer than {FEW} attention heads up to their creation layer, so that none are few"
NO_RANDOM = "whose twins have no random tokens as a control: their text has too few ordinary ones"
NO_CONTROL = (
    "at {n} of these no other {what} could serve as a control; they do not count as support"
)


def trigger_verdicts(table: pd.DataFrame, n_claims: int | None = None) -> tuple[Verdict, ...]:
    """Four verdicts per level, from rows of `Trigger`; sinks without a twin are left out.

    So are, from the first, sinks whose twins' text has fewer than two ordinary tokens: no random
    token's outputs could be tried there (`created_by_others` is NaN).

    supported: the interval of the share of sinks for which the claim holds, and its control does
    not, lies above one half. contradicted: it lies below, even if the claim held for every sink at
    which the tests disagree. inconclusive: otherwise. By default corrected for the
    claims made here.
    """
    levels = judged_levels(table)
    n_claims = claims_together(n_claims, BY_LEVEL * len(levels))
    return tuple(verdict for name, part in levels for verdict in verdicts_on(name, part, n_claims))


def verdicts_on(name: str, part: pd.DataFrame, n_claims: int = BY_LEVEL) -> tuple[Verdict, ...]:
    """The verdicts on some sinks, which `name` names: attention, few heads, a layer, a head."""
    return (
        _by_attention(name, part, n_claims),
        _by_few(name, part, n_claims),
        _named(name, part, "layers", n_claims),
        _named(name, part, "heads", n_claims),
    )


def _by_attention(name: str, part: pd.DataFrame, n_claims: int) -> Verdict:
    """Without learned positions this is true of every sink by construction: nothing is claimed."""
    tried = _known(part)
    apart = tried[~tried["alike"].astype(bool)]
    known = apart[apart["created_by_others"].notna()]
    ends, creates = _ends(known), known["created"] > HALF
    random = known["created_by_others"]
    sure = (ends == 1) & creates
    unsure = (ends != 0) | creates
    words = (
        f"with a twin's attention outputs up to the creation layer {_of(ends == 1)} end; with the "
        f"sink's own {_of(creates)} make most twins sinks; those of random tokens make "
        f"{random.mean():.0%} of them sinks"
    )
    return _verdict(
        f"{name} are triggered by what attention reads",
        known,
        [sure, unsure],
        random,
        words if len(known) else "",
        statistic="share of sinks that need their attention outputs and that these suffice for at "
        "a twin, while those of random tokens do not; mean over texts",
        controls="attention outputs at the same token elsewhere, where it is not a sink; of random "
        "ordinary tokens",
        left_out={
            NO_TWIN: len(part) - len(tried),
            ALIKE: len(tried) - len(apart),
            NO_RANDOM: len(apart) - len(known),
        },
        n_claims=n_claims,
    )


def _by_few(name: str, part: pd.DataFrame, n_claims: int) -> Verdict:
    """Do few heads carry the trigger, whichever they are? The set of each sink is its own.

    Few is measured by all heads up to the creation layer: a number alone could not fail in a model
    that has no more of them.

    Where all heads together end the sink, a search that finds no set shows nothing. A set is found
    by the mean of the twins and tested on each of them, so sinks with one twin are left out.
    """
    known = _known(part)
    able = known[known["n_heads"] >= FEW]
    tried = able[able["n_donors"] > 1]
    control = tried["random_set_ended"]
    few = tried["n_heads_end"] <= (tried["n_heads"] // FEW).clip(upper=MOST)
    sure = few & (tried["set_ended"] > HALF)
    size = round(tried.loc[sure, "n_heads_end"].median()) if sure.any() else 0
    words = (
        f"{_of(sure)} end, with {count(size, 'head')} in the median; with random heads "
        f"instead, {control[sure].mean():.0%} of these" + _uncontrolled(control, sure, "heads")
    )
    return _verdict(
        f"{name} end with what a twin has at {FEW_HEADS}",
        tried,
        [sure, tried["ended_mean"] == 1],
        control,
        words if sure.any() else f"{_of(sure)} end" if len(tried) else "",
        statistic="share of sinks that end with the outputs of most single twins at a set of so "
        "few heads, found by the twins' mean, and not at random heads; mean over texts",
        controls="as many random other heads of the same layers",
        left_out={
            NO_TWIN: len(part) - len(known),
            NO_FEW: len(known) - len(able),
            ONE_TWIN: len(able) - len(tried),
        },
        n_claims=n_claims,
    )


def _named(name: str, part: pd.DataFrame, what: str, n_claims: int) -> Verdict:
    """Is one layer, or one head, the trigger of most sinks?

    The one with the largest share of the sinks, mean over texts, is named.
    """
    tried = _known(part)
    control = tried["other_layers_ended" if what == "layers" else "random_heads_ended"]
    sure = (tried[f"{what}_ended"] > HALF) & (tried[f"{what}_created"] > HALF)
    single = tried[what].where(tried[what].str.count(" ") == 0, "")
    shares = {
        one: (sure & (single == one)).groupby(tried["text_id"]).mean().mean()
        for one in dict.fromkeys(single[sure & (single != "")])
    }
    group = max(shares, key=lambda one: shares[one], default="")
    did = sure & (single == group) & (group != "")
    open_ones = (_ends(tried) != 0) | (tried["created"] > HALF)
    might = did | (open_ones & ~sure)
    at = {"layers": "the attention of layer", "heads": "attention head"}[what]
    one = {"layers": "the attention of one layer", "heads": "one attention head"}[what]
    claim = f"{name} are triggered by {f'{at} {group}' if group else one}"
    found = _verdict(
        claim,
        tried,
        [did, might],
        control,
        _words(tried, what, sure) + _uncontrolled(control, did, what) if len(tried) else "",
        statistic=f"share of sinks that need {'this' if group else 'one'} {what[:-1]} and that it "
        "suffices for at a twin, while others do not end them; mean over texts",
        controls={
            "layers": "all other attention outputs up to the creation layer replaced together",
            "heads": "as many random other heads of the same layers replaced",
        }[what],
        left_out={NO_TWIN: len(part) - len(tried)},
        n_claims=n_claims,
    )
    return replace(found, general=f"{name} are triggered by {one}")


def _known(part: pd.DataFrame) -> pd.DataFrame:
    return part[part["n_donors"] > 0]


def _ends(known: pd.DataFrame) -> "pd.Series[float]":
    """1 or 0; NaN where the mean over the twins and most single twins disagree."""
    by_each = (known["ended"] > HALF).astype(float)
    return by_each.where(by_each == known["ended_mean"])


def _verdict(
    claim: str,
    known: pd.DataFrame,
    cases: Sequence["pd.Series[bool]"],
    control: "pd.Series[float]",
    words: str,
    *,
    n_claims: int,
    **more: Any,
) -> Verdict:
    """`cases`: where the claim holds, and where it may hold, whatever its control does.

    A case without a control counts as if the control had done the same.
    """
    texts = known["text_id"].tolist()
    case, might = (one.astype(float) for one in cases)
    found = paired_share_over_texts(case, control.fillna(1.0), texts, n_claims=n_claims)
    most = share_over_texts(might, texts, n_claims=n_claims)
    return judge(
        claim,
        found,
        words,
        n_claims=n_claims,
        outcome=outcome_of(found, most=most),
        always=True,
        **more,
    )


def _words(known: pd.DataFrame, what: str, sure: "pd.Series[bool]") -> str:
    """Text such as "head 3.11 is needed and enough at 5 of 7 sinks; no head at 2"."""
    counts = Counter(known.loc[sure, what])
    parts = [
        f"{what if ' ' in group else what[:-1]} {group.replace(' ', ', ')} at {number}"
        for group, number in counts.most_common(3)
    ]
    parts += [f"others at {sum(counts.values()) - sum(dict(counts.most_common(3)).values())}"] * (
        len(counts) > 3
    )
    total = f"of {count(len(known), 'sink')} in {count(known['text_id'].nunique(), 'text')}"
    return f"needed and enough, {total}: {', '.join(parts) or 'none'}"


def _uncontrolled(control: "pd.Series[float]", found: "pd.Series[bool]", what: str) -> str:
    n = int((control.isna() & found).sum())
    return f"; {NO_CONTROL.format(what=what, n=n)}" if n else ""


def _of(hits: "pd.Series[bool]") -> str:
    return f"{int(hits.sum())} of {count(len(hits), 'sink')}"


def sizes(table: pd.DataFrame) -> pd.DataFrame:
    """Sizes of the smallest sets found: median over texts with its exact interval, by level.

    A description: the intervals are not corrected for several rows. `share` is the share of sinks
    for which a set was found.
    """
    columns = {
        "heads whose replacement ends the sink": ("n_heads_end", "random_set_ended"),
        "heads whose outputs make twins sinks": ("n_heads_create", "random_heads_created"),
        "edges of attention whose cut ends the sink": ("n_sources", "random_sources_ended"),
    }
    rows = []
    for level, part in levels_in(table):
        known = _known(part)
        for what, (size, control) in columns.items():
            found: Interval = median_over_texts(known[size], known["text_id"].tolist())
            rows.append(
                {
                    "level": level,
                    "set": what,
                    "size": found.value,
                    "low": found.low,
                    "high": found.high,
                    "share": float(known[size].notna().mean()) if len(known) else np.nan,
                    "control": float(known[control].mean()),
                    "n_sinks": len(known),
                    "n_texts": found.n_texts,
                }
            )
    names = ["level", "set", "size", "low", "high", "share", "control", "n_sinks", "n_texts"]
    return pd.DataFrame(rows, columns=names)
