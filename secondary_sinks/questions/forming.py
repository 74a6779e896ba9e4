"""Which MLPs form a sink: those whose ablation ends it, alone or only together."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from math import comb
from typing import Any

import pandas as pd

from secondary_sinks.attribution import formation
from secondary_sinks.errors import DetectionError
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.progress import Progress, shows_progress
from secondary_sinks.questions.matched_pairs import (
    MatchedPair,
    Place,
    TextPairs,
    count_left_out,
    match_pairs,
    with_progress,
)
from secondary_sinks.questions.question import Cost
from secondary_sinks.questions.trials import Trial, run_trials
from secondary_sinks.types import Edit, Sink, SinkTable, Trace, format_layers, mass_lost

MOST = 6
"""Number of MLPs that groups are taken from: those that write most along the primary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forming:
    """The MLPs that form one sink."""

    text_id: str
    pos: int
    layers: tuple[int, ...]
    """The forming MLPs; if no MLP ends the sink, the MLP of the creation layer."""
    how: str
    """one (the ablation of a single MLP ends the sink), each (that of any one of several does),
    redundant (only that of all of them together does), or none (no ablation tried does)."""
    mass_lost: float
    """Share of its clean attention mass that the sink loses with all of them ablated."""
    alignment_lost: float
    """Fall of its centred alignment with all of them ablated, mean over the sink's layers."""
    written: float
    """Signed length that they write together along the primary's direction (minus the typical
    token) at the creation layer."""
    by_layer: tuple[float, ...] = field(default=(), repr=False)
    """What each single MLP writes along that direction, by layer."""

    @property
    def found(self) -> bool:
        """Whether any ablation that was tried ends the sink."""
        return self.how != "none"


@shows_progress
def forming_mlps(
    model: HookedModel,
    traces: Trace | Iterable[Trace],
    sinks: SinkTable,
    *,
    edit: str = "zero",
    progress: Progress | None = None,
) -> tuple[Forming, ...]:
    """The forming MLPs of every secondary and primary-like sink: those whose ablation ends it.

    They can include MLPs that only enable the writer of the sink (`roles`). Every MLP up to the
    creation layer is ablated alone; a later one cannot prevent the sink. If no single ablation ends
    the sink, groups are tried: all pairs of the six MLPs that write most along the primary's
    direction (signed) up to the sink's last layer, and the first three, four, five and six of them.
    The smallest group that ends the sink is taken; of several, the one that writes most. Larger
    groups, and groups with attention in them, are not tried. `progress` is called with (texts done,
    texts).
    """
    found: list[Forming] = []
    for text in with_progress(match_pairs(traces, sinks), progress):
        found += forming_of_text(model, text, sinks, edit)
    return tuple(found)


def forming_of_text(
    model: HookedModel, text: TextPairs, sinks: SinkTable, edit: str = "zero"
) -> list[Forming]:
    """The forming MLPs of the tested sinks of one text."""
    written = _written(model, text, sinks)

    def run(groups: Callable[[Sink], list[tuple[int, ...]]]) -> list[dict[str, Any]]:
        trials = [_trial(case, group, edit) for case in text.cases for group in groups(case.sink)]
        return run_trials(model, text.trace, sinks.thresholds, trials)

    alone = run(lambda sink: [(layer,) for layer in range(sink.l_start + 1)])
    further = run(lambda sink: _further(_of_sink(alone, sink), written[sink.pos], sink))
    return [
        _forming(case.sink, _of_sink(alone + further, case.sink), written[case.sink.pos])
        for case in text.cases
    ]


def forming_cost(traces: Trace | Iterable[Trace], sinks: SinkTable) -> Cost:
    """The largest number of cells of `forming_mlps`: where no single ablation ends any sink."""
    replayed = 0
    for sink in (case.sink for text in match_pairs(traces, sinks) for case in text.cases):
        n_mlps = min(sink.l_end + 1, MOST)
        replayed += sink.l_start + 1 + comb(n_mlps, 2) + max(n_mlps - 2, 0)  # pairs, larger groups
    return Cost(question="forming_mlps", replayed=replayed, recomputed=0)


def by_place(
    model: HookedModel,
    texts: Sequence[TextPairs],
    sinks: SinkTable,
    forming: Iterable[Forming] | None,
) -> dict[Place, Forming]:
    """The forming MLPs of each tested sink: taken from `forming` or, by default, found now.

    Raises `DetectionError` for a sink that is missing in `forming`.
    """
    if forming is None:
        forming = [one for text in texts for one in forming_of_text(model, text, sinks)]
    found = {(one.text_id, one.pos): one for one in forming}
    for text in texts:
        for case in text.cases:
            if case.place not in found:
                raise DetectionError(
                    f"forming= lacks the sink at {case.sink.pos} of text {case.sink.text_id!r}",
                    "leave forming= out, or find the forming MLPs of this table of sinks",
                )
    return found


