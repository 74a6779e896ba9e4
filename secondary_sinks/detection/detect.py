"""`detect`: `Trace`s -> `SinkTable`."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from secondary_sinks.detection.criteria import Tests, joint_tests
from secondary_sinks.detection.levels import levels
from secondary_sinks.types import Sink, SinkTable, Thresholds, Trace


def detect(traces: Trace | Iterable[Trace], thresholds: Thresholds | None = None) -> SinkTable:
    """Find the primary and secondary sinks of one or more texts by the joint criterion.

    A text whose primary is active at no layer has no sinks. Sink levels are clustered over all
    texts given, so pass all traces of a model at once.
    """
    thresholds = thresholds or Thresholds()
    traces = [traces] if isinstance(traces, Trace) else list(traces)
    sinks = [sink for trace in traces for sink in _of_one_text(trace, thresholds)]
    numbered = zip(sinks, levels(sinks), strict=True)
    return SinkTable(
        sinks=tuple(replace(sink, level=level) for sink, level in numbered), thresholds=thresholds
    )


def _of_one_text(trace: Trace, thresholds: Thresholds) -> list[Sink]:
    """Primaries first, then all others by position."""
    tests = joint_tests(trace, thresholds)
    primaries = trace.reference[tests.primary_active].unique().tolist()
    is_sink = tests.joint
    for pos in primaries:
        is_sink[:, pos] |= tests.primary_active & (trace.reference == pos)
    primaries = sorted(primaries, key=lambda pos: (pos != trace.primary, pos))
    others = [pos for pos in is_sink.any(0).nonzero()[:, 0].tolist() if pos not in primaries]
    found = [_sink(trace, pos, is_sink, tests, "primary") for pos in primaries]
    for pos in others:
        kind = "primary_like" if _lives_with_it(trace, pos, is_sink, tests, thresholds) else ""
        found.append(_sink(trace, pos, is_sink, tests, kind or "secondary"))
    return found


def _lives_with_it(
    trace: Trace,
    pos: int,
    is_sink: Bool[Tensor, "layer pos"],
    tests: Tests,
    thresholds: Thresholds,
) -> bool:
    """Whether a sink stays as long as the primary, and arises with it or is as massive as it."""
    own, primary = is_sink[:, pos], tests.primary_active
    stays = (own & primary).sum() >= thresholds.primary_like * primary.sum()
    arises = own.nonzero()[0, 0] <= primary.nonzero()[0, 0]
    theirs = trace.deviation_ratio.gather(1, trace.reference[:, None])[:, 0]
    relative = (trace.deviation_ratio[:, pos] / theirs)[own].median()
    return bool(stays & (arises | (relative >= thresholds.as_massive)))


def _sink(
    trace: Trace, pos: int, is_sink: Bool[Tensor, "layer pos"], tests: Tests, kind: str
) -> Sink:
    layers = is_sink[:, pos].nonzero()[:, 0].tolist()
    return Sink(
        text_id=trace.text_id,
        pos=pos,
        token_id=int(trace.tokens[pos]),
        token=trace.token_strings[pos],
        kind=kind,
        criterion="joint",
        l_start=layers[0],
        l_end=layers[-1],
        lifetime=len(layers),
        layers=tuple(layers),
        level=-1,
        censored=_censored(layers, _goes_on(tests)[:, pos].tolist()),
        **_maxima(trace, pos, layers),
    )


def _maxima(trace: Trace, pos: int, layers: list[int]) -> dict[str, Any]:
    """Largest values over the sink's layers; masses in the blocks that read them."""
    read = [layer + 1 for layer in layers if layer + 1 < len(trace.mass)]

    def largest(values: Tensor, rows: list[int]) -> float:
        return float(values[rows, pos].max()) if rows else torch.nan

    return {
        "alignment_max": largest(trace.alignment, layers),
        "alignment_centred_max": largest(trace.alignment_centred, layers),
        "norm_max": largest(trace.norm, layers),
        "norm_ratio_max": largest(trace.norm_ratio, layers),
        "mass_max": largest(trace.mass, read),
        "mass_excess_max": largest(trace.mass_excess, read),
    }


def _goes_on(tests: Tests) -> Bool[Tensor, "layer pos"]:
    """Where a token stands out and is attended, but no primary is there to say it is a sink."""
    return tests.outlying & tests.attended & ~tests.primary_active[:, None]


def _censored(layers: list[int], goes_on: list[bool]) -> str:
    """Whether the sink's true start or end is hidden: by the model's ends, or by the primary's."""
    left = layers[0] == 0 or goes_on[layers[0] - 1]
    right = layers[-1] == len(goes_on) - 1 or goes_on[layers[-1] + 1]
    return "both" if left and right else "left" if left else "right" if right else "none"
