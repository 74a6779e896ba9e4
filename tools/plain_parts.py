"""Trigger and writer of one sink in the plain way, next to what the package reports.

One whole pass per edit, judged by `tools.plain_rule`. Definitions: docs/circuit.md.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.display import count
from tools.plain_model import Change, PlainModel
from tools.plain_rule import Rule

Member = tuple[int, ...]
"""(layer,), (layer, head) or (layer, head, source position)."""
MEAN, EACH, CREATED = "ended, mean of twins", "ended, each twin", "created in twins"
IN_SET = {"ended_in_set": EACH, "created_in_set": CREATED}
SINGLE = {"ended": EACH, "created": CREATED}
HEADS = "z"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One number of the circuit, as the package reports it and in the plain way."""

    part: str
    edited: str = ""
    measure: str
    ours: float
    plain: float
    afresh: float = nan
    """The same if the edited pass is judged as a text of its own; NaN where nothing is judged."""

    @property
    def judged(self) -> bool:
        """Whether it is a share of edits that end or create a sink."""
        return self.afresh == self.afresh

    @property
    def difference(self) -> float:
        """plain - ours, relative to ours where that is above 1; infinite if one is missing."""
        missing = math.isnan(self.plain), math.isnan(self.ours)
        if any(missing):
            return 0.0 if all(missing) else math.inf
        return (self.plain - self.ours) / max(1.0, abs(self.ours))


def write_row(pos: int, row: Tensor, units: slice | list[int] | None = None) -> Any:
    """A change that puts numbers into some units, by default all, of the row of one token."""

    def write(tensor: Float[Tensor, "pos width"]) -> None:
        where = slice(None) if units is None else units
        tensor[pos, where] = row[where]

    return write


class Judged:
    """Edits of one sink and its twins, each a whole pass, judged by the plain rule."""

    def __init__(self, plain: PlainModel, pos: int) -> None:
        """Make the clean pass, and find the sink's twins."""
        self.plain, self.pos = plain, pos
        self.clean = plain.run(logits=True)
        self.rule = Rule(self.clean)
        self.twins = self.rule.twins(plain.tokens.tolist(), pos)

    def alive(self, pos: int, changes: Sequence[Change]) -> Float[Tensor, "2"]:
        """Whether a token is a sink after some changes, 1 or 0: by direct effect, and afresh."""
        run = self.plain.run(changes)
        return torch.tensor(self.rule.of_pass(run, pos, self.plain.scale)).double()

    def ended(self, changes: Sequence[Change], *, whole: bool = False) -> Float[Tensor, "2"]:
        """Whether the sink ends; `whole`: and draws less than half of its attention, too."""
        return 1 - (self.lives(changes) if whole else self.alive(self.pos, changes))

    def lives(self, changes: Sequence[Change]) -> Float[Tensor, "2"]:
        """Whether the sink is one after some changes, or draws half of its attention."""
        run, scale = self.plain.run(changes), self.plain.scale
        both = (self.rule.of_pass(run, self.pos, scale), self.rule.attended(run, self.pos, scale))
        return torch.tensor(both).any(0).double()

    def made(self, twin: int, changes: Sequence[Change], *, whole: bool) -> Float[Tensor, "2"]:
        """Whether a twin becomes a sink; `whole`: and draws less than half of one before."""
        anyway = self.rule.draw_of(twin, self.pos) >= self.rule.draw_of(self.pos, self.pos) / 2
        return self.alive(twin, changes) * (1 - whole * anyway)

    def put(
        self, place: str, members: Sequence[Member], to: int, donors: Sequence[int]
    ) -> list[Change]:
        """Put what donors have, their mean, into a token: at whole layers or at heads."""
        found = []
        for member in members:
            row = self.clean.parts[place][member[0]][list(donors)].mean(0)
            write = write_row(to, row, self._units(member))
            found.append(Change(layer=member[0], place=place, write=write))
        return found

    def exchanged(
        self,
        part: str,
        edited: str,
        place: str,
        members: Sequence[Member],
        ours: Mapping[str, float],
        *,
        whole: bool = False,
    ) -> Iterator[Row]:
        """Rows of one set: with the twins' mean, with each twin, and put into each twin."""
        twins, pos = self.twins, self.pos
        ways: dict[str, Callable[[], list[Tensor]]] = {
            MEAN: lambda: [self.ended(self.put(place, members, pos, twins), whole=whole)],
            EACH: lambda: [
                self.ended(self.put(place, members, pos, [twin]), whole=whole) for twin in twins
            ],
            CREATED: lambda: [
                self.made(twin, self.put(place, members, twin, [pos]), whole=whole)
                for twin in twins
            ],
        }
        for name, value in ours.items():
            yield of_outcomes(part, edited, name, value, ways[name]())

    def _units(self, member: Member) -> slice | None:
        """The numbers of a head in z; all of a layer."""
        if len(member) == 1:
            return None
        width = self.clean.parts[HEADS].shape[-1] // self.plain.n_heads
        return slice(member[1] * width, (member[1] + 1) * width)


