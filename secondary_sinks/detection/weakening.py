"""Does the primary weaken as secondary sinks arise? (Claim 3 of Wong et al. 2025.)

Layer l means the state that block l wrote, so the primary's mass, key norm and score "at layer l"
are those in block l + 1, which reads that state: the first block in which a sink created at l can
take attention is the one that counts as 0 layers after it.

The null hypothesis is that creation layers are random layers of the primary's span. A primary's
profile through the layers is nearly the same in every text, so sinks are no independent trials:
all sinks of one creation layer move together, and creation layers whose windows share a layer
move as one block. What remains is a permutation test over layers; few blocks allow few
arrangements, and then nothing can be shown.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from secondary_sinks.detection.arrangements import (
    Block,
    blocks_of,
    draw,
    holm,
    n_arrangements,
    p_of_low,
)
from secondary_sinks.detection.levels import counts_for_levels
from secondary_sinks.detection.verdict import judge
from secondary_sinks.errors import DetectionError
from secondary_sinks.types import (
    Sink,
    SinkTable,
    Trace,
    Weakening,
    WeakeningChange,
    WeakeningPoint,
    read_by_next,
)

MEASURES = ("mass", "key_norm", "score")
WINDOW = 2
AROUND = 8
"""Layers before and after l_start that the profile shows."""
CONFIDENCE = 0.95
SEED = 0

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Aligned:
    """The primary of each text through its span, and where secondary sinks arise."""

    series: Mapping[str, Values]
    """[text, layer] by measure; NaN outside the primary's span."""
    text: NDArray[np.int64]
    """Row of each secondary sink's text."""
    l_start: NDArray[np.int64]

    def at(self, measure: str, relative: int) -> Values:
        """One value per sink; NaN where there is no such layer."""
        values, layers = self.series[measure], self.l_start + relative
        inside = (layers >= 0) & (layers < values.shape[1])
        return np.where(inside, values[self.text, np.where(inside, layers, 0)], np.nan)


def primary_weakening(
    traces: Trace | Iterable[Trace],
    sinks: SinkTable,
    *,
    window: int = WINDOW,
    generator: torch.Generator | None = None,
) -> Weakening:
    """Mass, key norm and score (q.k) of the primary, aligned to each secondary sink's l_start.

    The statistic of a measure is its mean over `window` layers from l_start on, less its mean over
    as many before, mean over sinks; one-sided p from arrangements of the creation layers (all, or
    9,999 drawn by `generator`, by default one of seed 0), corrected for the number of measures.
    Intervals are jackknives over texts. Sinks without a whole window inside the primary's span
    (its first to its last active layer) are left out and counted, as are copies.

    supported: the mass falls, its interval lies below 0, and its corrected p is at most 0.05.
    contradicted: its interval lies above 0. Otherwise, with fewer than 5 sinks or 3 texts, or
    where no arrangement could be rare enough, inconclusive.
    Raises `DetectionError` where a sink's text has no trace or no primary.
    """
    if window < 1:
        raise DetectionError(f"window must be at least 1 layer, got {window}")
    counted = [sink for sink in sinks.sinks if counts_for_levels(sink)]
    aligned = _align([traces] if isinstance(traces, Trace) else list(traces), sinks, counted)
    steps = {name: _steps(series, window) for name, series in aligned.series.items()}
    whole = np.isfinite(steps["mass"][aligned.text, aligned.l_start])
    kept = _Aligned(series=aligned.series, text=aligned.text[whole], l_start=aligned.l_start[whole])
    blocks = _blocks(kept, steps["mass"], window)
    drawn = draw(blocks, generator or torch.Generator().manual_seed(SEED))
    p_values = [_p_value(kept, steps[name], blocks, drawn) for name in MEASURES]
    corrected = zip(MEASURES, p_values, holm(p_values), strict=True)
    changes = tuple(_change(kept, name, window, p, adjusted) for name, p, adjusted in corrected)
    possible = n_arrangements(blocks)
    return Weakening(
        profile=tuple(_profile(aligned)),
        changes=changes,
        verdict=judge(changes, possible, len(blocks), int((~whole).sum()), window, CONFIDENCE),
        window=window,
        n_blocks=len(blocks),
        n_arrangements=possible,
        n_left_out=int((~whole).sum()),
    )


