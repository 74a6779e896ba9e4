"""A permutation test whose units are blocks of layers that move along the layers as one."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

EXACT = 20_000
"""Up to so many arrangements are all tried; of more, `DRAWS` are drawn."""
DRAWS = 9_999

ROUNDING = 1e-5
"""Totals this close, relatively, are equal: traces are in float32."""

Values = NDArray[np.float64]


class Block(NamedTuple):
    """Creation layers that move together, and the shifts (0 among them) that are possible."""

    layers: tuple[int, ...]
    shifts: tuple[int, ...]


def blocks_of(
    layers: Sequence[int], apart: int, n_layers: int, fits: Callable[[int, int], bool]
) -> list[Block]:
    """Blocks of layers that are less than `apart` from their neighbours, with their shifts.

    A shift is possible where `fits(layer, layer + shift)` holds for every layer of the block.
    """
    groups: list[list[int]] = []
    for layer in sorted(set(layers)):
        if groups and layer - groups[-1][-1] < apart:
            groups[-1].append(layer)
        else:
            groups.append([layer])
    every = range(-n_layers + 1, n_layers)
    return [
        Block(tuple(g), tuple(s for s in every if all(fits(la, la + s) for la in g)))
        for g in groups
    ]


def n_arrangements(blocks: Sequence[Block]) -> float:
    """How many arrangements there are, the real one among them; 0 without a block."""
    return float(math.prod(len(block.shifts) for block in blocks)) if blocks else 0.0


def draw(blocks: Sequence[Block], generator: torch.Generator) -> NDArray[np.int64]:
    """Index of each block's shift [arrangement, block]: all there are, or `DRAWS` at random."""
    sizes = [len(block.shifts) for block in blocks]
    if n_arrangements(blocks) <= EXACT:
        return np.array(list(itertools.product(*map(range, sizes))), dtype=np.int64)
    columns = [torch.randint(size, (DRAWS,), generator=generator).numpy() for size in sizes]
    return np.stack(columns, axis=1)


def p_of_low(totals: Sequence[Values], blocks: Sequence[Block], drawn: NDArray[np.int64]) -> float:
    """Share of arrangements whose total is at most that of the real one, in (0, 1].

    `totals` holds, per block, its part of the statistic at each of its shifts. Drawn arrangements
    count the real one among them (Phipson and Smyth 2010, doi 10.2202/1544-6115.1585).
    """
    real = sum(float(t[b.shifts.index(0)]) for t, b in zip(totals, blocks, strict=True))
    null = np.sum([part[drawn[:, index]] for index, part in enumerate(totals)], axis=0)
    slack = ROUNDING * max(float(np.abs(null).max()), abs(real))
    as_low = int((null <= real + slack).sum())
    if n_arrangements(blocks) <= EXACT:
        return as_low / len(drawn)
    return (as_low + 1) / (len(drawn) + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979); NaN stays NaN and is not counted.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    tested = sorted((p, index) for index, p in enumerate(p_values) if not math.isnan(p))
    adjusted, largest = [math.nan] * len(p_values), 0.0
    for rank, (p, index) in enumerate(tested):
        largest = max(largest, min(1.0, p * (len(tested) - rank)))
        adjusted[index] = largest
    return adjusted
