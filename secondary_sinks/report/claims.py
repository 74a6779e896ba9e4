"""The claims of a report and their outcomes: every verdict of a run, in words and numbers."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from secondary_sinks.display import percent_or_number
from secondary_sinks.questions import QUESTIONS, Answer
from secondary_sinks.report.words import count
from secondary_sinks.statistics import CONFIDENCE, HALF, MIN_SINKS, min_texts
from secondary_sinks.types import SHARE_UNIT
from secondary_sinks.types.lists import join_words

Given = TypeVar("Given")
WRITING = ("roles", "writer")
"""Questions whose verdicts say which MLPs write the sinks."""
ROLES, LATER = "Writers and enablers", "Later layers"
"""Titles of verdicts that every run has, asked or not."""
TITLES = {"roles": ROLES, "later": LATER} | {
    question.name: question.title for question in QUESTIONS
}
"""Claims in the order in which a page shows them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A verdict as shown on the page."""

    question: str
    claim: str
    general: str
    """The claim without its layer; the claim itself if it names no layer."""
    layer: int | None
    outcome: str
    why: str
    lacks: str
    """What there is too little of, where `why` says so."""
    value: str
    interval: str
    statistic: str
    sample: str
    controls: str
    bar: tuple[float, float, float] | None
    """(low, value, high) of a share, in per cent of the bar's width; None for other numbers."""
    line: float
    """Place on the bar, in per cent, of what the interval was held against."""
    n_claims: int
    """Number of claims that the interval was corrected for."""
    known: bool
    """Whether the verdict has an interval."""


def claims(record: Mapping[str, Any], answers: Mapping[str, Answer]) -> list[Claim]:
    """All verdicts, as `verdicts_of` has them."""
    return [_claim(*pair) for pair in verdicts_of(record, plain_verdicts(answers))]


def plain_verdicts(answers: Mapping[str, Answer]) -> dict[str, list[dict[str, Any]]]:
    """The verdicts of each answer as plain data."""
    return {name: [*map(asdict, answer.verdicts)] for name, answer in answers.items()}


def verdicts_of(
    record: Mapping[str, Any], asked: Mapping[str, Iterable[Mapping[str, Any]]] | None = None
) -> list[tuple[str, Mapping[str, Any]]]:
    """(question, verdict) pairs, writers first. `asked` are the verdicts of each question.

    By default those of the record. Verdicts of the same cells are not said twice: those of
    `necessity` and `writer`, if asked, replace those of the run's own edits.
    """
    if asked is None:
        asked = {one["question"]: one["verdicts"] for one in record.get("answers", ())}
    own = {"roles": "writers", "necessity": "verdicts", "later": "later"}
    found = {name: record.get(key, ()) for name, key in own.items()} | dict(asked)
    first = "writer" if "writer" in asked else "roles"
    others = [name for name in TITLES if name != "roles"]
    order = dict.fromkeys([first, "necessity", "later", *others])
    return [(name, verdict) for name in order for verdict in found.get(name, ())]


def group_alike(
    found: Iterable[Given], reason: Callable[[Given], tuple[str, str]]
) -> list[list[Given]]:
    """Verdicts in groups of one question that lack the same, so that this is said once.

    `reason` gives the question of a verdict, and what it lacks; where it lacks nothing, the verdict
    is alone. Groups stand in the order of their first verdicts.
    """
    groups: dict[tuple[str, ...], list[Given]] = {}
    for number, one in enumerate(found):
        question, lacks = reason(one)
        groups.setdefault((question, lacks) if lacks else (str(number),), []).append(one)
    return list(groups.values())


def next_step(verdicts: Iterable[Mapping[str, Any]]) -> str:
    """What would decide the inconclusive verdicts on tested sinks, in words; empty without any."""
    left = [one for one in verdicts if one["outcome"] == "inconclusive" and one["n_sinks"]]
    few = [one for one in left if _too_few(one)]
    split = [one for one in left if not _too_few(one) and _is_split(one)]
    told = []
    if few:
        needed = max(min_texts(one.get("n_claims", 1)) for one in few)
        told.append(
            f"{count(len(few), 'claim')} {'needs' if len(few) == 1 else 'need'} more data: at "
            f"least {MIN_SINKS} sinks of its kind, in at least {needed} texts with one. Repeat the "
            "command with other, more --texts and a new --out (bundled:claims are 33 long texts); "
            "fewer questions need fewer."
        )
    if split:
        told.append(
            f"{count(len(split), 'claim has an interval', 'claims have intervals')} on both sides "
            f"of the threshold: more texts narrow {'it' if len(split) == 1 else 'them'}."
        )
    return " ".join(told)


