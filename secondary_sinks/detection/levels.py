"""Sink levels: how many there are, and which sink belongs to which level.

A level is a mode of the counts of sinks on the grid of (l_start, lifetime). Modes are read off the
tree of superlevel sets of the counts (Hartigan 1975, Clustering Algorithms), by their excess over
the valley between them (Mueller and Sawitzki 1991, doi 10.1080/01621459.1991.10475103). A sum
over texts *rests on* an effective number of texts (`statistics.effective_texts`).
The rule, in full:

1. A cell of the grid is *dense* when five texts have a sink within one layer of it, in both
   directions. Dense cells that touch, also by a corner, make a region. Sinks that touch no dense
   cell are *strays*: they have no level, and do not connect regions.
2. A region is divided if two or more of its modes are real. A mode (a connected set of cells
   higher than the valley around it) is real when some top of it has a mean height of more than
   twice the valley's, by an amount that rests on at least five texts. A shallower valley, or one
   seen in few texts or in one long text, divides nothing.
3. Every sink of a region, or touching it, belongs to the nearest mode.
4. A mode is a level when its sinks rest on at least five texts, after subtracting the number of
   strays expected there if the strays of its creation layers were spread evenly over lifetimes.

The number of levels is not given beforehand, and no randomness is involved.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from secondary_sinks.errors import DetectionError
from secondary_sinks.statistics import effective_texts
from secondary_sinks.types import Sink

LEAST_TEXTS = 5
"""Texts that a mode must rest on: five make it sqrt(5) = 2.2 standard errors above 0."""
LEAST_DEPTH = 0.5
"""A valley divides a region if it is lower than the mean of the mode by this share at least."""
MOST_CELLS = 50_000_000
"""Largest grid of counts (texts x creation layers x lifetimes): 400 MB, minutes of resampling."""
TOUCHING = np.ones((3, 3), dtype=bool)

Point = tuple[int, int]
Grid = NDArray[np.float64]
Mask = NDArray[np.bool_]


def cluster(points: Sequence[Point], texts: Sequence[str]) -> list[float]:
    """Level of each sink, given its (l_start, lifetime) and text; NaN for a sink without a level.

    Levels are numbered by the creation layer, then lifetime, of their most frequent pair.

    >>> texts = [f"text {number}" for number in range(7)]
    >>> cluster([(22, 23)] * 5 + [(22, 22), (5, 3)], texts)
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, nan]
    """
    if not points:
        return []
    numbers = {text: number for number, text in enumerate(sorted(set(texts)))}
    labels = label_cells(count_cells(points, [numbers[text] for text in texts], len(numbers)))
    return [float(labels[point]) for point in points]


def count_cells(points: Sequence[Point], texts: Sequence[int], n_texts: int) -> Grid:
    """Number of sinks [text, l_start, lifetime], given the index of each sink's text.

    Raises `DetectionError` if this array would have more than `MOST_CELLS` entries.
    """
    cells = np.array(points, dtype=int).reshape(-1, 2)
    shape = (n_texts, *(int(most) + 1 for most in cells.max(0, initial=0)))
    if math.prod(shape) > MOST_CELLS:
        raise DetectionError(
            f"{n_texts:,} texts with layers up to {shape[1] - 1:,} and lifetimes up to "
            f"{shape[2] - 1:,} make {math.prod(shape):,} cells to count",
            f"expected at most {MOST_CELLS:,}: give fewer texts, or check the layers",
        )
    counts = np.zeros(shape)
    np.add.at(counts, (list(texts), *cells.T), 1)
    return counts


def label_cells(counts: NDArray[np.float64], weights: Grid | None = None) -> Grid:
    """Level of each (l_start, lifetime) cell of `counts` [text, l_start, lifetime], else NaN.

    Both axes begin at 0. `weights` says how often each text was drawn (default: once).
    """
    drawn = np.ones(len(counts)) if weights is None else weights
    counts, drawn = counts[drawn > 0], drawn[drawn > 0]
    near = ndimage.maximum_filter(counts, size=(1, 3, 3), mode="constant") > 0
    regions, number = ndimage.label(np.tensordot(drawn, near, 1) >= LEAST_TEXTS, TOUCHING)
    modes = [
        mode for index in range(number) for mode in _modes(regions == index + 1, counts, drawn)
    ]
    nearest = _nearest(modes, np.tensordot(drawn, counts, 1), regions > 0)
    return _numbered(nearest, counts, drawn)


def assign_levels(sinks: Sequence[Sink]) -> tuple[Sink, ...]:
    """The sinks with levels; NaN unless secondary. A copy gets the level of its grid cell."""
    counted = [sink for sink in sinks if counts_for_levels(sink)]
    points = [(sink.l_start, sink.lifetime) for sink in counted]
    known = dict(zip(points, cluster(points, [sink.text_id for sink in counted]), strict=True))
    nan = float("nan")
    levels = [
        known.get((sink.l_start, sink.lifetime), nan) if sink.kind == "secondary" else nan
        for sink in sinks
    ]
    return tuple(replace(s, level=level) for s, level in zip(sinks, levels, strict=True))


def counts_for_levels(sink: Sink) -> bool:
    """Whether a sink is secondary and not a copy of one in an earlier text."""
    return sink.kind == "secondary" and not sink.copy_of


def _modes(region: Mask, counts: Grid, drawn: Grid) -> list[Mask]:
    """The real modes of a region: it is split at the lowest valley that divides it."""
    heights = np.tensordot(drawn, counts, 1)
    for valley in np.unique(heights[region])[:-1]:
        labels, number = ndimage.label(region & (heights > valley), TOUCHING)
        parts = [labels == index + 1 for index in range(number)]
        real = [part for part in parts if _is_real(part, region, heights, counts, drawn)]
        if len(real) > 1:
            return [mode for part in real for mode in _modes(part, counts, drawn)]
    return [region]


def _is_real(part: Mask, region: Mask, heights: Grid, counts: Grid, drawn: Grid) -> bool:
    """Whether a mode's excess over the valley is half of its counts, and rests on enough texts."""
    moat = ndimage.binary_dilation(part, TOUCHING) & region & ~part
    saddle = int(np.where(moat, heights, -1.0).argmax())
    valley = counts.reshape(len(counts), -1)[:, saddle] * moat.any()
    for floor in np.unique(heights[part]):
        top = part & (heights >= floor)
        deeper = counts[:, top].sum(1) * (1 - LEAST_DEPTH) - top.sum() * valley
        if effective_texts(deeper, drawn) >= LEAST_TEXTS:
            return True
    return False


