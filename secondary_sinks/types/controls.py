"""Matched controls for sinks: token twins, the nearest ordinary tokens, or similar tokens."""

import math
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from secondary_sinks.errors import DetectionError
from secondary_sinks.numbers import whole_number
from secondary_sinks.types.lists import one_or_more
from secondary_sinks.types.sinks import SinkTable
from secondary_sinks.types.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """An ordinary token as the control of a sink; `kind` is twin, neighbour or ordinary."""

    pos: int
    kind: str
    sink_pos: int


def last_judged(trace: Trace, sinks: SinkTable) -> int:
    """The last position that enough queries see at every layer; -1 if no position is."""
    seen = (trace.queries.amin(0) >= sinks.thresholds.min_queries).nonzero()[:, 0]
    return int(seen.max()) if len(seen) else -1


def match_controls(
    tokens: Sequence[int], sinks: Sequence[int], excluded: Collection[int], last: int
) -> list[Control]:
    """One control per sink: the nearest token twin, else the nearest ordinary token.

    A token twin has the same token id as the sink, but is not a sink. `excluded` positions (every
    sink of the text) and positions after `last` (seen by too few queries) are never used, and no
    position is used twice; a sink for which no position is left has no control. Sinks that share a
    token id choose in order of position. Raises `DetectionError` for positions that are no whole
    numbers, and for a sink that is not in the text.

    >>> [c.pos for c in match_controls([9, 5, 7, 5, 7], sinks=[1], excluded={0, 1}, last=4)]
    [3]
    """
    taken = set(one_or_more(excluded, "an excluded position", DetectionError))
    last = whole_number("last", last, DetectionError)
    controls = []
    for sink in one_or_more(sinks, "the position of a sink", DetectionError):
        if not 0 <= sink < len(tokens):
            raise DetectionError(
                f"a sink is at position {sink} of {len(tokens)} tokens", "expected one of the text"
            )
        free = [pos for pos in range(1, min(last + 1, len(tokens))) if pos not in taken]
        twins = [pos for pos in free if tokens[pos] == tokens[sink]]
        if not free:
            continue
        pos = min(twins or free, key=lambda other: (abs(other - sink), other))
        taken.add(pos)
        controls.append(Control(pos=pos, kind="twin" if twins else "neighbour", sink_pos=sink))
    return controls


SIMILAR = 4
"""Similar tokens are drawn from this many times their number: the most similar candidates."""


def similar_tokens(
    norm: Sequence[float], pos: int, candidates: Sequence[int], number: int, seed: int = 0
) -> list[int]:
    """A random draw of `number` of the `candidates` that are most like `pos` in place and norm.

    Dissimilarity is the distance as a share of the text's length, plus the absolute difference of
    the log norms. Fewer than `number` if there are fewer candidates.

    >>> similar_tokens([1.0] * 9 + [50.0], pos=4, candidates=[3, 5], number=2)
    [3, 5]
    """

    def dissimilarity(other: int) -> float:
        ratio = max(norm[other], 1e-30) / max(norm[pos], 1e-30)
        return abs(other - pos) / len(norm) + abs(math.log(ratio))

    near = sorted(candidates, key=lambda other: (dissimilarity(other), other))
    near = near[: SIMILAR * number]
    chance = random.Random(f"{seed} {pos}")
    return sorted(chance.sample(near, min(number, len(near))))
