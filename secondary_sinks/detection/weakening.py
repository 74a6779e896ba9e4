"""Does the primary weaken as secondary sinks arise? (Claim 3 of Wong et al. 2025.)

Layer l means the state that block l wrote, so the primary's mass, key norm and score "at layer l"
are those in block l + 1, which reads that state. So relative layer 0 is the first block in which a
new sink can take attention.

The verdict is a difference in differences (`detection.contrasts`): queries after the sink minus
queries before it, which cannot see it; layers from its creation on minus layers before; and all
that minus the same in a text without a sink there. One creation layer is enough. The profiles, and
the changes of key norm and score, are descriptive: no verdict uses them.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secondary_sinks.detection.contrasts import (
    COPY,
    GROUPS,
    Text,
    at_sides,
    contrasts,
    text_of,
    why_not,
)
from secondary_sinks.detection.levels import counts_for_levels
from secondary_sinks.detection.weakening_verdict import judge
from secondary_sinks.errors import DetectionError
from secondary_sinks.statistics import Interval, pooled_mean
from secondary_sinks.types import (
    Sink,
    SinkTable,
    Trace,
    Weakening,
    WeakeningChange,
    WeakeningContrast,
    WeakeningPoint,
    as_traces,
    read_by_next,
)

MEASURES = ("mass", "key_norm", "score")
WINDOW = 2
AROUND = 8
"""Layers before and after l_start that the profile shows."""

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Aligned:
    """Measures of the primary of each text, and the creation layers of secondary sinks."""

    series: Mapping[str, Values]
    """[text, layer] by measure; NaN outside the primary's span."""
    text: NDArray[np.int64]
    """Row of each secondary sink's text."""
    l_start: NDArray[np.int64]

    def at(self, measure: str, relative: int) -> Values:
        """One value per sink, `relative` layers after its creation; NaN outside the model."""
        values, layers = self.series[measure], self.l_start + relative
        inside = (layers >= 0) & (layers < values.shape[1])
        return np.where(inside, values[self.text, np.where(inside, layers, 0)], np.nan)


def primary_weakening(
    traces: Trace | Iterable[Trace],
    sinks: SinkTable,
    *,
    window: int = WINDOW,
    n_claims: int = 1,
) -> Weakening:
    """Does the attention paid to the primary fall at queries that can see a new secondary sink?

    One number per text, for its first secondary sink: the change of the attention that a query
    pays to the primary, from `window` layers before l_start to as many from l_start on; mean over
    the queries after the sink minus mean over those before it; minus the same, at the same
    positions and layers, in a text that has no secondary sink up to there. Texts are paired one to
    one, and queries in a beginning that a text of an earlier pair shares are not compared again, so
    the pairs are independent. The statistic is the median over pairs, and its interval is exact
    (`statistics.median_over_texts`), each side wrong in at most 2.5 %.

    supported: the interval lies below 0; contradicted: above 0; inconclusive: otherwise, and with
    fewer than six pairs, since no result of fewer pairs is rare enough. `n_claims`: number of
    claims that the interval is corrected for; more of them need more pairs. Texts without a pair
    because they repeat the queries of others are counted in the verdict's `controls`.

    `contrasts` has one row per text that was tested. `profile` and `changes` (mass, key norm and
    score of the primary, aligned to the creation layer of every secondary sink that is not a copy)
    are descriptive: their intervals are jackknives over texts, and no claim rests on them. Only
    layers at which the primary is active count; sinks without a whole window of them are left out
    and counted (`n_left_out`). Raises `DetectionError` if the text of a sink has no trace or no
    primary.
    """
    if window < 1:
        raise DetectionError(f"window must be at least 1 layer, got {window}")
    given = as_traces(traces)
    counted = [sink for sink in sinks.sinks if counts_for_levels(sink)]
    aligned = _align(given, sinks, counted)
    # The sinks with a whole window of values of the primary before and after their creation
    every = [aligned.at("mass", relative) for relative in range(-window, window)]
    whole = np.isfinite(every).all(0)
    kept = _Aligned(series=aligned.series, text=aligned.text[whole], l_start=aligned.l_start[whole])
    texts = [text_of(trace, primary, sinks) for trace, primary in _with_primary(given, sinks)]
    found = tuple(contrasts(texts, window))
    return Weakening(
        profile=(*_profile(aligned), *_by_query(texts, found, window)),
        changes=tuple(_change(kept, name, window) for name in MEASURES),
        contrasts=found,
        verdict=judge(found, _left_out(texts, sinks, window), window, n_claims),
        window=window,
        n_left_out=len(counted) - len(kept.text),
    )


