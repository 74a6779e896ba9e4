"""The tests behind a role: replace the output of each MLP up to a sink's creation layer.

    test    edit                                                     if the token then lives
    zero    MLP output at the sink: zero                             MLP not needed
    twin    MLP output at the sink: its mean over the twins          MLP not needed
    each    MLP output at the sink: that of a single twin            MLP not needed
    create  MLP output of the sink put into a twin                   MLP output makes a sink
    rescue  all earlier MLPs zero, the MLP's output as in clean run  MLP enough without earlier ones
    floor   all earlier MLPs and the MLP itself zero                 rescue shows nothing

A *twin* has the same token id as the sink but is not a sink at any layer: the MLP output at a twin
holds the token's identity, and makes no sink. `floor` is the control of `rescue`: a sink that lives
without all these MLPs is not rescued by one of them.

What it is to *live* is always to the disadvantage of the MLP. The output at a twin lacks the norm
and the direction of a sink by definition, so with zero, twin, each and floor a sink lives that is
still one by the criterion or still draws half of its clean attention (`trials.survives`). With
rescue it must be a sink by the criterion. With create too, and a twin that draws half of the sink's
attention in its own clean text is not made a sink: heads attend to it anyway.

Intervals take texts as independent, so no text may have a part in the tests of two (`match_homes`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pandas as pd

from secondary_sinks.causal.controls import never_sinks
from secondary_sinks.detection import shared_lengths
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.observation import CachedPass
from secondary_sinks.questions.matched_pairs import testable
from secondary_sinks.questions.question import Cost
from secondary_sinks.questions.trials import Trial, frame_of, run_trials, survives
from secondary_sinks.statistics import HALF
from secondary_sinks.types import LASTING, Edit, Sink, SinkTable, Trace
from secondary_sinks.types.controls import last_judged

MOST_TWINS = 4
"""Largest number of twins per sink; the nearest ones are used."""
Kept = Mapping[str, CachedPass]
"""Clean passes of some texts that are still in memory, by text."""
NOTHING_KEPT: Kept = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SinkWithTwins:
    """A sink to test, and its twins."""

    sink: Sink
    trace: Trace
    home: Trace
    """The text that the twins are in (`match_homes`); the sink's own if it has none."""
    twins: tuple[int, ...]

    @property
    def place(self) -> tuple[str, int]:
        """Text and position of the sink."""
        return self.sink.text_id, self.sink.pos


def sinks_with_twins(
    traces: Sequence[Trace], sinks: SinkTable
) -> tuple[list[SinkWithTwins], dict[str, int]]:
    """The sinks that get roles, and the number of sinks left out, by reason.

    Roles are given to sinks of `LASTING` kinds: secondary and primary-like ones.
    """
    texts = {trace.text_id: trace for trace in traces}
    lasting = [s for s in sinks.sinks if s.text_id in texts and s.kind in LASTING]
    known, left_out = testable(lasting)
    wanted: dict[str, set[int]] = {}
    for sink in known:
        wanted.setdefault(sink.text_id, set()).add(sink.token_id)
    twins = _twins(texts.values(), sinks, set().union(*wanted.values()))
    homes = match_homes(wanted, twins)
    return [_asked(sink, texts, homes, twins) for sink in known], left_out


def roles_cost(traces: Sequence[Trace], sinks: SinkTable) -> Cost:
    """Number of cells of `roles`, without those of MLPs that may write a sink together."""
    asked, _ = sinks_with_twins(traces, sinks)
    return Cost(question="roles", replayed=sum(len([*_tests(one)]) for one in asked), recomputed=0)


Twins = Mapping[str, Mapping[int, Sequence[int]]]
"""Positions of the twins in each text, by text and token id; ids without a twin are missing."""
Homes = Mapping[tuple[str, int], str]
"""The text with the twins of a sink, by the sink's text and token id; missing if there is none."""


