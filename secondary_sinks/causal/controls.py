"""Control tokens for the sinks of a text: tokens that are not sinks but comparable to them."""

from collections.abc import Sequence

from secondary_sinks.types import Sink, SinkTable, Trace
from secondary_sinks.types.controls import Control, last_judged, match_controls, similar_tokens
from secondary_sinks.types.own_sinks import sinks_of


def controls_of(
    trace: Trace, sinks: SinkTable, targets: Sequence[Sink], ordinary: int = 0, begin: int = 0
) -> list[Control]:
    """One matched control per sink, and `ordinary` further tokens of similar position and norm.

    None stands before `begin`: tokens that an earlier text begins with too are one observation in
    both.

    The matched control is the nearest token twin, else the nearest ordinary token. Every control
    is seen by enough queries to be judged, is not a sink or primary at any layer, and is used only
    once. Norms are compared at the layer before the sink is created.
    """
    taken = ever_sinks(trace, sinks) | set(range(begin))
    last = last_judged(trace, sinks)
    controls = match_controls(trace.tokens.tolist(), [s.pos for s in targets], taken, last)
    taken |= {control.pos for control in controls}
    for sink in targets if ordinary else ():
        norm = trace.norm[max(sink.l_start - 1, 0)].tolist()
        able = [pos for pos in range(1, last + 1) if pos not in taken]
        drawn = similar_tokens(norm, sink.pos, able, ordinary, 0)
        taken |= set(drawn)
        controls += [Control(pos=pos, kind="ordinary", sink_pos=sink.pos) for pos in drawn]
    return controls


Owners = dict[int, tuple[Sink, Control | None]]
"""Position of an edited token -> (sink, None) for a sink, (its sink, `Control`) for a control."""


def owners_of(trace: Trace, sinks: SinkTable, ordinary: int = 0, begin: int = 0) -> Owners:
    """The tokens of a text that are edited: the sinks, followed by their controls.

    Primary and transient sinks are not edited. No control stands before `begin` (`controls_of`).
    """
    own = sinks_of(trace, sinks)
    targets = [sink for sink in own if sink.kind not in ("primary", "transient")]
    by_pos = {sink.pos: sink for sink in targets}
    owners: Owners = {sink.pos: (sink, None) for sink in targets}
    for control in controls_of(trace, sinks, targets, ordinary, begin):
        owners[control.pos] = (by_pos[control.sink_pos], control)
    return owners


def ever_sinks(trace: Trace, sinks: SinkTable) -> set[int]:
    """Positions that are a sink or primary at any layer, or stand in for the primary."""
    own = {sink.pos for sink in sinks_of(trace, sinks)}
    return own | {trace.primary, *trace.reference.tolist()}


def never_sinks(trace: Trace, sinks: SinkTable, token_id: int) -> list[int]:
    """Positions with this token id that are not a sink or primary at any layer."""
    taken = ever_sinks(trace, sinks)
    same = (trace.tokens == token_id).nonzero()[:, 0].tolist()
    return [pos for pos in same if pos not in taken]


def ordinary_positions(trace: Trace, sinks: SinkTable) -> list[int]:
    """Positions after the first that can be judged and are not a sink or primary at any layer."""
    taken = ever_sinks(trace, sinks)
    return [pos for pos in range(1, last_judged(trace, sinks) + 1) if pos not in taken]