def _too_few(verdict: Mapping[str, Any]) -> bool:
    needed = min_texts(verdict.get("n_claims", 1))
    return verdict["n_sinks"] < MIN_SINKS or verdict["n_texts"] < needed


def _is_split(verdict: Mapping[str, Any]) -> bool:
    low, high = _float(verdict["low"]), _float(verdict["high"])
    return low <= verdict.get("line", HALF) <= high


def tally(found: list[Claim]) -> str:
    """Number of claims per outcome, as a sentence; empty without claims.

    >>> tally([])
    ''
    """
    if not found:
        return ""
    outcomes = Counter(claim.outcome for claim in found)
    order = ("supported", "contradicted", "inconclusive")
    words = [f"{outcomes[name]} {name}" for name in order if outcomes[name]]
    return f"{count(len(found), 'claim')} tested: {join_words(words)}.{_together(found)}"


def _together(found: list[Claim]) -> str:
    """Joint confidence of all intervals, as a sentence; empty without intervals.

    Intervals corrected for the same number of claims form one family, jointly at 95 %. If questions
    were added to a finished run there are several families, and their errors add up.
    """
    families = {claim.n_claims for claim in found if claim.known}
    if not families:
        return ""
    corrected = join_words([str(number) for number in sorted(families)])
    return (
        f" All intervals hold jointly at {1 - (1 - CONFIDENCE) * len(families):.0%}: error rates "
        f"are divided by {corrected} (Bonferroni). This number counts every layer that was tested, "
        "with a verdict or without, and counts a claim twice if the same sinks choose its MLP and "
        "judge it."
    )


def number_of(unit: str, value: float) -> str:
    """The number of a verdict: shares in per cent, others with two decimals.

    >>> number_of("share", 0.957), number_of("rank correlation", 0.812)
    ('96%', '0.81')
    """
    return "" if math.isnan(value) else percent_or_number(value, share=unit == SHARE_UNIT)


def _claim(question: str, verdict: Mapping[str, Any]) -> Claim:
    value, low, high = (_float(verdict[name]) for name in ("value", "low", "high"))
    unit, known = verdict.get("unit", ""), not any(map(math.isnan, (value, low, high)))
    interval = ""
    if known:
        ends = (number_of(unit, end) for end in (low, high))
        interval = f"{verdict['confidence']:.0%} interval {' to '.join(ends)}"
        n_claims = verdict.get("n_claims", 1)
        interval += f", corrected for {n_claims} claims" if n_claims > 1 else ""
    nouns = verdict.get("counted", "sink"), verdict.get("grouped", "text")
    sample = " in ".join(map(count, (verdict["n_sinks"], verdict["n_texts"]), nouns))
    return Claim(
        question=TITLES[question],
        claim=verdict["claim"],
        general=verdict.get("general") or verdict["claim"],
        layer=verdict.get("layer"),
        outcome=verdict["outcome"],
        why=verdict["why"],
        lacks=verdict.get("lacks", ""),
        value=number_of(unit, value),
        interval=interval or ("" if math.isnan(value) else "without an interval"),
        statistic=verdict["statistic"],
        sample=sample if verdict["n_sinks"] else "",
        controls=verdict["controls"],
        bar=_bar(low, value, high) if known and unit == SHARE_UNIT else None,
        line=round(100 * verdict.get("line", HALF), 1),
        n_claims=verdict.get("n_claims", 1),
        known=known,
    )


def _bar(low: float, value: float, high: float) -> tuple[float, float, float]:
    """Ends and middle of a bar from 0 to 1, in per cent; values outside are clipped."""
    cut = [round(100 * min(max(one, 0.0), 1.0), 1) for one in (low, value, high)]
    return cut[0], cut[1], cut[2]


def _float(value: float | None) -> float:
    return math.nan if value is None else float(value)