def match_homes(wanted: Mapping[str, Iterable[int]], twins: Twins) -> Homes:
    """The text in which the sinks of each text have their twins: their own, or a free one.

    `wanted` are the token ids of the sinks to test, by text. A text is *free* if none of its sinks
    is tested with twins and it lends twins to no other text. So a text has a part in the outcomes
    of one text at most, and these are independent if texts are. A text whose own sinks are tested
    is never lent: together the two texts would be one observation, and that text is one alone.

    Texts without any twin of their own come first, and of these the ones with fewest possible
    homes. Homes without sinks to test are preferred, then those with twins of most of the sinks.
    Each turn gives every text one home more, for sinks with token ids that still lack one. The
    result depends on the tokens and the places of sinks, not on the order of texts or any outcome.
    """
    found = {(text, one): text for text in wanted for one in wanted[text] if one in twins[text]}
    lacking = {text: {one for one in wanted[text] if one not in twins[text]} for text in wanted}
    tested = {text for text, _ in found}
    free = {*twins} - tested

    def homes(text: str) -> list[tuple[bool, int, int, str]]:
        """Free texts with twins that a text lacks, the best one last."""
        able = {home: twins[home].keys() & lacking[text] for home in free - {text}}
        numbers = {home: sum(len(twins[home][one]) for one in able[home]) for home in able}
        return sorted((h not in wanted, len(able[h]), numbers[h], h) for h in able if able[h])

    turns = sorted(lacking, key=lambda text: (text in tested, len(homes(text)), text))
    while turns:
        served = []
        for text in turns:
            if (text in free or text in tested) and (able := homes(text)):
                home = able[-1][-1]
                found |= {(text, one): home for one in lacking[text] & twins[home].keys()}
                lacking[text] -= twins[home].keys()
                free -= {home, text}
                tested.add(text)
                served.append(text)
        turns = served
    return found


def _asked(sink: Sink, texts: Mapping[str, Trace], homes: Homes, twins: Twins) -> SinkWithTwins:
    home = homes.get((sink.text_id, sink.token_id))
    able = twins[home][sink.token_id] if home else ()
    near = sorted(able, key=lambda pos: (abs(pos - sink.pos), pos))
    return SinkWithTwins(
        sink=sink,
        trace=texts[sink.text_id],
        home=texts[home or sink.text_id],
        twins=tuple(near[:MOST_TWINS]),
    )


def _twins(traces: Iterable[Trace], sinks: SinkTable, tokens: Iterable[int]) -> Twins:
    """Tokens that are never a sink, that enough queries see, and that no earlier text has too.

    Attention is causal: where an earlier text begins with the same tokens, it has the same twins.
    """
    ids, given = sorted(tokens), list(traces)
    found: dict[str, dict[int, list[int]]] = {}
    for trace, repeated in zip(given, shared_lengths([t.tokens for t in given]), strict=True):
        able = range(repeated, last_judged(trace, sinks) + 1)
        by_id = {one: [p for p in never_sinks(trace, sinks, one) if p in able] for one in ids}
        found[trace.text_id] = {one: places for one, places in by_id.items() if places}
    return found


def run_tests(
    model: HookedModel, asked: Sequence[SinkWithTwins], sinks: SinkTable, kept: Kept
) -> pd.DataFrame:
    """All tests of single MLPs up to each sink's creation layer; result as of `run_pairs`."""
    return run_pairs(model, [(one, trial) for one in asked for trial in _tests(one)], sinks, kept)


def run_pairs(
    model: HookedModel, pairs: Iterable[tuple[SinkWithTwins, Trial]], sinks: SinkTable, kept: Kept
) -> pd.DataFrame:
    """Does the edited token live? One row per sink, group of layers and test.

    Columns text_id, pos, group, test and two shares of cells (one cell per twin for "each" and
    "create", else one cell): "alive", those after which the edited token lives as the table at the
    top of the module says, and "is_sink", those after which it is a sink by the criterion.
    """
    rows = run_rows(model, list(pairs), sinks, kept)
    names = ["of_text", "sink_pos", "group", "test"]
    cells = frame_of(rows, "of_text", "group", "test").astype({"is_sink": float})
    by_case = cells.assign(alive=_lives(cells)).groupby(names, sort=False)
    shares = by_case[["alive", "is_sink"]].mean().reset_index()
    return shares.rename(columns={"of_text": "text_id", "sink_pos": "pos"})


