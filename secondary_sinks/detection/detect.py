"""`detect`: `Trace`s -> `SinkTable`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from secondary_sinks.detection.criteria import Tests, joint_sinks, joint_tests, lasts
from secondary_sinks.detection.levels import assign_levels
from secondary_sinks.detection.paper import KINDS, against, paper_label, paper_tests
from secondary_sinks.detection.prefixes import first_texts
from secondary_sinks.detection.rounding import mark_rounding
from secondary_sinks.errors import DetectionError
from secondary_sinks.measures.hook_names import Cache
from secondary_sinks.types import Sink, SinkTable, Thresholds, Trace, as_traces, censoring


def detect(
    traces: Trace | Iterable[Trace] | Cache,
    thresholds: Thresholds | Tensor | Sequence[int] | None = None,
    criterion: str = "joint",
    **limits: float,
) -> SinkTable:
    """Find the primary and secondary sinks of one or more texts.

    `criterion` is "joint" (aligned with an active primary, outlying and attended;
    docs/detection.md) or "paper" (the rule of the authors' scripts, with their labels).
    `thresholds` replaces all thresholds; `limits` changes single ones by name:
    `detect(trace, aligned=0.8)`. Instead of a trace, `detect(cache, tokens)` takes the cache of a
    `run_with_cache` (`trace_from_cache`).

    Sink levels and copies are found over all texts given, so pass all traces of a model at once;
    the same trace twice counts once. A text whose primary is active at no layer has no sinks. For a
    run in half precision, `within_rounding` marks sinks that rounding may have made, and
    `SinkTable.near` holds tokens that it may have hidden.
    Raises `DetectionError` for an unknown criterion or threshold, and for two texts, or two
    different traces of a text, with the same name.
    """
    if not isinstance(traces, Trace) and isinstance(traces, Cache):
        traces, thresholds = _trace_of(traces, thresholds), None
    if thresholds is not None and not isinstance(thresholds, Thresholds):
        raise DetectionError("got tokens next to traces", "give tokens with a cache only")
    thresholds = (thresholds or Thresholds()).but(**limits)
    if criterion not in CRITERIA:
        raise DetectionError(
            f"unknown criterion {criterion!r}", f"expected {' or '.join(CRITERIA)}"
        )
    texts = _distinct(as_traces(traces))
    rule = CRITERIA[criterion]
    found = [mark_rounding(trace, rule(trace, thresholds), rule, thresholds) for trace in texts]
    sinks = [sink for marked, _ in found for sink in marked]
    return SinkTable(
        sinks=across_texts(sinks, {trace.text_id: trace.tokens for trace in texts}),
        thresholds=thresholds,
        near=tuple(sink for _, near in found for sink in near),
    )


def _trace_of(cache: Cache, tokens: Any) -> Trace:
    """The trace of a cache. Raises `DetectionError` without the tokens that were fed."""
    from secondary_sinks.observation import trace_from_cache  # detection alone needs no model

    if tokens is None or isinstance(tokens, Thresholds):
        remedy = "use detect(cache, tokens), with the token ids that were fed"
        raise DetectionError("a cache does not hold the tokens of its text", remedy)
    return trace_from_cache(cache, tokens)


def across_texts(
    sinks: Sequence[Sink], tokens: Mapping[str, Int[Tensor, "pos"]]
) -> tuple[Sink, ...]:
    """Add what needs all texts together: which sinks are copies, and sink levels.

    `tokens` maps the name of each text to its tokens. Of two equal sinks, the later one in the
    order of `sinks` is the copy.
    """
    return assign_levels(_mark_copies(sinks, tokens))


ROUNDING = {torch.float16: 0.02, torch.bfloat16: 0.02}
"""Two traces of one text that differ by no more are one: chunks and devices round differently. In
float32, and where the dtype is not known, 0.001."""


def _distinct(traces: Sequence[Trace]) -> list[Trace]:
    """Each trace once. Raises `DetectionError` for different ones with the same name."""
    found: dict[str, Trace] = {}
    for trace in traces:
        before = found.setdefault(trace.text_id, trace)
        if not torch.equal(before.tokens, trace.tokens):
            raise DetectionError(
                f"two different texts have the id {trace.text_id!r}",
                "give each its own text_id when you observe it",
            )
        measures = _differing(before, trace)
        if measures:
            raise DetectionError(
                f"two different traces of the same tokens have the id {trace.text_id!r}: they "
                f"differ in {', '.join(measures)}",
                "give one of them, or each its own text_id when you observe it",
            )
    return list(found.values())


def _differing(one: Trace, other: Trace) -> list[str]:
    """Names of up to three fields in which two traces differ; none for equal traces."""
    if one is other:
        return []
    near = ROUNDING.get(one.dtype, 1e-3)
    pairs = (
        (item.name, getattr(one, item.name), getattr(other, item.name)) for item in fields(one)
    )
    return [name for name, first, second in pairs if not _equal(first, second, near)][:3]


def _equal(one: Any, other: Any, near: float) -> bool:
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return bool(one is other or one == other)
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if not one.is_floating_point():
        return torch.equal(one, other)
    return torch.allclose(one, other, rtol=near, atol=near, equal_nan=True)


def _mark_copies(sinks: Sequence[Sink], tokens: Mapping[str, Tensor]) -> list[Sink]:
    """Set `copy_of` of each sink: the earlier text with the same sink, if there was one.

    Attention is causal: if all tokens up to the sink are the same, so are its states.
    """
    first = first_texts((sink.text_id, tokens[sink.text_id], sink.pos) for sink in sinks)
    return [
        replace(sink, copy_of="" if text_id == sink.text_id else text_id)
        for sink, text_id in zip(sinks, first, strict=True)
    ]


def _by_joint(trace: Trace, thresholds: Thresholds) -> list[Sink]:
    """Primaries first, then all others by position."""
    tests = joint_tests(trace, thresholds)
    is_sink = joint_sinks(trace, tests)
    primaries = trace.reference[tests.primary_active].unique().tolist()
    primaries = sorted(primaries, key=lambda pos: (pos != trace.primary, pos))
    others = [pos for pos in is_sink.any(0).nonzero()[:, 0].tolist() if pos not in primaries]
    lasting = lasts(is_sink, tests.goes_on, trace.mass - trace.mass_expected, thresholds)
    found = [_sink(trace, pos, is_sink, tests, tests.goes_on, kind="primary") for pos in primaries]
    for pos in others:
        like = _lives_with_it(trace, pos, is_sink, tests, thresholds)
        kind = "primary_like" if like else "secondary"
        kind = kind if lasting[pos] else "transient"
        found.append(_sink(trace, pos, is_sink, tests, tests.goes_on, kind=kind))
    return found


def _lives_with_it(
    trace: Trace,
    pos: int,
    is_sink: Bool[Tensor, "layer pos"],
    tests: Tests,
    thresholds: Thresholds,
) -> bool:
    """Whether a sink is primary-like: stays with the primary, and starts with it or is as big."""
    own, primary = is_sink[:, pos], tests.primary_active
    stays = (own & primary).sum() >= thresholds.primary_like * primary.sum()
    arises = own.nonzero()[0, 0] <= primary.nonzero()[0, 0]
    theirs = trace.deviation_ratio.gather(1, trace.reference[:, None])[:, 0]
    relative = (trace.deviation_ratio[:, pos] / theirs)[own].median()
    return bool(stays & (arises | (relative >= thresholds.as_massive)))


def _by_paper(trace: Trace, thresholds: Thresholds) -> list[Sink]:
    tests = paper_tests(trace, thresholds)
    joint, nothing = joint_tests(trace, thresholds), torch.zeros_like(tests.is_sink)
    lifetimes = tests.is_sink.sum(0)
    found = []
    for pos in lifetimes.nonzero()[:, 0].tolist():
        label = paper_label(int(lifetimes[pos]), len(tests.is_sink), thresholds)
        kind = "primary" if pos == tests.primary else KINDS[label]
        words = {"kind": kind, "criterion": "paper", "label": label}
        measured = against(trace, tests.primary)
        found.append(_sink(measured, pos, tests.is_sink, joint, nothing, **words))
    return found


CRITERIA = {"joint": _by_joint, "paper": _by_paper}


def _sink(
    trace: Trace,
    pos: int,
    is_sink: Bool[Tensor, "layer pos"],
    tests: Tests,
    goes_on: Bool[Tensor, "layer pos"],
    **words: Any,
) -> Sink:
    layers = is_sink[:, pos].nonzero()[:, 0].tolist()
    first, last = layers[0], layers[-1]
    left = first == 0 or bool(goes_on[first - 1, pos])
    right = last == len(goes_on) - 1 or bool(goes_on[last + 1, pos])
    return Sink(
        text_id=trace.text_id,
        pos=pos,
        token_id=int(trace.tokens[pos]),
        token=trace.token_strings[pos],
        l_start=first,
        l_end=last,
        lifetime=len(layers),
        lifetime_norm=float(tests.outlying[:, pos].sum()),
        lifetime_attention=float(tests.attended[:-1, pos].sum()),  # no block reads the last
        layers=tuple(layers),
        level=torch.nan,
        censored=censoring(left, right),
        **({"criterion": "joint"} | words),
        **_maxima(trace, pos, layers),
    )


def _maxima(trace: Trace, pos: int, layers: list[int]) -> dict[str, Any]:
    """Largest values over the sink's layers; attention masses in the blocks that read them."""
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
