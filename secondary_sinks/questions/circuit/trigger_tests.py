"""The tests behind a trigger: exchange what attention read between a sink and its twins.

    test     edit                                                          if the token then
    end      attention outputs of the sink: those of its twins (their      has ended: it is needed
             mean, then each twin alone)
    create   attention outputs of the sink put into a twin                 is a sink: it is enough
    cut      the sink no longer attends to some source tokens (knockout)   has ended: it is needed

A sink has ended if it fails the criterion and draws less than half of its clean attention. A
twin that draws half of the sink's attention in its own clean text is not made a sink: heads attend
to it anyway.

The members of a set are attention outputs of whole layers, of single heads, or single edges of
attention from the sink to a source token.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from secondary_sinks.causal.donors import ordinary_throughout
from secondary_sinks.causal.outcome import drawn_by_sink
from secondary_sinks.questions.circuit.search import Group, Row, Search
from secondary_sinks.questions.role_tests import SinkWithTwins, patched
from secondary_sinks.questions.trials import Trial, has_ended
from secondary_sinks.statistics import HALF
from secondary_sinks.types import Edit

SITES = {1: "attn_out", 2: "z", 3: "attn_scores"}
"""Site of the edits of a member, by its length: (layer,), (layer, head), (layer, head, source)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanged:
    """What exchanging a set of attention outputs between a sink and its twins does."""

    group: Group
    by_mean: bool
    """Whether the mean over the twins, in the place of the sink's outputs, ends the sink."""
    ended: tuple[float, ...]
    """By twin: 1 if its outputs alone end the sink, else 0."""
    created: tuple[float, ...]
    """By twin: 1 if the sink's outputs make it a sink, else 0."""
    left: float
    """Attention beyond what is expected that the sink draws after `by_mean`."""
    drawn: float
    """The same of the twins with the sink's outputs, mean."""

    @property
    def ends(self) -> bool | None:
        """Whether it ends the sink; None where the mean and most single twins disagree."""
        return self.by_mean if self.by_mean == (np.mean(self.ended) > 0.5) else None

    @property
    def creates(self) -> bool:
        """Whether it makes most twins sinks."""
        return bool(np.mean(self.created) > 0.5)


def exchanged(one: SinkWithTwins, groups: Sequence[Group]) -> Search[list[Exchanged]]:
    """All tests of exchange, for each set of layers or heads."""
    trials = [
        trial
        for group in groups
        for trial in (
            _ending(one, group, one.twins),
            *(_ending(one, group, twin) for twin in one.twins),
            *(_creating(one, group, twin) for twin in one.twins),
        )
    ]
    rows = yield [(one, trial) for trial in trials]
    size, n = 1 + 2 * len(one.twins), len(one.twins)
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    return [
        Exchanged(
            group=group,
            by_mean=has_ended(part[0]),
            ended=tuple(float(has_ended(row)) for row in part[1 : 1 + n]),
            created=tuple(_made(one, part[1 + n :])),
            left=_drawn(part[:1]),
            drawn=_drawn(part[1 + n :]),
        )
        for group, part in zip(groups, parts, strict=True)
    ]


def ends(one: SinkWithTwins, groups: Sequence[Group]) -> Search[list[bool]]:
    """Whether each set ends the sink, if its outputs are replaced by their mean over the twins."""
    rows = yield [(one, _ending(one, group, one.twins)) for group in groups]
    return [has_ended(row) for row in rows]


def creates(one: SinkWithTwins, groups: Sequence[Group]) -> Search[list[bool]]:
    """Whether the outputs of each set, put into the twins, make most of them sinks."""
    trials = [_creating(one, group, twin) for group in groups for twin in one.twins]
    rows = yield [(one, trial) for trial in trials]
    n = len(one.twins)
    made = _made(one, rows)
    return [mean_of(made[start : start + n]) > 0.5 for start in range(0, len(rows), n)]


def cuts(one: SinkWithTwins, groups: Sequence[Group]) -> Search[list[bool]]:
    """Whether the sink ends without each set of edges of attention."""
    found = yield from cut(one, groups)
    return [ended for ended, _ in found]


def cut(one: SinkWithTwins, groups: Sequence[Group]) -> Search[list[tuple[bool, float]]]:
    """The same, with the attention beyond what is expected that the token then draws."""
    rows = yield [(one, _cutting(one, group)) for group in groups]
    return [(has_ended(row), _drawn([row])) for row in rows]


def created_by_others(one: SinkWithTwins, layers: Sequence[int], draws: int) -> Search[float]:
    """Share of twins that become sinks with the attention outputs of random ordinary tokens.

    The outputs of all `layers` come from one token per draw. NaN where there are too few tokens.
    """
    if int(ordinary_throughout(one.home).sum()) < 2:
        return float("nan")
    cells = [
        Edit(pos=twin, layer=tuple(layers), kind="resample", site="attn_out", seed=seed)
        for seed in range(draws)
        for twin in one.twins
    ]
    rows = yield [(one, _trial(one, "create", [edit])) for edit in cells]
    return mean_of(_made(one, rows))


def _ending(one: SinkWithTwins, group: Group, twins: int | tuple[int, ...]) -> Trial:
    cell = [
        patched(one.sink.pos, (layer,), twins, one.home, one.trace, SITES[len(group[0])], units)
        for layer, units in _by_layer(group).items()
    ]
    return _trial(one, "end", cell)


def _creating(one: SinkWithTwins, group: Group, twin: int) -> Trial:
    cell = [
        patched(twin, (layer,), one.sink.pos, one.trace, one.home, SITES[len(group[0])], units)
        for layer, units in _by_layer(group).items()
    ]
    return _trial(one, "create", cell)


def _cutting(one: SinkWithTwins, group: Group) -> Trial:
    heads: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for layer, head, source in group:
        heads[layer, source].append(head)
    pos, kind, site = one.sink.pos, "knockout", "attn_scores"
    cell = [
        Edit(pos=pos, layer=layer, kind=kind, site=site, key=source, units=tuple(units))
        for (layer, source), units in heads.items()
    ]
    return _trial(one, "cut", cell)


def _by_layer(group: Group) -> dict[int, tuple[int, ...]]:
    """Heads by layer; none for a whole layer."""
    return {
        layer: tuple(m[1] for m in group if m[0] == layer and len(m) > 1) for layer, *_ in group
    }


def _trial(one: SinkWithTwins, test: str, cell: Sequence[Edit]) -> Trial:
    return Trial(sink=one.sink, pos=cell[0].positions[0], cell=tuple(cell), words={"test": test})


def mean_of(outcomes: Sequence[bool | float]) -> float:
    """Mean of outcomes at several twins or sets; NaN without any."""
    return float(np.mean(outcomes)) if outcomes else float("nan")


def _made(one: SinkWithTwins, rows: Sequence[Row]) -> list[float]:
    """1 for each edited twin that is made a sink, else 0."""
    attended = HALF * drawn_by_sink(one.trace, one.sink)
    return [float(row["is_sink"] and not row["drawn_clean"] >= attended) for row in rows]


def _drawn(rows: Sequence[Row]) -> float:
    return float(np.nan_to_num([row["drawn_edited"] for row in rows]).mean())