def _lives(cells: pd.DataFrame) -> "pd.Series[float]":
    """1 where the edited token lives, else 0; each sink has a cell "rescue" or no "create"."""
    place, test = ["of_text", "sink_pos"], cells["test"]
    clean = cells[test == "rescue"].groupby(place)["drawn_clean"].first().to_frame("of_sink")
    attended = cells["drawn_clean"] >= HALF * cells.join(clean, on=place)["of_sink"]
    made = cells["is_sink"].where(~attended, 0.0)
    found = survives(cells).where(test != "rescue", cells["is_sink"])
    return found.where(test != "create", made)


def run_rows(
    model: HookedModel,
    pairs: Sequence[tuple[SinkWithTwins, Trial]],
    sinks: SinkTable,
    kept: Kept = NOTHING_KEPT,
) -> list[dict[str, Any]]:
    """Rows of `run_trials`, in the order of the pairs; one replay for each edited text.

    Trials whose word `test` is "create" edit a twin, in its own text; the others edit the sink.
    """
    by_text: dict[str, list[int]] = {}
    for number, (one, trial) in enumerate(pairs):
        by_text.setdefault(_edited_text(one, trial).text_id, []).append(number)
    rows: dict[int, dict[str, Any]] = {}
    for numbers in by_text.values():
        group = [pairs[number] for number in numbers]
        here = _edited_text(*group[0])
        texts = {text.text_id: text for one, _ in group for text in (one.home, one.trace)}
        others = [text for name, text in texts.items() if name != here.text_id]
        trials = [trial for _, trial in group]
        clean = kept.get(here.text_id)
        found = run_trials(model, here, sinks.thresholds, trials, others, clean)
        rows |= dict(zip(numbers, found, strict=True))
    return [rows[number] for number in range(len(pairs))]


def _edited_text(one: SinkWithTwins, trial: Trial) -> Trace:
    return one.home if trial.words["test"] == "create" else one.trace


def _tests(one: SinkWithTwins) -> Iterator[Trial]:
    pos = one.sink.pos
    for layer in range(one.sink.l_start + 1):
        yield _trial(one, "zero", (layer,), pos, [Edit(pos=pos, layer=layer)])
        yield from group_tests(one, (layer,))
        if one.twins:
            yield _trial(one, "twin", (layer,), pos, [replaced_by_twins(one, layer, one.twins)])
        for twin in one.twins:
            yield _trial(one, "each", (layer,), pos, [replaced_by_twins(one, layer, twin)])


def replaced_by_twins(one: SinkWithTwins, layer: int, twins: int | tuple[int, ...]) -> Edit:
    """Edit: replace the MLP output at the sink by that at a twin, or the mean over twins."""
    return patched(one.sink.pos, (layer,), twins, one.home, one.trace)


def group_tests(one: SinkWithTwins, group: tuple[int, ...]) -> Iterator[Trial]:
    """The tests rescue, floor and create, for the MLPs of one or several layers together."""
    pos, last = one.sink.pos, max(group)
    others = tuple(layer for layer in range(last) if layer not in group)
    zeros = [Edit(pos=pos, layer=others)] if others else []
    own = Edit(pos=pos, layer=group, kind="patch", donor=pos)
    yield _trial(one, "rescue", group, pos, [*zeros, own])
    yield _trial(one, "floor", group, pos, [Edit(pos=pos, layer=tuple(range(last + 1)))])
    for twin in one.twins:
        into = patched(twin, group, pos, one.trace, one.home)
        yield _trial(one, "create", group, twin, [into])


def patched(
    pos: int,
    layers: tuple[int, ...],
    donor: int | tuple[int, ...],
    source: Trace,
    here: Trace,
    site: str = "mlp_out",
    units: tuple[int, ...] = (),
) -> Edit:
    """Edit: put what a donor token has at a site, or the mean over donors, into another token."""
    text = "" if source is here else source.text_id
    return Edit(pos=pos, layer=layers, kind="patch", site=site, units=units, donor=donor, text=text)


def _trial(
    one: SinkWithTwins, test: str, group: tuple[int, ...], pos: int, cell: Sequence[Edit]
) -> Trial:
    words = {"of_text": one.trace.text_id, "group": group, "test": test}
    return Trial(sink=one.sink, pos=pos, cell=tuple(cell), words=words)