def formed_only(
    texts: Sequence[TextPairs], forming: Mapping[Place, Forming]
) -> tuple[list[TextPairs], dict[str, int]]:
    """The pairs whose sink is formed by MLPs, so that it can be removed; counts the others."""
    kept = []
    for text in texts:
        cases = [c for c in text.cases if forming[c.place].found]
        left_out = text.left_out | {"not formed by any MLP": len(text.cases) - len(cases)}
        kept.append(replace(text, cases=tuple(cases), left_out=left_out))
    return kept, count_left_out(kept)


def none_found(texts: Sequence[TextPairs], forming: Mapping[Place, Forming]) -> str:
    """How many of the sinks have no forming MLPs, to append to a sentence."""
    tested = [forming[case.place] for text in texts for case in text.cases]
    n_without = sum(not one.found for one in tested)
    if not n_without:
        return ""
    return f"; {n_without} of {len(tested)} sinks have no forming MLP"


def cell_at(pos: int, layers: Sequence[int], edit: str) -> tuple[Edit, ...]:
    """The same edit of the MLP outputs of one token at several layers."""
    return (Edit.of_label(edit, pos=pos, layer=tuple(layers)),)


def _trial(case: MatchedPair, layers: tuple[int, ...], edit: str) -> Trial:
    cell = cell_at(case.sink.pos, layers, edit)
    return Trial(sink=case.sink, pos=case.sink.pos, cell=cell, words={"layers": layers})


def _written(model: HookedModel, text: TextPairs, sinks: SinkTable) -> dict[int, list[float]]:
    """Signed length that each MLP writes along the primary's direction, by position of the sink."""
    if not text.cases:
        return {}
    found = formation(model, text.trace, text.tested_of(sinks), parts=False)
    return {
        event.pos: by_layer
        for event, by_layer in zip(found.events, found.mlp.tolist(), strict=True)
        if event.event == "creation"
    }


def _groups(sink: Sink, written: Sequence[float]) -> list[tuple[int, ...]]:
    """Groups to try, in this order: pairs, sorted by what they write; then larger groups."""
    order = sorted(range(sink.l_end + 1), key=lambda layer: -written[layer])[:MOST]
    pairs = sorted(combinations(order, 2), key=lambda pair: -sum(written[la] for la in pair))
    larger = [order[:size] for size in range(3, len(order) + 1)]
    return [tuple(sorted(group)) for group in [*pairs, *larger]]


def _of_sink(rows: Sequence[dict[str, Any]], sink: Sink) -> list[dict[str, Any]]:
    return [row for row in rows if row["sink_pos"] == sink.pos]


def _ending(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The single ablations that end a sink."""
    return [row for row in rows if len(row["layers"]) == 1 and not row["is_sink"]]


def _further(
    alone: Sequence[dict[str, Any]], written: Sequence[float], sink: Sink
) -> list[tuple[int, ...]]:
    """Groups to try after the single ablations: all that end the sink alone, if there are any."""
    ending = _ending(alone)
    if ending:
        return [sum((row["layers"] for row in ending), ())] if len(ending) > 1 else []
    return _groups(sink, written)


def _choose(rows: Sequence[dict[str, Any]], sink: Sink) -> tuple[str, dict[str, Any]]:
    """How a sink is formed, and the row of its forming MLPs."""
    ending, together = _ending(rows), [row for row in rows if len(row["layers"]) > 1]
    if ending:
        return ("each", together[0]) if together else ("one", ending[0])
    for row in together:
        if not row["is_sink"]:
            return "redundant", row
    return "none", rows[sink.l_start]


def _forming(sink: Sink, rows: Sequence[dict[str, Any]], written: Sequence[float]) -> Forming:
    how, row = _choose(rows, sink)
    return Forming(
        text_id=sink.text_id,
        pos=sink.pos,
        layers=row["layers"],
        how=how,
        mass_lost=float(mass_lost(row["mass_clean"], row["mass_edited"], row["mass_clean"])),
        alignment_lost=row["alignment_centred_clean"] - row["alignment_centred_edited"],
        written=sum(written[layer] for layer in row["layers"]),
        by_layer=tuple(written),
    )


def forming_frame(found: Iterable[Forming], sinks: SinkTable) -> pd.DataFrame:
    """One row per sink with its forming MLPs; `layers` is a text such as "0-2, 5"."""
    own = {(sink.text_id, sink.pos): sink for sink in sinks.sinks}
    rows = []
    for one in found:
        sink = own[one.text_id, one.pos]
        rows.append(
            {
                **asdict(one),
                "layers": format_layers(one.layers),
                **sink.fields("token", "l_start", "lifetime", "censored", "level"),
            }
        )
    names = ["text_id", "pos", "token", "l_start", "lifetime", "censored", "level"]
    names += ["layers", "how", "mass_lost", "alignment_lost", "written"]
    return pd.DataFrame(rows, columns=names)