def mean_over_texts(values: Values, texts: NDArray[np.int64]) -> tuple[float, float, float]:
    """Mean, and its interval over texts: a jackknife with the t distribution (Tukey 1958).

    NaN values are left out; the interval is NaN with fewer than two texts.
    """
    known = ~np.isnan(values)
    values, rows = values[known], np.unique(texts[known], return_inverse=True)[1]
    if not len(values):
        return math.nan, math.nan, math.nan
    mean, sums, sizes = values.mean(), np.bincount(rows, values), np.bincount(rows)
    n = len(sums)
    if n < 2:
        return float(mean), math.nan, math.nan
    pseudo = n * mean - (n - 1) * (values.sum() - sums) / (len(values) - sizes)
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * pseudo.std(ddof=1) / math.sqrt(n)
    return float(mean), float(mean - reach), float(mean + reach)


def _align(traces: Sequence[Trace], sinks: SinkTable, counted: Sequence[Sink]) -> _Aligned:
    by_id = {trace.text_id: trace for trace in traces}
    primaries = {sink.text_id: sink for sink in sinks.of_kind("primary").sinks}
    names = sorted({sink.text_id for sink in counted})
    for name in names:
        if name not in by_id or name not in primaries:
            what = "trace" if name not in by_id else "primary sink"
            raise DetectionError(
                f"text {name!r} has secondary sinks but no {what} was given; pass the traces that "
                "the sinks were found in, and the whole table"
            )
    rows = {name: row for row, name in enumerate(names)}
    return _Aligned(
        series={
            measure: np.stack([_series(by_id[name], primaries[name], measure) for name in names])
            if names
            else np.zeros((0, 1))
            for measure in MEASURES
        },
        text=np.array([rows[sink.text_id] for sink in counted], dtype=np.int64),
        l_start=np.array([sink.l_start for sink in counted], dtype=np.int64),
    )


def _series(trace: Trace, primary: Sink, measure: str) -> Values:
    """One measure of the primary by layer of its state, NaN outside its span."""
    read = read_by_next(getattr(trace, measure)[:, primary.pos]).double().numpy()
    outside = np.ones(len(read), dtype=bool)
    outside[primary.l_start : primary.l_end + 1] = False
    return np.where(outside, np.nan, read)


def _steps(series: Values, window: int) -> Values:
    """Mean over `window` layers from each layer on, less that over as many before [text, layer]."""
    steps = np.full(series.shape, np.nan)
    for layer in range(window, series.shape[1] - window + 1):
        after, before = series[:, layer : layer + window], series[:, layer - window : layer]
        steps[:, layer] = after.mean(1) - before.mean(1)
    return steps


def _blocks(kept: _Aligned, steps: Values, window: int) -> list[Block]:
    n_layers = steps.shape[1]

    def fits(layer: int, there: int) -> bool:
        rows = kept.text[kept.l_start == layer]
        return 0 <= there < n_layers and bool(np.isfinite(steps[rows, there]).all())

    return blocks_of(kept.l_start.tolist(), 2 * window, n_layers, fits)


def _p_value(
    kept: _Aligned, steps: Values, blocks: Sequence[Block], drawn: NDArray[np.int64]
) -> float:
    """p of a change as low, NaN where a value is missing or there is no block."""
    totals = [
        np.array([sum(_total(kept, steps, la, la + shift) for la in layers) for shift in shifts])
        for layers, shifts in blocks
    ]
    if not totals or not all(np.isfinite(total).all() for total in totals):
        return math.nan
    return p_of_low(totals, blocks, drawn)


def _total(kept: _Aligned, steps: Values, layer: int, there: int) -> float:
    """Summed steps at another layer, of the sinks created at `layer`."""
    return float(steps[kept.text[kept.l_start == layer], there].sum())


def _change(
    kept: _Aligned, measure: str, window: int, p: float, adjusted: float
) -> WeakeningChange:
    def mean(relative: range) -> Values:
        return np.mean([kept.at(measure, r) for r in relative], axis=0)

    before, after = mean(range(-window, 0)), mean(range(window))
    change, low, high = mean_over_texts(after - before, kept.text)
    return WeakeningChange(
        measure=measure,
        before=mean_over_texts(before, kept.text)[0],
        after=mean_over_texts(after, kept.text)[0],
        change=change,
        low=low,
        high=high,
        p=p,
        p_adjusted=adjusted,
        n_sinks=len(kept.text),
        n_texts=len(np.unique(kept.text)),
    )


def _profile(aligned: _Aligned) -> Iterable[WeakeningPoint]:
    for measure in MEASURES:
        for relative in range(-AROUND, AROUND + 1):
            values = aligned.at(measure, relative)
            known = ~np.isnan(values)
            if not known.any():
                continue
            mean, low, high = mean_over_texts(values, aligned.text)
            yield WeakeningPoint(
                measure=measure,
                relative=relative,
                mean=mean,
                low=low,
                high=high,
                n_sinks=int(known.sum()),
                n_texts=len(np.unique(aligned.text[known])),
            )
