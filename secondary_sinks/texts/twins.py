"""Controls for a sink: its token twins, or the nearest ordinary tokens."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """An ordinary token that stands in for a sink: `kind` is twin or neighbour."""

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
