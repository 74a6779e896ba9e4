"""`detect`: `Trace`s -> `SinkTable`."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from secondary_sinks.detection.criteria import joint_tests
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
    tests = joint_tests(trace, thresholds)
    if not bool(tests.primary_active.any()):
        return []
    is_sink = tests.joint
    is_sink[:, trace.primary] = tests.primary_active
    primary = _sink(trace, trace.primary, is_sink, "primary")
    others = [pos for pos in is_sink.any(0).nonzero()[:, 0].tolist() if pos != trace.primary]
    found = [_sink(trace, pos, is_sink, "secondary") for pos in others]
    return [primary] + [_with_kind(sink, primary, thresholds) for sink in found]


def _with_kind(sink: Sink, primary: Sink, thresholds: Thresholds) -> Sink:
    """A sink that arises with the primary and stays as long is no secondary one."""
    arises = sink.l_start <= primary.l_start
    shared = len(set(sink.layers) & set(primary.layers))
    stays = shared >= thresholds.primary_like * primary.lifetime
    return replace(sink, kind="primary_like") if arises and stays else sink


def _sink(trace: Trace, pos: int, is_sink: Bool[Tensor, "layer pos"], kind: str) -> Sink:
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
        censored=_censored(layers, len(is_sink)),
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


def _censored(layers: list[int], n_layers: int) -> str:
    left, right = layers[0] == 0, layers[-1] == n_layers - 1
    return "both" if left and right else "left" if left else "right" if right else "none"
