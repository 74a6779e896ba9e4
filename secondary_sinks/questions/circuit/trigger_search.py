"""The search for the trigger of one sink: layers, then heads, then the tokens that they read."""

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.layerwise.begin import layerwise_forward
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.observation import CachedPass
from secondary_sinks.observation.layers import attention_paid_by, check_same_states, iter_layers
from secondary_sinks.questions.circuit.search import (
    Group,
    Member,
    Search,
    side_by_side,
    smallest,
)
from secondary_sinks.questions.circuit.trigger_tests import (
    Exchanged,
    created_by_others,
    creates,
    cut,
    cuts,
    ends,
    exchanged,
    mean_of,
)
from secondary_sinks.questions.role_tests import SinkWithTwins
from secondary_sinks.types import Trace

DRAWS = 3
"""Random sets per set found, and random tokens per twin."""
SOURCES = 16
"""Source tokens that are tried per head: those with the largest attention."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """What was found about the attention outputs of layers, or of heads."""

    single: tuple[Exchanged, ...] = ()
    """Each layer or head on its own."""
    ending: Group = ()
    """The smallest set found whose replacement ends the sink; empty if none was found."""
    creating: Group = ()
    """The smallest set found whose outputs make most twins sinks; empty if none was found."""
    needed: Group = ()
    """All members that are needed on their own or, if there are none, `ending`."""
    sets: Mapping[Group, Exchanged] = field(default_factory=dict)
    """The tests of each member and of these three sets."""
    needed_control: float = math.nan
    """Layers: whether all others together end the sink. Heads: share of random sets, as large as
    `needed`, that do."""
    end_control: float = math.nan
    """Share of random sets of heads, as large as `ending`, that end the sink."""
    create_control: float = math.nan
    """Share of random sets of heads, as large as `creating`, that make most twins sinks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What was found about single edges of attention from the sink to other tokens."""

    single: tuple[tuple[Member, bool, float], ...] = ()
    """(edge, whether cutting it ends the sink, attention paid along it)."""
    ending: Group = ()
    """The smallest set found whose cut ends the sink; empty if none was found."""
    control: float = math.nan
    """Share of random sets of the same size, of the other edges tried, whose cut ends it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """All that was found about the trigger of one sink."""

    one: SinkWithTwins
    alike: bool
    """Whether it enters the first layer like its twins: what `whole` shows is then certain."""
    whole: Exchanged
    """All attention outputs up to the creation layer together."""
    by_others: float
    """Share of twins that the attention outputs of random ordinary tokens make sinks."""
    layers: Detail
    heads: Detail
    sources: Sources


Read = Mapping[int, tuple[Float[Tensor, "sink head rank"], Int[Tensor, "sink head rank"]]]
"""By layer: the largest attention that each sink pays to earlier tokens, and their positions."""


def largest_reads(
    model: HookedModel, trace: Trace, asked: Sequence[SinkWithTwins], kept: CachedPass | None = None
) -> Read:
    """What each sink attends to most, up to the last creation layer; `SOURCES` tokens per head."""
    found, positions = {}, [one.sink.pos for one in asked]
    last = max(one.sink.l_start for one in asked)
    views = kept.iter_layers() if kept else iter_layers(model, trace.tokens, denominators=True)
    for view in views:
        check_same_states(view, trace)
        paid = attention_paid_by(view, positions).cpu().transpose(0, 1)
        for row, pos in enumerate(positions):
            paid[row, :, pos:] = 0.0  # attention to itself is no edge
        top = paid.topk(min(SOURCES, paid.shape[-1]), dim=-1)
        found[view.layer] = (top.values, top.indices)
        if view.layer == last:
            break
        del view
    return found


def enter_alike(model: HookedModel, one: SinkWithTwins) -> bool:
    """Whether a sink and its twins enter the first layer with the same state, bit by bit.

    So it is without learned positions. Then nothing but what attention reads can tell them apart.
    """
    sink, home = (
        layerwise_forward(model, text.tokens).embedded[0] for text in (one.trace, one.home)
    )
    return all(torch.equal(sink[one.sink.pos], home[twin]) for twin in one.twins)


