"""Which MLPs form a sink: those whose ablation ends it, alone or only together."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import pandas as pd

from secondary_sinks.attribution import formation
from secondary_sinks.models.protocol import HookedModel
from secondary_sinks.questions.cases import Case, TextCases, cases_of
from secondary_sinks.questions.outcomes import Trial, run_trials
from secondary_sinks.types import Edit, Sink, SinkTable, Trace, format_layers

MOST = 6
"""MLPs that groups are made of: those that write most along the primary's direction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forming:
    """The MLPs that form one sink."""

    text_id: str
    pos: int
    layers: tuple[int, ...]
    """The forming MLPs; where there are none, that of the creation layer, which was to be one."""
    how: str
    """one (a single MLP whose ablation ends it), each (several, and the ablation of any of them
    ends it), redundant (only the ablation of all of them together does), or none."""
    mass_lost: float
    """Share of its clean mass that it loses without all of them."""
    alignment_lost: float
    """By how much its centred alignment falls, mean over the sink's layers."""

    @property
    def found(self) -> bool:
        """Whether there are any."""
        return self.how != "none"


def forming_mlps(
    model: HookedModel, traces: Trace | Iterable[Trace], sinks: SinkTable, *, edit: str = "zero"
) -> tuple[Forming, ...]:
    """The forming MLPs of every secondary sink that can be asked.

    Every MLP up to the creation layer is ablated alone: a later one cannot undo what is there.
    Where none of them ends the sink, groups are tried: all pairs of the six MLPs that write most
    along the primary's direction (signed) up to the sink's last layer, and the first three, four,
    five and six of them. The smallest group that ends it is taken; of several, the one that
    writes most. Larger groups, and groups with attention in them, are not tried.
    """
    found: list[Forming] = []
    for text in cases_of(traces, sinks):
        found += forming_of_text(model, text, sinks, edit)
    return tuple(found)


def forming_of_text(
    model: HookedModel, text: TextCases, sinks: SinkTable, edit: str = "zero"
) -> list[Forming]:
    """The same for one text."""
    groups = _groups(model, text, sinks)
    trials = [
        _trial(case, group, edit)
        for case in text.cases
        for group in [*_singles(case.sink), *groups[case.sink.pos]]
    ]
    rows = pd.DataFrame(run_trials(model, text.trace, sinks.thresholds, trials))
    chosen = [_choose(case.sink, rows) for case in text.cases]
    joint = [_trial(case, group, edit) for case, (group, _) in zip(text.cases, chosen, strict=True)]
    ended = run_trials(model, text.trace, sinks.thresholds, joint)
    return [
        _forming(case.sink, group, how, row)
        for case, (group, how), row in zip(text.cases, chosen, ended, strict=True)
    ]


def cell_at(pos: int, layers: Sequence[int], edit: str) -> tuple[Edit, ...]:
    """The same edit of one token's MLP outputs at some layers."""
    return (Edit.of_label(edit, pos=pos, layer=tuple(layers)),)


def _trial(case: Case, layers: tuple[int, ...], edit: str) -> Trial:
    words = {"layers": layers}
    return Trial(
        sink=case.sink,
        pos=case.sink.pos,
        cell=cell_at(case.sink.pos, layers, edit),
        words=words,
    )


def _singles(sink: Sink) -> list[tuple[int, ...]]:
    return [(layer,) for layer in range(sink.l_start + 1)]


def _groups(
    model: HookedModel, text: TextCases, sinks: SinkTable
) -> dict[int, list[tuple[int, ...]]]:
    """Groups to try for each sink, by position; small ones first, then those that write most."""
    if not text.cases:
        return {}
    own = {case.sink.pos: case.sink for case in text.cases}
    table = SinkTable(
        sinks=tuple(s for s in sinks.sinks if s.text_id == text.trace.text_id and s.pos in own),
        thresholds=sinks.thresholds,
    )
    written = formation(model, text.trace, table, parts=False)
    groups = {}
    for event, by_layer in zip(written.events, written.mlp.tolist(), strict=True):
        if event.event == "creation":
            last = own[event.pos].l_end
            order = sorted(range(last + 1), key=lambda layer: -by_layer[layer])[:MOST]
            pairs = sorted(combinations(order, 2), key=lambda p: -by_layer[p[0]] - by_layer[p[1]])
            larger = [order[:size] for size in range(3, len(order) + 1)]
            groups[event.pos] = [tuple(sorted(group)) for group in [*pairs, *larger]]
    return groups


def _choose(sink: Sink, rows: pd.DataFrame) -> tuple[tuple[int, ...], str]:
    mine = rows[(rows["sink_pos"] == sink.pos) & ~rows["is_sink"].astype(bool)]
    single = [group[0] for group in mine["layers"] if len(group) == 1]
    if single:
        return tuple(single), "one" if len(single) == 1 else "each"
    together = [group for group in mine["layers"] if len(group) > 1]
    return (together[0], "redundant") if together else ((sink.l_start,), "none")


def _forming(sink: Sink, layers: tuple[int, ...], how: str, row: dict[str, Any]) -> Forming:
    return Forming(
        text_id=sink.text_id,
        pos=sink.pos,
        layers=layers,
        how=how,
        mass_lost=1 - row["mass_edited"] / row["mass_clean"],
        alignment_lost=row["alignment_centred_clean"] - row["alignment_centred_edited"],
    )


def forming_frame(found: Iterable[Forming], sinks: SinkTable) -> pd.DataFrame:
    """One row per sink, beside what detection says of it; `layers` in words."""
    by_place = {(sink.text_id, sink.pos): sink for sink in sinks.sinks}
    rows = []
    for one in found:
        sink = by_place[one.text_id, one.pos]
        rows.append(
            {
                **asdict(one),
                "layers": format_layers(one.layers),
                "token": sink.token,
                "l_start": sink.l_start,
                "lifetime": sink.lifetime,
                "censored": sink.censored,
                "level": sink.level,
            }
        )
    names = ["text_id", "pos", "token", "l_start", "lifetime", "censored", "level"]
    names += ["layers", "how", "mass_lost", "alignment_lost"]
    return pd.DataFrame(rows, columns=names)
