"""Which MLPs each sink is tested with: chosen on earlier texts; and other MLPs as controls.

The forming MLPs of a sink are the best of many groups that were tried on it, so the same sink
cannot test them. Every sink is therefore tested with the group that formed most sinks of its
creation layer in the texts before its own. If there are no such sinks, it is tested with the MLP of
the creation layer, a choice that does not depend on any outcome. So the error rates of intervals
over texts stay exact (`statistics.choice`), also for a single text.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypedDict

import pandas as pd

from secondary_sinks.questions.forming import Forming
from secondary_sinks.questions.matched_pairs import Place, TextPairs
from secondary_sinks.questions.trials import rate_difference, survives
from secondary_sinks.statistics import Interval, chosen_before
from secondary_sinks.types import Sink

Group = tuple[int, ...]
TOO_FEW = (
    "a sink with too few other MLPs for this control counts as if the control had ended it (except "
    "sinks created at layer 0)"
)
"""What the absence of the control means for a verdict: `ended_beyond_others`."""


def held_out(texts: Sequence[TextPairs], found: Mapping[Place, Forming]) -> dict[Place, Forming]:
    """The MLPs to test each sink with, chosen by what was `found` at sinks of earlier texts.

    `how` is that of the sink's own forming MLPs. `mass_lost` and `alignment_lost` are NaN if the
    chosen MLPs are not the sink's own.
    """
    starts = {case.sink.l_start for text in texts for case in text.cases}
    chosen = {start: _chosen(texts, found, start) for start in starts}
    return {
        case.place: _asked_with(found[case.place], chosen[case.sink.l_start][number])
        for number, text in enumerate(texts)
        for case in text.cases
    }


def _chosen(texts: Sequence[TextPairs], found: Mapping[Place, Forming], start: int) -> list[Group]:
    """The group for sinks of one creation layer, one per text."""
    scores = [Counter(_groups(text, found, start)) for text in texts]
    rule: Group = (start,)
    able = list(dict.fromkeys([rule, *(group for one in scores for group in one)]))
    return chosen_before(scores, [able] * len(texts))


def _groups(text: TextPairs, found: Mapping[Place, Forming], start: int) -> list[Group]:
    own = [found[one.place] for one in text.cases if one.sink.l_start == start]
    return [one.layers for one in own if one.found]


def _asked_with(own: Forming, layers: Group) -> Forming:
    if layers == own.layers:
        return own
    nan = float("nan")
    written = sum(own.by_layer[layer] for layer in layers) if own.by_layer else nan
    return replace(own, layers=layers, mass_lost=nan, alignment_lost=nan, written=written)


def other_layers(sink: Sink, own: Sequence[int]) -> Group:
    """As many other MLPs that could also have ended the sink, as a control at the same sink.

    Taken from the layers up to the creation layer, the nearest to it first, since a control with
    later MLPs could not fail. Empty if there are too few of them: no such control is possible.
    """
    others = [layer for layer in range(sink.l_start, -1, -1) if layer not in own]
    return tuple(sorted(others[: len(own)])) if len(others) >= len(own) else ()


def has_other(sink: Sink) -> bool:
    """Whether any MLP but that of the creation layer could have ended a sink."""
    return bool(other_layers(sink, [sink.l_start]))


def with_control(cells: pd.DataFrame, column: str, control: str = "other") -> int:
    """Number of sinks at which a control with other MLPs was possible."""
    return len(cells[cells[column] == control][["text_id", "sink_pos"]].drop_duplicates())


def ended_beyond_others(
    cells: pd.DataFrame,
    column: str,
    own: str,
    *,
    n_claims: int,
    of: str = "survives",
    needs_one: bool = False,
) -> Interval:
    """Share of sinks that end under condition `own` and not with as many other MLPs ("other").

    Where fewer others exist, those count as if they ended the sink too, so that it supports
    nothing. Sinks of MLP 0 alone count without a control: no other MLP could have ended these. With
    `needs_one` they support nothing either: the claim is about what this MLP writes, not which MLP.
    """
    group = cells[cells[column] == own].groupby(["text_id", "sink_pos"])["layers"].first()
    none = group.map(lambda layers: float(needs_one or tuple(layers) != (0,)))
    return rate_difference(cells, column, own, "other", n_claims=n_claims, of=of, instead=none)


def other_words(cells: pd.DataFrame, column: str, own: str) -> str:
    """How many sinks end with other MLPs instead, and at how many that was possible.

    Such as "with other MLPs instead, 92% of the 4 sinks that have as many others"; empty if it was
    possible at none.
    """
    n_controls, n_sinks = (with_control(cells, column, one) for one in ("other", own))
    ended = 1 - survives(cells[cells[column] == "other"]).mean()
    where = "" if n_controls == n_sinks else f" of the {n_controls} sinks that have as many others"
    return f"with other MLPs instead, {ended:.0%}{where}" if n_controls else ""


class Controls(TypedDict):
    """What a verdict says of its controls."""

    controls: str
    n_controls: int


def other_controls(cells: pd.DataFrame, column: str, own: str) -> Controls:
    """What a verdict says of other MLPs as controls for condition `own`."""
    n_controls, n_sinks = (with_control(cells, column, one) for one in ("other", own))
    return {"controls": control_words(n_controls, n_sinks), "n_controls": n_controls}


def control_words(n_controls: int, n_sinks: int) -> str:
    """Description of controls with other MLPs, which were possible at some of the sinks."""
    words = "the same number of other MLPs up to the creation layer, at the same sink"
    if n_controls == n_sinks and n_sinks:
        return words
    if not n_controls:
        return f"no control with other MLPs: too few could have ended the sink; {TOO_FEW}"
    return f"{words}, at the {n_controls} of {n_sinks} sinks that have that many; {TOO_FEW}"
