"""`Answer`: the result of a causal question, and helpers that word its verdicts."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from secondary_sinks.display import Listed, count, tally
from secondary_sinks.statistics import (
    CONFIDENCE,
    HALF,
    Interval,
    left_open_by_controls,
    outcome_of,
    too_few,
)
from secondary_sinks.types import SHARE_UNIT, Verdict
from secondary_sinks.types.lists import join_words

UNKNOWN = Interval(value=math.nan, low=math.nan, high=math.nan, n=0, n_texts=0)
"""Where nothing was measured."""
NOT_AT_SINKS = (
    "only the difference lies above the line: an effect at the sinks themselves is not shown"
)
AT_CONTROLS = "controls do the same, or are too few, so the claim is neither shown nor refuted"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Answer(Listed[Verdict]):
    """Cells, effects and verdicts of one causal question; as a sequence, its verdicts."""

    _items = "verdicts"
    question: str
    cells: pd.DataFrame
    """One row per cell: one edit, or several made together, with its effect. Column `edit` or,
    where cells may have several edits, `edits` (JSON that `load_cells` reads) says what was done;
    in the circuit a row is an `Edge`, in eviction a text and a cache."""
    effects: pd.DataFrame
    """One row per condition: sinks, controls, their difference and its interval."""
    verdicts: tuple[Verdict, ...]
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """Further tables, by name."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Number of sinks that could not be tested, by reason."""
    n_censored: int = 0
    """Number of tested sinks whose start or end is unknown: their lifetimes are lower bounds."""

    def to_frame(self) -> pd.DataFrame:
        """The cells."""
        return self.cells

    def _line(self) -> str:
        outcomes = tally(verdict.outcome for verdict in self.verdicts) or "no verdict"
        return f"{self.question}: {outcomes}; {count(len(self.cells), 'cell')}"

    def _html(self) -> str:
        return "".join(verdict._html() for verdict in self.verdicts)

    def _drawn(self) -> tuple[Verdict, ...]:
        return self.verdicts


def verdict_of(
    claim: str,
    outcome: str,
    why: str,
    interval: Interval | None,
    *,
    statistic: str,
    unit: str = "",
    controls: str,
    n_claims: int = 1,
    n_controls: int | None = None,
    line: float = HALF,
) -> Verdict:
    """A verdict about a statistic over texts; if `interval` is None, its numbers are NaN."""
    found = UNKNOWN if interval is None else interval
    return Verdict(
        claim=claim,
        outcome=outcome,
        why=why,
        statistic=statistic,
        unit=unit,
        value=found.value,
        low=found.low,
        high=found.high,
        confidence=CONFIDENCE,
        controls=controls,
        n_sinks=found.n,
        n_texts=found.n_texts,
        n_claims=n_claims,
        n_controls=n_controls,
        line=line,
    )


def judge(
    claim: str,
    interval: Interval | None,
    why: str | Callable[[], str],
    *,
    statistic: str,
    controls: str,
    unit: str = SHARE_UNIT,
    left_out: Mapping[str, int] | None = None,
    n_claims: int = 1,
    n_controls: int | None = None,
    line: float = HALF,
    outcome: str | None = None,
    least: Interval | None = None,
    controlled: bool = True,
    always: bool = False,
    counted: str = "sink",
    grouped: str = "text",
) -> Verdict:
    """Judge an interval: supported above the line, contradicted below it, else inconclusive.

    A paired share is contradicted only if the share of cases alone lies below the line too,
    whatever happens at controls (`statistics.outcome_of`). Also inconclusive with too few sinks or
    texts, which the verdict then says; `why`, words or a function that returns them, is used only
    where there are enough, or `always`. `outcome` replaces that of the interval alone; `least` is
    as in `outcome_of`, and where it alone prevents support, the verdict says so. `left_out`
    is counted in the sentence on controls; `controlled` says whether only sinks with a control
    count. `interval` is None where nothing was measured. `counted` and `grouped` are the units of
    the interval: by default sinks, grouped by text.
    """
    found = UNKNOWN if interval is None else interval
    nouns: dict[str, Any] = {"counted": counted, "grouped": grouped}
    missing = too_few(found.n, found.n_texts, left_out, n_claims, controlled=controlled, **nouns)
    said = "" if missing and not always else why if isinstance(why, str) else why()
    shared = not missing and left_open_by_controls(found, line)
    unshown = not missing and least is not None and least.low <= line < found.low
    verdict = verdict_of(
        claim,
        "inconclusive" if missing else outcome or outcome_of(found, line, least=least),
        "; ".join(filter(None, [said, missing, AT_CONTROLS * shared, NOT_AT_SINKS * unshown])),
        found,
        statistic=statistic,
        unit=unit,
        controls=controls + format_exclusions(left_out or {}),
        n_claims=n_claims,
        n_controls=n_controls,
        line=line,
    )
    return replace(verdict, found=said if missing else "", lacks=missing, **nouns)


