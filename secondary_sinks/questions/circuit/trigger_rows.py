"""What was found about triggers as rows: edges of the circuit, and one row per sink."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from secondary_sinks.questions.circuit.edges import Edge, of_sink
from secondary_sinks.questions.circuit.search import Group, Member
from secondary_sinks.questions.circuit.trigger_search import Detail, Found
from secondary_sinks.questions.circuit.trigger_tests import SITES, mean_of
from secondary_sinks.questions.role_tests import SinkWithTwins
from secondary_sinks.types import SHARE_UNIT

NAN = math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """The trigger of one sink in numbers; the verdicts rest on them.

    Numbers are NaN, and texts empty, for a sink without a twin and for what was not found.
    """

    text_id: str
    pos: int
    token: str
    kind: str
    level: float
    l_start: int
    n_donors: int
    """Number of twins that were tried."""
    n_heads: int
    """Number of attention heads up to the creation layer, among which few are sought."""
    alike: bool = False
    """Whether it enters the first layer with the same state as its twins, as without learned
    positions: then `ended` and `created` are 1 whatever triggers the sink, and show nothing."""
    ended: float = NAN
    """Share of twins whose attention outputs, up to the creation layer, end the sink."""
    ended_mean: float = NAN
    """1 if the mean over the twins does, else 0."""
    created: float = NAN
    """Share of twins that become sinks with the sink's attention outputs."""
    created_by_others: float = NAN
    """Share that become sinks with those of random ordinary tokens."""
    layers: str = ""
    """Layers whose attention output is needed, such as "3"; empty if there are none."""
    layers_ended: float = NAN
    """Share of twins whose outputs at these layers end the sink."""
    layers_created: float = NAN
    """Share of twins that become sinks with the sink's outputs at these layers."""
    other_layers_ended: float = NAN
    """1 if the twins' mean at all other layers ends the sink, else 0; NaN without other layers."""
    heads: str = ""
    """Heads that are needed, such as "3.11 3.2" (layer.head)."""
    heads_ended: float = NAN
    heads_created: float = NAN
    """As for layers."""
    random_heads_ended: float = NAN
    """Share of random sets of as many other heads of the same layers that end the sink."""
    n_heads_end: float = NAN
    """Size of the smallest set of heads found whose replacement ends the sink; NaN if none was."""
    set_ended: float = NAN
    """Share of twins whose outputs at this set end the sink; the set was found by their mean."""
    random_set_ended: float = NAN
    """Share of random sets of as many other heads of the same layers whose replacement by the mean
    over twins ends the sink."""
    n_heads_create: float = NAN
    """Size of the smallest set of heads found whose outputs make most twins sinks."""
    random_heads_created: float = NAN
    """Share of random sets of as many other heads that do."""
    sources: str = ""
    """The smallest set of edges found whose cut ends the sink, such as "3.11<17" (layer.head<source
    position)."""
    n_sources: float = NAN
    """Its size; NaN if none was found."""
    random_sources_ended: float = NAN
    """Share of random sets of as many other edges, of the same heads, whose cut ends the sink."""


def untried_row(one: SinkWithTwins, heads_per_layer: int) -> Trigger:
    """The row of a sink without a twin."""
    return Trigger(**_place(one, heads_per_layer))


def _place(one: SinkWithTwins, heads_per_layer: int) -> dict[str, Any]:
    l_start = one.sink.l_start
    counts = {"n_donors": len(one.twins), "n_heads": (l_start + 1) * heads_per_layer}
    return of_sink(one.sink) | {"l_start": l_start} | counts


def trigger_row(found: Found, heads_per_layer: int) -> Trigger:
    """The row of a sink with twins."""
    one, layers, heads = found.one, found.layers, found.heads
    return Trigger(
        **_place(one, heads_per_layer),
        alike=found.alike,
        ended=mean_of(found.whole.ended),
        ended_mean=float(found.whole.by_mean),
        created=mean_of(found.whole.created),
        created_by_others=found.by_others,
        layers=format_group(layers.needed),
        layers_ended=mean_of(_ended(layers, layers.needed)),
        layers_created=mean_of(_created(layers, layers.needed)),
        other_layers_ended=layers.needed_control,
        heads=format_group(heads.needed),
        heads_ended=mean_of(_ended(heads, heads.needed)),
        heads_created=mean_of(_created(heads, heads.needed)),
        random_heads_ended=heads.needed_control,
        n_heads_end=_size(heads.ending),
        set_ended=mean_of(_ended(heads, heads.ending)),
        random_set_ended=heads.end_control,
        n_heads_create=_size(heads.creating),
        random_heads_created=heads.create_control,
        sources=format_group(found.sources.ending),
        n_sources=_size(found.sources.ending),
        random_sources_ended=found.sources.control,
    )


def format_group(group: Group) -> str:
    """A set as text.

    >>> format_group(((3, 11), (3, 2))), format_group(((3, 11, 17),)), format_group(((3,),))
    ('3.2 3.11', '3.11<17', '3')
    """
    return " ".join(map(_name, sorted(group)))


def _name(member: Member) -> str:
    return ".".join(map(str, member[:2])) + (f"<{member[2]}" if len(member) > 2 else "")


def edges_of(found: Found) -> Iterator[Edge]:
    """All edges that were tested at one sink.

    `ended` and `created` are of a single layer, head or edge of attention, or (without a layer) of
    all attention outputs up to the creation layer, left out where they are certain by construction
    (`Found.alike`); `ended_in_set` and `created_in_set` are of the
    smallest sets found, one row per member with the effect of the whole set.
    """
    whole = found.whole
    if not found.alike:
        yield _edge(found, (), "ended", whole.ended)
        yield _edge(found, (), "created", whole.created, found.by_others)
    for detail in (found.layers, found.heads):
        for single in detail.single:
            yield _edge(found, single.group[0], "ended", single.ended)
            yield _edge(found, single.group[0], "created", single.created)
        for member in detail.ending:
            yield _edge(
                found, member, "ended_in_set", _ended(detail, detail.ending), detail.end_control
            )
        for member in detail.creating:
            effect, control = _created(detail, detail.creating), detail.create_control
            yield _edge(found, member, "created_in_set", effect, control)
    for member, hit, _ in found.sources.single:
        yield _edge(found, member, "ended", [float(hit)])
    for member in found.sources.ending:
        yield _edge(found, member, "ended_in_set", [1.0], found.sources.control)


def _edge(
    found: Found, member: Member, measure: str, effects: Sequence[float], control: float = NAN
) -> Edge:
    """An edge from a member; without a member, from all attention outputs together."""
    source = member[2] if len(member) > 2 else None
    return Edge(
        **of_sink(found.one.sink),
        part="trigger",
        measure=measure,
        site=SITES[max(len(member), 1)],
        layer=float(member[0]) if member else NAN,
        head=float(member[1]) if len(member) > 1 else NAN,
        source_pos=NAN if source is None else float(source),
        source_token="" if source is None else found.one.trace.token_strings[source],
        effect=mean_of(effects),
        low=min(effects) if len(effects) > 1 else NAN,
        high=max(effects) if len(effects) > 1 else NAN,
        control=control,
        unit=SHARE_UNIT,
    )


def _ended(detail: Detail, group: Group) -> Sequence[float]:
    return detail.sets[group].ended if group else ()


def _created(detail: Detail, group: Group) -> Sequence[float]:
    return detail.sets[group].created if group else ()


def _size(group: Group) -> float:
    return float(len(group)) if group else NAN