def search(one: SinkWithTwins, row: int, n_heads: int, read: Read, *, alike: bool) -> Search[Found]:
    """The trigger of a sink; it is row `row` of `read`."""
    layers = tuple((layer,) for layer in range(one.sink.l_start + 1))
    (whole, *single), by_others = yield from side_by_side(
        [
            exchanged(one, [layers, *((layer,) for layer in layers)]),
            created_by_others(one, range(len(layers)), DRAWS),
        ]
    )
    at_layers = yield from _layers(one, single, whole)
    heads = yield from _heads(one, at_layers, n_heads)
    sources = yield from _sources(one, heads.needed, row, read)
    return Found(
        one=one,
        alike=alike,
        whole=whole,
        by_others=by_others,
        layers=at_layers,
        heads=heads,
        sources=sources,
    )


def _layers(one: SinkWithTwins, single: Sequence[Exchanged], whole: Exchanged) -> Search[Detail]:
    found = yield from _detail(one, single, ending=whole.by_mean, creating=whole.creates)
    others = tuple(layer.group[0] for layer in single if layer.group[0] not in found.needed)
    control = math.nan
    if found.needed and others:
        (ended,) = yield from ends(one, [others])
        control = float(ended)
    return replace(found, needed_control=control)


def _heads(one: SinkWithTwins, layers: Detail, n_heads: int) -> Search[Detail]:
    """The heads of the layers that have a part in it."""
    at = sorted({member[0] for member in chain(layers.needed, layers.ending, layers.creating)})
    able = [(layer, head) for layer in at for head in range(n_heads)]
    asked = {"ending": bool(layers.ending), "creating": bool(layers.creating)}
    single = yield from exchanged(one, [(member,) for member in able])
    found = yield from _detail(one, single, **asked)
    drawn = {
        group: _random_sets(one, group, [m for m in able if m[0] in {layer for layer, _ in group}])
        for group in (found.needed, found.ending, found.creating)
    }
    needed, ended, created = yield from side_by_side(
        [
            ends(one, drawn[found.needed]),
            ends(one, drawn[found.ending]),
            creates(one, drawn[found.creating]),
        ]
    )
    return replace(
        found,
        needed_control=mean_of(needed),
        end_control=mean_of(ended),
        create_control=mean_of(created),
    )


def _detail(
    one: SinkWithTwins, single: Sequence[Exchanged], *, ending: bool, creating: bool
) -> Search[Detail]:
    """The smallest sets that end the sink and that make twins sinks, by what each member does."""
    by_loss = sorted(single, key=lambda found: (not found.by_mean, found.left)) if ending else []
    by_gain = sorted(single, key=lambda found: (-np.mean(found.created), -found.drawn))
    by_gain = by_gain if creating else []
    least, enough = yield from side_by_side(
        [
            smallest(
                [found.group[0] for found in by_loss],
                partial(ends, one),
                alone=any(found.by_mean for found in by_loss[:1]),
            ),
            smallest(
                [found.group[0] for found in by_gain],
                partial(creates, one),
                alone=any(found.creates for found in by_gain[:1]),
            ),
        ]
    )
    needed = tuple(found.group[0] for found in by_loss if found.ends) or least
    groups = {group for group in (needed, least, enough) if len(group) > 1}
    tested = yield from exchanged(one, sorted(groups))
    sets = {found.group: found for found in [*single, *tested]}
    return Detail(single=tuple(single), ending=least, creating=enough, needed=needed, sets=sets)


def _sources(one: SinkWithTwins, heads: Group, row: int, read: Read) -> Search[Sources]:
    """The edges of attention of some heads: those with the largest attention, cut."""
    paid = {
        (layer, head, int(source)): float(weight)
        for layer, head in heads
        for weight, source in zip(*(part[row, head] for part in read[layer]), strict=True)
        if weight > 0
    }
    edges = list(paid)
    single = yield from cut(one, [(edge,) for edge in edges])
    order = sorted(range(len(edges)), key=lambda at: (not single[at][0], single[at][1]))
    ending = yield from smallest(
        [edges[at] for at in order],
        partial(cuts, one),
        alone=any(single[at][0] for at in order[:1]),
    )
    ended = yield from cuts(one, _random_sets(one, ending, edges))
    return Sources(
        single=tuple((edge, hit, paid[edge]) for edge, (hit, _) in zip(edges, single, strict=True)),
        ending=ending,
        control=mean_of(ended),
    )


def _random_sets(one: SinkWithTwins, group: Group, able: Iterable[Member]) -> list[Group]:
    """Sets of the same size of other members; none if there are too few of them."""
    others = [member for member in able if member not in group]
    if not group or len(others) < len(group):
        return []
    chance = random.Random(f"{one.sink.text_id} {one.sink.pos} {group}")
    return [tuple(chance.sample(others, len(group))) for _ in range(DRAWS)]
