"""The sinks of one text among those of several, which only the id of a text tells apart."""

from typing import Any

from secondary_sinks.errors import DetectionError, TraceError
from secondary_sinks.types.sinks import Sink, SinkTable
from secondary_sinks.types.trace import Trace


def check_is_sinks(given: Any) -> None:
    """Raise `DetectionError` for anything but a table of sinks."""
    if not isinstance(given, SinkTable):
        raise DetectionError(
            f"expected a table of sinks, got {type(given).__name__}",
            "find the sinks of a trace first: sinks = detect(trace)",
        )


def sinks_of(trace: Trace, sinks: Any) -> SinkTable:
    """The sinks of a trace's text.

    Raises `TraceError` for sinks of another text with the same id, `DetectionError` for no table.
    """
    check_is_sinks(sinks)
    own: SinkTable = sinks.of_text(trace.text_id)
    for sink in (*own.sinks, *own.near):
        check_is_of(trace, sink)
    return own


def check_is_of(trace: Trace, sink: Sink) -> None:
    """Raise `TraceError` for a sink with the id of the trace's text, but another token."""
    there = 0 <= sink.pos < len(trace.tokens)
    if there and int(trace.tokens[sink.pos]) == sink.token_id:
        return
    found = f"token {int(trace.tokens[sink.pos])}" if there else "no token"
    raise TraceError(
        f"the sinks are those of another text with the same id {trace.text_id!r}: a sink at "
        f"position {sink.pos} is token {sink.token_id}, but the trace has {found} there",
        "give texts ids of their own, observe(..., text_id=), and detect again",
    )
