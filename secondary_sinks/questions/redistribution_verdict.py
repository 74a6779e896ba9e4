"""The verdict on redistribution: what the primary gains beyond its proportional share."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from secondary_sinks.detection.contrasts import ROUNDING
from secondary_sinks.questions.answer import judge_ways
from secondary_sinks.questions.lost_by_layer import by_way
from secondary_sinks.statistics import Interval, median_over_texts
from secondary_sinks.types import Verdict
from secondary_sinks.types.lists import join_words

CLAIM = (
    "the primary takes over more of a removed sink's attention than the softmax alone would give it"
)
MATERIAL = 0.01
"""A gain beyond proportional counts if it is at least this share of the freed attention."""
RECEIVERS = ("primary", "others", "rest")
MOVED = ("freed", *RECEIVERS)
DIRECT = tuple(f"{name}_direct" for name in MOVED)


def _by_text(cells: pd.DataFrame, *, alone: bool = False) -> pd.DataFrame:
    """Attention moved by sinks minus that by their controls, sum per text; mean over seeds.

    `alone`: by sinks, with nothing subtracted.

    Only texts whose sinks free attention, beyond rounding, in total and by the softmax alone.
    """
    names = [*MOVED, *DIRECT]
    means = {
        role: part.groupby(["text_id", "sink_pos"])[names].mean()
        for role, part in cells.groupby("role")
    }
    moved = means["sink"] if alone else means["sink"] - means["control"]
    moved = moved.groupby("text_id").sum()
    return moved[(moved[["freed", "freed_direct"]] > ROUNDING).all(axis=1)]


def _shares(sums: pd.DataFrame, ending: str = "") -> pd.DataFrame:
    """Shares of the freed attention, by receiver."""
    freed = sums[f"freed{ending}"]
    return pd.DataFrame({name: sums[f"{name}{ending}"] / freed for name in RECEIVERS})


def beyond(cells: pd.DataFrame, receiver: str, n_claims: int, *, alone: bool = False) -> Interval:
    """Share of a receiver minus its proportional share: median over texts that free attention."""
    by_text = _by_text(cells, alone=alone)
    gain = (_shares(by_text) - _shares(by_text, "_direct"))[receiver]
    found = median_over_texts(gain, by_text.index.tolist(), n_claims=n_claims)
    return replace(found, n=n_sinks(cells[cells["text_id"].isin(by_text.index)]))


def n_sinks(cells: pd.DataFrame) -> int:
    """Number of sinks in these cells."""
    return len(cells[["text_id", "sink_pos"]].drop_duplicates())


def receiver_rows(way: str, cells: pd.DataFrame, n_claims: int) -> Iterator[dict[str, Any]]:
    """One row per receiver, for one way to ablate: its shares, and what it gains beyond them."""
    sums = _by_text(cells).sum().to_frame().T
    share, proportional = _shares(sums).iloc[0], _shares(sums, "_direct").iloc[0]
    for receiver in RECEIVERS:
        found = beyond(cells, receiver, n_claims)
        yield {
            "edit": way,
            "receiver": receiver,
            "share": share[receiver],
            "proportional": proportional[receiver],
            "beyond": found.value,
            "low": found.low,
            "high": found.high,
            "n_sinks": found.n,
            "n_texts": found.n_texts,
        }


def redistribution_verdict(
    cells: pd.DataFrame, left_out: Mapping[str, int], n_claims: int
) -> Verdict:
    """Does the primary gain more than its proportional share, by every way to ablate?

    With the controls subtracted and with nothing subtracted.
    """
    parts = by_way(cells)

    def why(agreement: str) -> str:
        way, first = next(iter(parts.items()))
        words = _in_words(list(receiver_rows(way, first, n_claims)))
        return f"{words}; {_alone_in_words(alone[way])}; {agreement}"

    alone = {way: beyond(part, "primary", n_claims, alone=True) for way, part in parts.items()}
    return judge_ways(
        CLAIM,
        {way: beyond(part, "primary", n_claims) for way, part in parts.items()},
        why,
        most=alone,
        least=alone,
        statistic="share of the freed attention that the primary gains, minus its proportional "
        "share, median over texts",
        controls="proportional share: only the sink's key replaced; the same edits at token "
        "twins, or at ordinary tokens nearby, are subtracted",
        left_out=left_out,
        n_claims=n_claims,
        line=MATERIAL,
    )


def _alone_in_words(alone: Interval) -> str:
    low, high = _percent(alone.low), _percent(alone.high)
    return (
        "with nothing subtracted, the primary gains "
        f"{_percent(alone.value)} [{low}, {high}] beyond its proportional share"
    )


def _in_words(rows: Sequence[Mapping[str, Any]]) -> str:
    names = {"primary": "the primary", "others": "other sinks", "rest": "other tokens"}
    parts = [
        f"{_percent(row['share'])} goes to {names[row['receiver']]} "
        f"(proportional share: {_percent(row['proportional'])})"
        for row in rows
    ]
    return f"of the freed attention, {join_words(parts)}"


def _percent(share: float) -> str:
    return f"{round(share, 3) + 0.0:.1%}"  # avoid "-0.0 %"
