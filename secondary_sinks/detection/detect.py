"""`detect`: `Trace`s -> `SinkTable`."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from secondary_sinks.detection.criteria import joint_sinks, joint_tests
from secondary_sinks.detection.levels import assign_levels
from secondary_sinks.detection.paper import KINDS, against, paper_label, paper_tests
from secondary_sinks.errors import DetectionError
from secondary_sinks.types import Sink, SinkTable, Thresholds, Trace, censoring


def detect(
    traces: Trace | Iterable[Trace],
    thresholds: Thresholds | None = None,
    criterion: str = "joint",
) -> SinkTable:
    """Find the primary and secondary sinks of one or more texts.

    `criterion` is "joint" (aligned with an active primary, outlying and attended) or "paper" (the
    authors' rule to the letter, with their labels). A text whose primary is active at no layer has
    no sinks. Sink levels are clustered over all texts given, so pass all traces of a model at
    once; the same text twice counts once. Raises `DetectionError` for an unknown criterion, and
    for two texts of one name.
    """
    thresholds = thresholds or Thresholds()
    if criterion not in CRITERIA:
        raise DetectionError(f"unknown criterion {criterion!r}; expected {' or '.join(CRITERIA)}")
    texts = _distinct([traces] if isinstance(traces, Trace) else list(traces))
    sinks = [sink for trace in texts for sink in CRITERIA[criterion](trace, thresholds)]
    marked = _mark_copies(sinks, {trace.text_id: trace for trace in texts})
    numbered = zip(marked, assign_levels(marked), strict=True)
    return SinkTable(
        sinks=tuple(replace(sink, level=level) for sink, level in numbered), thresholds=thresholds
    )


def _distinct(traces: Sequence[Trace]) -> list[Trace]:
    """Each text once; two texts of one name would be taken for one."""
    found: dict[str, Trace] = {}
    for trace in traces:
        before = found.setdefault(trace.text_id, trace)
        if not torch.equal(before.tokens, trace.tokens):
            raise DetectionError(
                f"two different texts are called {trace.text_id!r}; give each its own text_id when "
                "you observe it"
            )
    return list(found.values())


def _mark_copies(sinks: Sequence[Sink], traces: dict[str, Trace]) -> list[Sink]:
    """Say of each sink in which text it stood before, if in any.

    Attention is causal: where all tokens up to the sink are the same, so are its states.
    """
    first: dict[bytes, str] = {}
    marked = []
    for sink in sinks:
        prefix = traces[sink.text_id].tokens[: sink.pos + 1]
        key = hashlib.sha256(prefix.numpy().tobytes()).digest()
        text_id = first.setdefault(key, sink.text_id)
        marked.append(replace(sink, copy_of="" if text_id == sink.text_id else text_id))
    return marked


def _by_joint(trace: Trace, thresholds: Thresholds) -> list[Sink]:
    tests = joint_tests(trace, thresholds)
    if not bool(tests.primary_active.any()):
        return []
    is_sink = joint_sinks(trace, tests)
    primary = _sink(trace, trace.primary, is_sink, kind="primary")
    others = [pos for pos in is_sink.any(0).nonzero()[:, 0].tolist() if pos != trace.primary]
    found = [_sink(trace, pos, is_sink, kind="secondary") for pos in others]
    return [primary] + [_with_kind(sink, primary, thresholds) for sink in found]


def _with_kind(sink: Sink, primary: Sink, thresholds: Thresholds) -> Sink:
    """A sink that arises with the primary and stays as long is no secondary one."""
    arises = sink.l_start <= primary.l_start
    shared = len(set(sink.layers) & set(primary.layers))
    stays = shared >= thresholds.primary_like * primary.lifetime
    return replace(sink, kind="primary_like") if arises and stays else sink


def _by_paper(trace: Trace, thresholds: Thresholds) -> list[Sink]:
    tests = paper_tests(trace, thresholds)
    lifetimes = tests.is_sink.sum(0)
    found = []
    for pos in lifetimes.nonzero()[:, 0].tolist():
        label = paper_label(int(lifetimes[pos]), len(tests.is_sink), thresholds)
        kind = "primary" if pos == tests.primary else KINDS[label]
        words = {"kind": kind, "criterion": "paper", "label": label}
        found.append(_sink(against(trace, tests.primary), pos, tests.is_sink, **words))
    return found


CRITERIA = {"joint": _by_joint, "paper": _by_paper}


def _sink(trace: Trace, pos: int, is_sink: Bool[Tensor, "layer pos"], **words: Any) -> Sink:
    layers = is_sink[:, pos].nonzero()[:, 0].tolist()
    return Sink(
        text_id=trace.text_id,
        pos=pos,
        token_id=int(trace.tokens[pos]),
        token=trace.token_strings[pos],
        l_start=layers[0],
        l_end=layers[-1],
        lifetime=len(layers),
        layers=tuple(layers),
        level=torch.nan,
        censored=censoring(layers, len(is_sink)),
        **({"criterion": "joint"} | words),
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
