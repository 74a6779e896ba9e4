"""Creation and death of each sink, and the direction along which each is measured."""

import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.detection import joint_tests
from secondary_sinks.measures.geometry import ORDINARY_NORM
from secondary_sinks.types import FormationEvent, Sink, SinkTable, Trace
from secondary_sinks.types.own_sinks import sinks_of

TESTS = ("aligned", "outlying", "attended", "primary")


def events_of(trace: Trace, sinks: SinkTable) -> tuple[FormationEvent, ...]:
    """The creation of each sink of the trace's text, and its death where it has one."""
    return tuple(
        _event(trace, sinks, sink, event)
        for sink in sinks_of(trace, sinks).sinks
        for event in ("creation", "death")
        if event == "creation" or sink.l_end + 1 < len(trace.norm)
    )


def directions(trace: Trace, events: tuple[FormationEvent, ...]) -> Float[Tensor, "event d_model"]:
    """The primary's residual minus the typical token, at the direction layer of each event."""
    at = [event.direction_layer for event in events]
    return trace.reference_resid[at] - trace.typical[at]


def _event(trace: Trace, sinks: SinkTable, sink: Sink, event: str) -> FormationEvent:
    born = event == "creation"
    hidden = ("left", "both") if born else ("right", "both")
    return FormationEvent(
        **sink.fields("text_id", "pos", "token_id", "token", "kind"),
        event=event,
        event_layer=sink.l_start if born else sink.l_end + 1,
        direction_layer=sink.l_start if born else sink.l_end,
        tests=_tests(trace, sinks, sink, sink.l_start - 1 if born else sink.l_end + 1),
        censored=sink.censored in hidden,
    )


def _tests(trace: Trace, sinks: SinkTable, sink: Sink, layer: int) -> str:
    """Names of the tests that the token fails at a layer just before or after its life."""
    if layer < 0 or sink.criterion != "joint":
        return ""
    tests = joint_tests(trace, sinks.thresholds)
    met = [test[layer, sink.pos] for test in (tests.aligned, tests.outlying, tests.attended)]
    met.append(tests.primary_active[layer])
    return " + ".join(name for name, ok in zip(TESTS, met, strict=True) if not bool(ok))


def ordinary_weights(
    trace: Trace, events: tuple[FormationEvent, ...]
) -> Float[Tensor, "event pos"]:
    """Weights of the mean over the ordinary tokens at each event's direction layer."""
    at = [event.direction_layer for event in events]
    ordinary = trace.norm[at] <= ORDINARY_NORM * trace.median_norm[at, None]
    return (ordinary / ordinary.sum(1, keepdim=True)).to(torch.float32)
