"""A session -> a run folder that every reader of runs can read."""

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from secondary_sinks.models import HookedModel
from secondary_sinks.notebook.trial import Row, Tried
from secondary_sinks.runs import RunFolder, describe
from secondary_sinks.texts import TokenizedText
from secondary_sinks.types import Effect, Effects, Sink, SinkTable, Thresholds, Trace


@runtime_checkable
class Explored(Protocol):
    """What an export needs of a session."""

    model: HookedModel
    text: TokenizedText
    thresholds: Thresholds
    trace: Trace
    sinks: SinkTable

    @property
    def tried(self) -> tuple[Tried, ...]:
        """What was tried so far."""
        ...

    def sink_at(self, pos: int) -> Sink | None:
        """The sink at a position."""
        ...


def export(session: Explored, folder: str | Path, *, force: bool = False) -> Path:
    """Write sinks, trace, effects (what was tried) and the record; return the folder's path.

    The record says under `explored` what was tried, as edits. Its `edit` is null, since no one
    edit was made of all sinks: a report of the folder shows sinks, not effects.
    """
    run = RunFolder(folder)
    record = describe(session.model, [session.text], session.thresholds, None, 0)
    effects = Effects(rows=tuple(row for one in session.tried for row in _effects(session, one)))
    with run.claim():
        run.prepare(force=force)
        run.write_table("sinks", session.sinks.to_frame())
        run.write_table("trace", session.trace.to_frame())
        run.write_table("effects", effects.to_frame())
        run.write_record(record | _found(session))
    return run.path


def _found(session: Explored) -> dict[str, Any]:
    trace = session.trace
    near = [
        {"text_id": sink.text_id, "pos": sink.pos, "token": sink.token, "kind": sink.kind}
        for sink in session.sinks.near
    ]
    return {
        "primaries": {trace.text_id: trace.primary},
        "layer_effects": [],
        "verdicts": [],
        "near_sinks": near,
        "timings_s": {},
        "explored": [[edit.to_dict() for edit in tried.edits] for tried in session.tried],
    }


def _effects(session: Explored, tried: Tried) -> list[Effect]:
    """The rows of a trial as effects: direct, and once more as total where that was asked for."""
    found = []
    for number, row in enumerate(tried.rows):
        found.append(_effect(session, tried, number, row, "direct"))
        if tried.totals:
            total = row | {"mass_edited": tried.totals[number]["mass_total"]}
            found.append(_effect(session, tried, number, total, "total"))
    return found


def _effect(session: Explored, tried: Tried, number: int, row: Row, effect: str) -> Effect:
    trace: Trace = session.trace
    pos, edit = row["pos"], tried.edits[number]
    sink = session.sink_at(pos)
    own_kind = "ordinary" if sink is None else sink.kind
    quantities = ("lifetime", "l_start", "alignment", "alignment_centred", "norm", "mass")
    names = [f"{name}_{run}" for name in quantities for run in ("clean", "edited")]
    return Effect(
        text_id=trace.text_id,
        pos=pos,
        token_id=int(trace.tokens[pos]),
        token=row["token"],
        role="control" if number else "sink" if sink else "token",
        kind=tried.control_kind if number else own_kind,
        sink_pos=tried.choice.pos,
        layer=edit.layers[0],
        site=edit.site,
        edit=edit.label,
        effect=effect,
        **{name: row[name] for name in names},
    )