def of_outcomes(
    part: str, edited: str, measure: str, ours: float, outcomes: Sequence[Float[Tensor, "2"]]
) -> Row:
    """A row of the share of outcomes, by direct effect and afresh."""
    plain, afresh = torch.stack(list(outcomes)).mean(0).tolist()
    return Row(part=part, edited=edited, measure=measure, ours=ours, plain=plain, afresh=afresh)


def writer_rows(judged: Judged, roles: pd.DataFrame, edges: pd.DataFrame) -> Iterator[Row]:
    """All tests of each MLP up to the creation layer; then coordinates and neurons."""
    for row in roles.to_dict("records"):
        layer, edited = int(row["layer"]), f"MLP {row['layer']} ({row['role']})"
        ours = {MEAN: row["ended_twin"], EACH: row["ended_each"], CREATED: row["created_in_twin"]}
        yield from judged.exchanged("writer", edited, "mlp_out", [(layer,)], ours, whole=True)
        earlier, own = [_zero(judged.pos, at) for at in range(layer)], _zero(judged.pos, layer)
        kept = judged.put("mlp_out", [(layer,)], judged.pos, [judged.pos])
        for name, value, outcome in (
            ("ended, zero", row["ended_zero"], judged.ended([own], whole=True)),
            ("alive, earlier zero", row["rescued_alone"], judged.alive(judged.pos, earlier + kept)),
            ("alive, all zero", row["lives_without"], judged.lives([*earlier, own])),
        ):
            yield of_outcomes("writer", edited, name, float(value), [outcome])
    sets = edges[edges["measure"] == "ended_in_set"]
    yield from _unit_rows(judged, sets[sets["site"] == "mlp_out"], "mlp_out", "coordinate")
    yield from _unit_rows(judged, sets[sets["site"] == "post"], "post", "neuron")


def _zero(pos: int, layer: int) -> Change:
    def write(tensor: Float[Tensor, "pos width"]) -> None:
        tensor[pos] = 0

    return Change(layer=layer, place="mlp_out", write=write)


def _unit_rows(judged: Judged, edges: pd.DataFrame, place: str, word: str) -> Iterator[Row]:
    """The smallest set of units that ends the sink: the mean over the twins, neurons zero."""
    changes = []
    for (at,) in dict.fromkeys(members_of(edges, 1)):
        units = edges[edges["layer"] == at]["head"].astype(int).tolist()
        rows = judged.clean.parts[place][at]
        new = torch.zeros_like(rows[0]) if place == "post" else rows[judged.twins].mean(0)
        changes.append(Change(layer=at, place=place, write=write_row(judged.pos, new, units)))
    if changes:
        shown = f"{count(len(edges), word)} of MLP {', '.join(str(one.layer) for one in changes)}"
        yield of_outcomes("writer", shown, "ended", 1.0, [judged.ended(changes)])


