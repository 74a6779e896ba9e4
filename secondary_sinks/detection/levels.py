"""Sink levels: clusters of (creation layer, lifetime) over all texts."""

from collections.abc import Sequence

from secondary_sinks.types import Sink

Point = tuple[int, int]


def cluster(points: Sequence[Point]) -> list[int]:
    """Level of each point: points that touch (both coordinates within 1) share a level.

    Levels are numbered by creation layer, then lifetime, from 0.

    >>> cluster([(22, 23), (5, 3), (22, 22), (22, 24)])
    [1, 0, 1, 1]
    """
    groups: list[set[Point]] = []
    for point in sorted(set(points)):
        near = [group for group in groups if any(_touch(point, other) for other in group)]
        groups = [group for group in groups if group not in near] + [{point}.union(*near)]
    order = sorted(groups, key=min)
    level = {point: number for number, group in enumerate(order) for point in group}
    return [level[point] for point in points]


def levels(sinks: Sequence[Sink]) -> list[int]:
    """Level of each sink; primaries have none (-1)."""
    others = [(sink.l_start, sink.lifetime) for sink in sinks if sink.kind != "primary"]
    numbers = iter(cluster(others))
    return [-1 if sink.kind == "primary" else next(numbers) for sink in sinks]


def _touch(one: Point, other: Point) -> bool:
    return abs(one[0] - other[0]) <= 1 and abs(one[1] - other[1]) <= 1