def _nearest(modes: Sequence[Mask], heights: Grid, dense: Mask) -> NDArray[np.int64]:
    """Index of the nearest mode for each cell that has sinks and touches a dense one; else -1."""
    found = np.full(heights.shape, -1)
    members = (heights > 0) & ndimage.binary_dilation(dense, TOUCHING)
    if modes:
        places = np.concatenate([np.argwhere(mode) for mode in modes])
        owners = np.repeat(range(len(modes)), [int(mode.sum()) for mode in modes])
        found[members] = owners[cKDTree(places).query(np.argwhere(members))[1]]
    return found


def _numbered(owner: NDArray[np.int64], counts: Grid, drawn: Grid) -> Grid:
    """Modes that are levels, numbered by the grid position of their highest cell."""
    heights, places = np.tensordot(drawn, counts, 1), {}
    for index in np.unique(owner[owner >= 0]):
        beyond = _beyond_strays(owner == index, owner, counts)
        if effective_texts(beyond, drawn) >= LEAST_TEXTS:
            places[index] = int(np.where(owner == index, heights, -1.0).argmax())
    labels = np.full(heights.shape, np.nan)
    for number, index in enumerate(sorted(places, key=places.__getitem__)):
        labels[owner == index] = number
    return labels


def _beyond_strays(level: Mask, owner: NDArray[np.int64], counts: Grid) -> Grid:
    """Per text: sinks of a level, minus the number of strays expected there.

    Strays belong to no mode. Those of the same creation layers are assumed to be spread evenly
    over all lifetimes, up to the longest, at which no mode of these layers lies.
    """
    near = ndimage.binary_dilation(level.any(1), np.ones(3, dtype=bool))
    strays = counts[:, (owner == -1) & near[:, None]].sum(1)
    taken = ((owner >= 0) & near[:, None]).any(0)
    longest = int(np.flatnonzero(counts[:, near].any((0, 1)))[-1])
    free = int((~taken[1 : longest + 1]).sum())
    share = level.any(0).sum() / free if free else 0.0
    return counts[:, level].sum(1) - share * strays