def trigger_rows(judged: Judged, edges: pd.DataFrame, most: int) -> Iterator[Row]:
    """Layers, the smallest sets of layers and heads, exchanged; single edges of attention, cut."""
    layers, heads, cuts = (
        edges[edges["site"] == one] for one in ("attn_out", HEADS, "attn_scores")
    )
    yield from _exchanges(judged, layers[layers["layer"].notna()], "attn_out", "layer")
    in_sets = heads[heads["measure"].isin(IN_SET)][["layer", "head"]].drop_duplicates()
    yield from _exchanges(judged, heads.merge(in_sets), HEADS, "head")
    yield from _cut_rows(judged, cuts, most)


def _exchanges(judged: Judged, edges: pd.DataFrame, place: str, word: str) -> Iterator[Row]:
    """Rows of single layers or heads, then of the smallest sets."""
    names = ["layer", "head"][: 1 + (place == HEADS)]
    single = edges[edges["measure"].isin(SINGLE)]
    for _, mine in single.groupby(names):
        ours = dict(zip(mine["measure"].map(SINGLE), mine["effect"], strict=True))
        members = members_of(mine.head(1), len(names))
        yield from judged.exchanged("trigger", f"{word} {_shown(members)}", place, members, ours)
    for measure, name in IN_SET.items():
        mine = edges[edges["measure"] == measure]
        if len(mine):
            members = members_of(mine, len(names))
            # the set that ends the sink was found by the mean over the twins
            ours = ({MEAN: 1.0} if name == EACH else {}) | {name: float(mine["effect"].iloc[0])}
            shown = f"smallest set: {word} {_shown(members)}"
            yield from judged.exchanged("trigger", shown, place, members, ours)


def _cut_rows(judged: Judged, edges: pd.DataFrame, most: int) -> Iterator[Row]:
    """The smallest set of edges; each whose cut ends the sink; `most` of all others."""
    together = members_of(edges[edges["measure"] == "ended_in_set"], 3)
    if len(together) > 1:
        outcome = judged.ended([cut_edge(judged.pos, *one) for one in together])
        shown = f"smallest set: {_shown(together)}"
        yield of_outcomes("trigger", shown, "ended, cut", 1.0, [outcome])
    single = edges[edges["measure"] == "ended"]
    for member in members_of(single[single["effect"] == 1], 3):
        outcome = judged.ended([cut_edge(judged.pos, *member)])
        yield of_outcomes("trigger", _shown([member]), "ended, cut", 1.0, [outcome])
    rest = members_of(single[single["effect"] == 0], 3)
    outcomes = [judged.ended([cut_edge(judged.pos, *member)]) for member in rest[:most]]
    if outcomes:
        shown = f"{len(outcomes)} of {len(rest)} other edges"
        yield of_outcomes("trigger", shown, "ended, cut", 0.0, outcomes)


def cut_edge(pos: int, layer: int, head: int, source: int) -> Change:
    """The query of a token does not see one key, in one head."""

    def write(scores: Float[Tensor, "head query key"]) -> None:
        scores[head, pos, source] = -torch.inf

    return Change(layer=layer, place="scores", write=write)


def members_of(edges: pd.DataFrame, n: int) -> list[Any]:
    """The places of some edges: (layer,), (layer, head) or (layer, head, source)."""
    names = ["layer", "head", "source_pos"][:n]
    return [tuple(map(int, row)) for row in edges[names].itertuples(index=False, name=None)]


def _shown(members: Sequence[Member]) -> str:
    """Members as text.

    >>> _shown([(3,)]), _shown([(3, 11), (3, 2)]), _shown([(3, 11, 17)])
    ('3', '3.11 3.2', '3.11<17')
    """
    names = (".".join(map(str, one[:2])) + (f"<{one[2]}" if one[2:] else "") for one in members)
    return " ".join(names)
