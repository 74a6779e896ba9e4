"""Controls for a sink: its token twins, the nearest ordinary tokens, or similar ones."""

import math
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """An ordinary token that stands in for a sink: `kind` is twin, neighbour or ordinary."""

    pos: int
    kind: str
    sink_pos: int


def match_controls(
    tokens: Sequence[int], sinks: Sequence[int], excluded: Collection[int], last: int
) -> list[Control]:
    """One control per sink: the nearest token twin, else the nearest ordinary token.

    A token twin has the sink's token id and is no sink. `excluded` positions (every sink of the
    text) and positions beyond `last` (seen by too few queries) are never used, and none twice;
    a sink for which nothing is left has no control. Sinks that share a token take turns in
    order of position.

    >>> [c.pos for c in match_controls([9, 5, 7, 5, 7], sinks=[1], excluded={0, 1}, last=4)]
    [3]
    """
    taken = set(excluded)
    controls = []
    for sink in sinks:
        free = [pos for pos in range(1, min(last + 1, len(tokens))) if pos not in taken]
        twins = [pos for pos in free if tokens[pos] == tokens[sink]]
        if not free:
            continue
        pos = min(twins or free, key=lambda other: (abs(other - sink), other))
        taken.add(pos)
        controls.append(Control(pos=pos, kind="twin" if twins else "neighbour", sink_pos=sink))
    return controls


SIMILAR = 4
"""Similar tokens are drawn from so many times as many, the most similar ones."""


def similar_tokens(
    norm: Sequence[float], pos: int, able: Sequence[int], number: int, seed: int = 0
) -> list[int]:
    """Some of the `able` positions that are most like `pos` in position and norm, at random.

    Unlikeness is the distance in shares of the text's length plus the difference of the logarithms
    of the norms. Fewer than `number` where fewer are able.

    >>> similar_tokens([1.0] * 9 + [50.0], pos=4, able=[3, 5], number=2)
    [3, 5]
    """

    def unlike(other: int) -> float:
        ratio = max(norm[other], 1e-30) / max(norm[pos], 1e-30)
        return abs(other - pos) / len(norm) + abs(math.log(ratio))

    near = sorted(able, key=lambda other: (unlike(other), other))[: SIMILAR * number]
    chance = random.Random(f"{seed} {pos}")
    return sorted(chance.sample(near, min(number, len(near))))
