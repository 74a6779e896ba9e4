"""The results of detection, in sentences and numbers."""

import math
from collections import Counter
from typing import Any

import pandas as pd

from secondary_sinks.report.words import count, list_counts, percent, quoted
from secondary_sinks.types import Levels


def subtitle(record: dict[str, Any]) -> str:
    """Model, texts and dtype, on one line."""
    model, texts = record["model"], record["texts"]
    return " · ".join(
        [
            count(model["n_layers"], "layer"),
            count(len(texts), "text"),
            count(sum(text["n_tokens"] for text in texts), "token"),
            f"{record['dtype']} on {record['device']}",
        ]
    )


def findings(record: dict[str, Any], sinks: pd.DataFrame, levels: Levels) -> list[str]:
    """Sentences about the sinks: in which texts, how long, how strong, which tokens."""
    secondary = sinks[sinks["kind"] == "secondary"]
    sentences = [*_spread(record, secondary, levels), _primaries(record, sinks)]
    alike = int((sinks["kind"] == "primary_like").sum())
    if alike:
        sentences.append(
            f"{count(alike, 'more sink')} {'arises and lasts' if alike == 1 else 'arise and last'} "
            "with the primary: primary-like, not counted as secondary."
        )
    if len(secondary):
        sentences += [_lifetimes(secondary), _strength(secondary, sinks)]
        sentences += [f"The secondary sinks are {_commonest_tokens(secondary)}."]
        sentences += _censored(secondary)
    return sentences + _rounding(record, sinks)


def _spread(record: dict[str, Any], secondary: pd.DataFrame, levels: Levels) -> list[str]:
    """The share of texts with sinks, and the interval of their number; none with a single text."""
    total = len(record["texts"])
    if secondary.empty or total == 1:
        return []
    hit = secondary["text_id"].nunique()
    verb = "has" if hit == 1 else "have"
    told = f"{hit} of {total} texts {verb}" if hit < total else f"All {total} texts have"
    told += " secondary sinks."
    if not math.isnan(levels.low):
        told += (
            f" In as many texts like these, {levels.low:.0f} to {levels.high:.0f} distinct ones "
            f"are to be expected ({levels.confidence:.0%} interval over texts)."
        )
    return [told]


def _rounding(record: dict[str, Any], sinks: pd.DataFrame) -> list[str]:
    """Number of sinks and tokens that rounding may decide in a half-precision run."""
    marked, near = int(sinks["within_rounding"].sum()), len(record.get("near_sinks", ()))
    if not marked and not near:
        return []
    what = f"{count(marked, 'sink')}, and {count(near, 'token')} that narrowly fail to be sinks,"
    return [
        f"The run was in {record['dtype']}: {what} lie within its rounding; a run in float32 "
        "decides these."
    ]


def _primaries(record: dict[str, Any], sinks: pd.DataFrame) -> str:
    primary = sinks[sinks["kind"] == "primary"]
    total, active = len(record["texts"]), len(primary)
    if not active:
        return "No text has an active primary sink, so there is nothing to compare tokens with."
    which = "Every text has" if total > 1 else "The text has"
    if active < total:
        which = f"Only {active} of {total} texts {'has' if active == 1 else 'have'}"
    rest = " The others cannot have secondary sinks." if active < total else ""
    return f"{which} an active primary sink, {_commonest_tokens(primary)}.{rest}"


def _lifetimes(secondary: pd.DataFrame) -> str:
    counts = secondary["lifetime"].value_counts()
    lived = list_counts({count(int(str(value)), "layer"): int(n) for value, n in counts.items()})
    return f"Lifetimes, with the number of sinks: {lived}.{_attended(secondary)}"


def _attended(secondary: pd.DataFrame) -> str:
    """The lifetime by attention, which uses no norm."""
    layers = secondary["lifetime_attention"].median()
    if math.isnan(layers):
        return ""
    return (
        " A lifetime ends where the norm test fails. The median secondary sink is attended at "
        f"{layers:.0f} layers, and outlying at {secondary['lifetime_norm'].median():.0f}."
    )


def _strength(secondary: pd.DataFrame, sinks: pd.DataFrame) -> str:
    peak = secondary["mass_max"]
    primary = sinks.loc[sinks["kind"] == "primary", "mass_max"].median()
    return (
        f"At its peak layer the median secondary sink draws {percent(peak.median())} of the "
        f"attention of the tokens that see it, the strongest {percent(peak.max())}. The median "
        f"primary draws {percent(primary)} at its own peak."
    )


def _commonest_tokens(sinks: pd.DataFrame) -> str:
    names = dict(zip(sinks["token_id"], map(str, sinks["token"]), strict=True))
    alike = Counter(names.values())
    counts = {
        quoted(names[one]) + (f" [{one}]" if alike[names[one]] > 1 else ""): int(n)
        for one, n in sinks["token_id"].value_counts().items()
    }
    return next(iter(counts)) if len(counts) == 1 else list_counts(counts, most=5)


def _censored(secondary: pd.DataFrame) -> list[str]:
    n = int((secondary["censored"] != "none").sum())
    if not n:
        return []
    verb = "is" if n == 1 else "are"
    return [
        f"{count(n, 'secondary sink')} {verb} cut off, by the first or last layer or because the "
        "primary is not active there: the lifetime is a lower bound."
    ]