def _left_out(texts: Sequence[Text], sinks: SinkTable, window: int) -> dict[str, int]:
    """Number of texts with a secondary sink that are not compared, by reason.

    A text without a trace or a primary holds copies only, else `_align` has refused it.
    """
    why = {sink.text_id: COPY for sink in sinks.of_kind("secondary").sinks}
    why |= {text.text_id: why_not(text, window) for text in texts if text.first is not None}
    return dict(Counter(reason for reason in why.values() if reason))


def _align(traces: Sequence[Trace], sinks: SinkTable, counted: Sequence[Sink]) -> _Aligned:
    by_id = {trace.text_id: trace for trace in traces}
    primaries = {trace.text_id: primary for trace, primary in _with_primary(traces, sinks)}
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
    """One measure of the primary by layer of its state; NaN before its first and after its last."""
    read = read_by_next(getattr(trace, measure)[:, primary.pos]).double().numpy()
    outside = np.ones(len(read), dtype=bool)
    outside[primary.l_start : primary.l_end + 1] = False
    return np.where(outside, np.nan, read)


def _with_primary(traces: Sequence[Trace], sinks: SinkTable) -> list[tuple[Trace, Sink]]:
    """Each text that has a primary, with that primary; of several, the one the trace names."""
    found = []
    for trace in traces:
        own = [one for one in sinks.of_text(trace.text_id).sinks if one.kind == "primary"]
        if own:
            found.append((trace, min(own, key=lambda one: one.pos != trace.primary)))
    return found


def _mean(values: Values, texts: NDArray[np.int64]) -> Interval:
    """Mean over sinks; `texts` is the row of each sink's text."""
    return pooled_mean(values, texts.astype(str).tolist())


def _change(kept: _Aligned, measure: str, window: int) -> WeakeningChange:
    def mean(relative: range) -> Values:
        return np.mean([kept.at(measure, r) for r in relative], axis=0)

    before, after = mean(range(-window, 0)), mean(range(window))
    change = _mean(after - before, kept.text)
    return WeakeningChange(
        measure=measure,
        before=_mean(before, kept.text).value,
        after=_mean(after, kept.text).value,
        change=change.value,
        low=change.low,
        high=change.high,
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
            mean = _mean(values, aligned.text)
            yield WeakeningPoint(
                measure=measure,
                group="primary",
                relative=relative,
                mean=mean.value,
                low=mean.low,
                high=mean.high,
                n_sinks=int(known.sum()),
                n_texts=len(np.unique(aligned.text[known])),
            )


def _by_query(
    texts: Sequence[Text], found: Sequence[WeakeningContrast], window: int
) -> Iterable[WeakeningPoint]:
    """Attention that queries before and after the sink pay to the primary, by relative layer.

    For the texts with a sink, and for their paired texts at the same queries.
    """
    by_id = {text.text_id: text for text in texts}
    rows = np.arange(len(found))
    for relative in range(-AROUND, AROUND + 1):
        values: dict[str, list[float]] = {group: [] for group in GROUPS}
        for one in found:
            masses = at_sides(one, by_id, window, relative)
            for group, value in zip(GROUPS, masses, strict=True):
                values[group].append(value)
        for group, column in values.items():
            mean = _mean(np.array(column), rows)
            n_texts = int(np.isfinite(column).sum())
            if n_texts:
                yield WeakeningPoint(
                    measure="by_query",
                    group=group,
                    relative=relative,
                    mean=mean.value,
                    low=mean.low,
                    high=mean.high,
                    n_sinks=n_texts,
                    n_texts=n_texts,
                )
