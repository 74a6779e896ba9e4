"""`find_levels`: levels with counts, intervals over texts, and their stability under resampling."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from secondary_sinks.detection.levels import Grid, count_cells, counts_for_levels, label_cells
from secondary_sinks.errors import DetectionError
from secondary_sinks.numbers import whole_number
from secondary_sinks.statistics import CONFIDENCE, MOST_TEXTS, total_over_texts
from secondary_sinks.types import Level, LevelCell, Levels, Sink, SinkTable

RESAMPLES = 200
SEED = 0


def find_levels(
    sinks: SinkTable,
    *,
    n_texts: int | None = None,
    resamples: int = RESAMPLES,
    generator: torch.Generator | None = None,
) -> Levels:
    """Levels of the secondary sinks of many texts, with intervals and stability.

    A level is a group of sinks with a similar creation layer and lifetime; `detection.levels` has
    the rule.

    `n_texts` is the number of texts that were searched; by default, those with a sink in the
    table. A copy of a sink in an earlier text (`Sink.copy_of`) is not counted, and a sink that is
    in the table twice counts once. Intervals of counts are over texts (t distribution with n - 1
    degrees of freedom, cut off at 0); many sinks in one text do not make them narrow.

    Stability: the texts are resampled with replacement `resamples` times (a text drawn twice
    counts as two). `same_number` is the share of resamples with the same number of levels;
    `Level.jaccard` is the mean overlap (Jaccard) of a level with the most similar one of the
    resample, among the sinks drawn (Hennig 2007, doi 10.1016/j.csda.2006.11.025, who calls 0.75
    stable and less than 0.6 no cluster). `generator` does the drawing; by default it has seed 0.
    Raises `DetectionError` if `n_texts` is smaller than the number of texts with sinks, or above
    `MOST_TEXTS`.
    """
    resamples = whole_number("resamples", resamples, DetectionError, 0)
    _check_generator(generator)
    secondary = {(s.text_id, s.pos): s for s in sinks.of_kind("secondary").sinks}
    counted = [sink for sink in secondary.values() if counts_for_levels(sink)]
    texts = {text: number for number, text in enumerate(sorted({s.text_id for s in counted}))}
    looked_at = _n_texts(sinks, n_texts, len(texts))
    points = [(sink.l_start, sink.lifetime) for sink in counted]
    counts = count_cells(points, [texts[sink.text_id] for sink in counted], len(texts))
    labels = label_cells(counts)
    same, overlaps = _resample(counts, labels, looked_at, resamples, generator)
    total = total_over_texts(counts.sum((1, 2)), looked_at)
    return Levels(
        levels=tuple(
            _level(number, labels, counts, looked_at, overlap)
            for number, overlap in enumerate(overlaps)
        ),
        cells=_cells(counted, labels),
        n_sinks=len(counted),
        low=total.low,
        high=total.high,
        n_unassigned=sum(math.isnan(labels[point]) for point in points),
        n_copies=len(secondary) - len(counted),
        n_texts=looked_at,
        same_number=same,
        resamples=resamples,
        confidence=CONFIDENCE,
    )


def _n_texts(sinks: SinkTable, n_texts: Any, least: int) -> int:
    if n_texts is None:
        return len({sink.text_id for sink in sinks.sinks})
    n_texts = whole_number("n_texts", n_texts, DetectionError, 0)
    if not least <= n_texts <= MOST_TEXTS:
        raise DetectionError(
            f"n_texts is {n_texts}, but {least} texts have secondary sinks",
            f"expected the number of all texts, at most {MOST_TEXTS:,}",
        )
    return n_texts


def _check_generator(generator: Any) -> None:
    if generator is not None and not isinstance(generator, torch.Generator):
        raise DetectionError(
            f"generator is {generator!r:.60}",
            "expected a torch.Generator, such as torch.Generator().manual_seed(0)",
        )


def _level(number: int, labels: Grid, counts: Grid, n_texts: int, jaccard: float) -> Level:
    mask = labels == number
    heights = counts.sum(0)
    peak = np.unravel_index(np.where(mask, heights, -1.0).argmax(), heights.shape)
    (start_low, life_low), (start_high, life_high) = (
        edge(np.argwhere(mask), 0).tolist() for edge in (np.min, np.max)
    )
    by_text = counts[:, mask].sum(1)
    total = total_over_texts(by_text[by_text > 0], n_texts)
    return Level(
        level=number,
        l_start=int(peak[0]),
        lifetime=int(peak[1]),
        l_start_low=start_low,
        l_start_high=start_high,
        lifetime_low=life_low,
        lifetime_high=life_high,
        n_sinks=int(by_text.sum()),
        low=total.low,
        high=total.high,
        n_texts=int((by_text > 0).sum()),
        jaccard=jaccard,
    )


def _cells(counted: Sequence[Sink], labels: Grid) -> tuple[LevelCell, ...]:
    number = Counter((sink.l_start, sink.lifetime) for sink in counted)
    pairs = {(sink.l_start, sink.lifetime, sink.text_id) for sink in counted}
    texts = Counter((l_start, lifetime) for l_start, lifetime, _ in pairs)
    return tuple(
        LevelCell(
            l_start=l_start,
            lifetime=lifetime,
            count=number[l_start, lifetime],
            n_texts=texts[l_start, lifetime],
            level=float(labels[l_start, lifetime]),
        )
        for l_start, lifetime in sorted(number)
    )


def _resample(
    counts: Grid, labels: Grid, n_texts: int, resamples: int, generator: torch.Generator | None
) -> tuple[float, list[float]]:
    """Share of resamples with the same number of levels, and the mean overlap of each level."""
    number = int(np.nanmax(labels)) + 1 if np.isfinite(labels).any() else 0
    if not resamples or not n_texts:
        return math.nan, [math.nan] * number
    generator = generator or torch.Generator().manual_seed(SEED)
    same, overlaps = 0, np.zeros(number)
    for _ in range(resamples):
        drawn = torch.randint(n_texts, (n_texts,), generator=generator)
        weights = torch.bincount(drawn, minlength=n_texts)[: len(counts)].double().numpy()
        again = label_cells(counts, weights)
        found = np.unique(again[np.isfinite(again)])
        same += len(found) == number
        seen = counts[weights > 0].sum(0)
        overlaps += [_overlap(labels == index, again, found, seen) for index in range(number)]
    return same / resamples, (overlaps / resamples).tolist()


def _overlap(level: NDArray[np.bool_], again: Grid, found: Grid, seen: Grid) -> float:
    """Largest Jaccard index, over drawn sinks, of a level with a resampled one; 0 without any."""
    best = 0.0
    for index in found:
        other = again == index
        union = float(seen[level | other].sum())
        best = max(best, float(seen[level & other].sum()) / union if union else 0.0)
    return best
