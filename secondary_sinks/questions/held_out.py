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

import pandas as pd

from secondary_sinks.questions.forming import Forming, Place
from secondary_sinks.questions.matched_pairs import TextPairs
from secondary_sinks.statistics import chosen_before
from secondary_sinks.types import Sink

Group = tuple[int, ...]
TOO_FEW = (
    "a sink with too few other MLPs for this control counts as if the control had ended it (except "
    "sinks created at layer 0)"
)
"""What the absence of the control means for a verdict on which MLPs it is: `without_others`."""


def held_out(texts: Sequence[TextPairs], found: Mapping[Place, Forming]) -> dict[Place, Forming]:
    """The MLPs to test each sink with, chosen by what was `found` at sinks of earlier texts.

    `how` is that of the sink's own forming MLPs. `mass_lost` and `alignment_lost` are NaN if the
    chosen MLPs are not the sink's own.
    """
    starts = {case.sink.l_start for text in texts for case in text.cases}
    chosen = {start: _chosen(texts, found, start) for start in starts}
    return {
        (case.sink.text_id, case.sink.pos): _asked_with(
            found[case.sink.text_id, case.sink.pos], chosen[case.sink.l_start][number]
        )
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
    own = [found[one.sink.text_id, one.sink.pos] for one in text.cases if one.sink.l_start == start]
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


def without_others(
    cells: pd.DataFrame, column: str, own: str, *, needs_one: bool = False
) -> "pd.Series[float]":
    """Control rate, by sink, where fewer other MLPs exist: as if those ended it too.

    So it supports nothing. Sinks of MLP 0 alone get 0: no other MLP could have ended these. They
    get 1 with `needs_one`, where the claim is about what this MLP writes, and not about MLPs.
    """
    at = cells[cells[column] == own]
    group = at.groupby(["text_id", "sink_pos"])["layers"].first()
    return group.map(lambda layers: float(needs_one or tuple(layers) != (0,)))


def other_words(ended: float, n_controls: int, n_sinks: int) -> str:
    """How many sinks end with other MLPs instead, and at how many of them that was possible.

    >>> other_words(0.92, 4, 42)
    'with other MLPs instead, 92% of the 4 sinks that have as many others'
    """
    where = "" if n_controls == n_sinks else f" of the {n_controls} sinks that have as many others"
    return f"with other MLPs instead, {ended:.0%}{where}" if n_controls else ""


def control_words(n_controls: int, n_sinks: int, instead: str) -> str:
    """Description of the controls; `instead` describes those used where no other MLP can be one.

    >>> control_words(0, 7, "outputs of token twins")
    'no control with other MLPs: too few could have ended the sink; outputs of token twins'
    """
    words = "the same number of other MLPs up to the creation layer, at the same sink"
    if n_controls == n_sinks and n_sinks:
        return words
    if not n_controls:
        return f"no control with other MLPs: too few could have ended the sink; {instead}"
    return f"{words}, at the {n_controls} of {n_sinks} sinks that have that many; {instead}"