def judge_beyond(
    claim: str,
    found: Interval,
    beyond: Interval,
    why: str,
    *,
    line: float = HALF,
    most: Interval | None = None,
    **words: Any,
) -> Verdict:
    """Judge what was found at sinks together with how far it exceeds the control.

    supported: `found` lies above `line`, and `beyond`, the difference from the control, above 0.
    contradicted: `found` lies below `line`, and so does `most` if it is given, whatever the control
    does. inconclusive: otherwise; so it is where controls do the same, or more, which the verdict
    then says. `words` as in `judge`, `most` as in `outcome_of`.
    """
    outcome = outcome_of(found, line, most)
    if outcome == "supported" and outcome_of(beyond, 0.0) != "supported":
        outcome = "inconclusive"
    if outcome == "inconclusive" and beyond.high <= 0 and found.high >= line:
        why = f"{why}; {AT_CONTROLS}"
    return judge(claim, found, why, line=line, outcome=outcome, **words)


ZERO_ALONE = (
    "only zero ablation was tried: it supports the claim, but also removes which token this is; "
    "add another edit, such as mean:twins (the output at the same token elsewhere)"
)


def combine_outcomes(outcomes: Mapping[str, str]) -> tuple[str, str]:
    """One outcome for several ways to ablate, and a sentence on whether they agree.

    If they do not all agree, the outcome is "inconclusive"; so it is if zeroing alone supports it,
    since a zero also removes which token this is.

    >>> combine_outcomes({"zero": "supported", "mean": "supported"})
    ('supported', 'zero and mean agree')
    >>> combine_outcomes({"zero": "supported", "mean": "inconclusive"})
    ('inconclusive', 'edits disagree: zero says supported, mean says inconclusive')
    """
    distinct = set(outcomes.values())
    if outcomes == {"zero": "supported"}:
        return "inconclusive", ZERO_ALONE
    if len(outcomes) == 1:
        (only,) = outcomes
        return outcomes[only], f"{only} was the only edit tried"
    if len(distinct) == 1:
        return distinct.pop(), f"{join_words(list(outcomes))} agree"
    words = ", ".join(f"{edit} says {outcome}" for edit, outcome in outcomes.items())
    return "inconclusive", f"edits disagree: {words}"


def judge_ways(
    claim: str,
    found: Mapping[str, Interval],
    why: Callable[[str], str],
    *,
    most: Mapping[str, Interval] | None = None,
    least: Mapping[str, Interval] | None = None,
    lowest: bool = False,
    line: float = HALF,
    **words: Any,
) -> Verdict:
    """Judge a claim by all ways to ablate together (`combine_outcomes`).

    The verdict has the interval of the first way or, with `lowest`, of the one with the lowest
    value. `why` gets the sentence on whether the ways agree. `most` and `least` as in
    `outcome_of`, by way.
    """
    most, least = most or {}, least or {}
    outcome, agreement = combine_outcomes(
        {way: outcome_of(one, line, most.get(way), least.get(way)) for way, one in found.items()}
    )
    intervals = list(found.values())
    interval = min(intervals, key=lambda one: one.value) if lowest and intervals else None
    interval = interval or next(iter(intervals), None)
    held = (least[way] for way, one in found.items() if way in least and one.low > line)
    words["least"] = next((one for one in held if one.low <= line), None)
    return judge(claim, interval, lambda: why(agreement), line=line, outcome=outcome, **words)


def format_exclusions(left_out: Mapping[str, int]) -> str:
    """How many sinks were left out and why, to append to a sentence; empty if none was left out.

    >>> format_exclusions({"without a control": 2, "copies": 0})
    '; left out: 2 without a control'
    """
    words = [f"{number} {reason}" for reason, number in left_out.items() if number]
    return f"; left out: {', '.join(words)}" if words else ""


def sum_counts(*parts: Mapping[str, int]) -> dict[str, int]:
    """Sum of the counts of several texts, by key."""
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(total)
