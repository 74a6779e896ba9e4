"""Controls for sinks of a text: tokens that are none, and what makes them comparable."""

from collections.abc import Sequence

from secondary_sinks.types import Sink, SinkTable, Trace
from secondary_sinks.types.controls import Control, match_controls, similar_tokens


def controls_of(
    trace: Trace, sinks: SinkTable, targets: Sequence[Sink], ordinary: int = 0, seed: int = 0
) -> list[Control]:
    """One matched control per sink, and so many `ordinary` tokens of similar position and norm.

    Matched is the nearest token twin, else the nearest ordinary token. All are seen by enough
    queries to be judged, none is a sink or a primary of any layer, and none is used twice. The
    norm is that of the layer before the sink is created, where they could still become the same.
    """
    taken = {sink.pos for sink in sinks.sinks if sink.text_id == trace.text_id}
    taken |= set(trace.reference.tolist()) | {trace.primary}
    last = last_judged(trace, sinks)
    controls = match_controls(trace.tokens.tolist(), [s.pos for s in targets], taken, last)
    taken |= {control.pos for control in controls}
    for sink in targets if ordinary else ():
        norm = trace.norm[max(sink.l_start - 1, 0)].tolist()
        able = [pos for pos in range(1, last + 1) if pos not in taken]
        drawn = similar_tokens(norm, sink.pos, able, ordinary, seed)
        taken |= set(drawn)
        controls += [Control(pos=pos, kind="ordinary", sink_pos=sink.pos) for pos in drawn]
    return controls


Owners = dict[int, tuple[Sink, Control | None]]
"""Position of an edited token -> its sink, and None or what it is as a control of that sink."""


def owners_of(trace: Trace, sinks: SinkTable, ordinary: int = 0) -> Owners:
    """The tokens of a text that edits are tried on: every sink but primary and transient ones.

    Then their controls.
    """
    every = [sink for sink in sinks.sinks if sink.text_id == trace.text_id]
    targets = [sink for sink in every if sink.kind not in ("primary", "transient")]
    by_pos = {sink.pos: sink for sink in targets}
    owners: Owners = {sink.pos: (sink, None) for sink in targets}
    for control in controls_of(trace, sinks, targets, ordinary):
        owners[control.pos] = (by_pos[control.sink_pos], control)
    return owners


def never_sinks(trace: Trace, sinks: SinkTable, token_id: int) -> list[int]:
    """Positions of a token id that are no sink and no primary at any layer."""
    taken = {sink.pos for sink in sinks.sinks if sink.text_id == trace.text_id}
    taken |= set(trace.reference.tolist()) | {trace.primary}
    same = (trace.tokens == token_id).nonzero()[:, 0].tolist()
    return [pos for pos in same if pos not in taken]


def last_judged(trace: Trace, sinks: SinkTable) -> int:
    """The last position that enough queries see at every layer; -1 where there is none."""
    seen = (trace.queries.amin(0) >= sinks.thresholds.min_queries).nonzero()[:, 0]
    return int(seen.max()) if len(seen) else -1
