"""Write a session as a run folder."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from secondary_sinks.detection import phenomenon
from secondary_sinks.models import HookedModel
from secondary_sinks.notebook.trial import Row, Trial
from secondary_sinks.runs import RunFolder, describe
from secondary_sinks.texts import TokenizedText
from secondary_sinks.types import Effect, Effects, SinkTable, Trace


def export(
    folder: str | Path,
    *,
    model: HookedModel,
    text: TokenizedText,
    trace: Trace,
    sinks: SinkTable,
    trials: Sequence[Trial],
    force: bool = False,
) -> Path:
    """Write sinks, trace, effects of all trials, and the record; return the folder's path.

    The record has the edits of all trials under `explored`. Its `edit` is null, because no single
    edit was made at all sinks: a report of the folder shows sinks, not effects.
    """
    run = RunFolder(folder)
    record = describe(model, [text], sinks.thresholds, None, 0)
    effects = Effects(rows=tuple(row for one in trials for row in _effects(trace, sinks, one)))
    with run.claim():
        run.prepare(force=force)
        run.write_table("sinks", sinks.to_frame())
        run.write_table("trace", trace.to_frame())
        run.write_table("effects", effects.to_frame())
        run.write_record(record | _own_record(trace, sinks, trials))
    return run.path


def _own_record(trace: Trace, sinks: SinkTable, trials: Sequence[Trial]) -> dict[str, Any]:
    near = [
        {"text_id": sink.text_id, "pos": sink.pos, "token": sink.token, "kind": sink.kind}
        for sink in sinks.near
    ]
    return {
        "primaries": {trace.text_id: trace.primary},
        "phenomenon": asdict(phenomenon(trace, sinks)),
        "layer_effects": [],
        "verdicts": [],
        "near_sinks": near,
        "timings_s": {},
        "explored": [[edit.to_dict() for edit in trial.edits] for trial in trials],
    }


def _effects(trace: Trace, sinks: SinkTable, trial: Trial) -> list[Effect]:
    """The rows of a trial as direct effects, and as total effects if they were computed."""
    found = []
    for number, row in enumerate(trial.rows):
        found.append(_effect(trace, sinks, trial, number, row, "direct"))
        if trial.totals:
            total = row | {"mass_edited": trial.totals[number]["mass_total"]}
            found.append(_effect(trace, sinks, trial, number, total, "total"))
    return found


def _effect(
    trace: Trace, sinks: SinkTable, trial: Trial, number: int, row: Row, effect: str
) -> Effect:
    pos, edit = row["pos"], trial.edits[number]
    sink = next((one for one in sinks.sinks if one.pos == pos), None)
    own_kind = "ordinary" if sink is None else sink.kind
    quantities = ("lifetime", "l_start", "alignment", "alignment_centred", "norm", "mass")
    names = [f"{name}_{run}" for name in quantities for run in ("clean", "edited")]
    return Effect(
        text_id=trace.text_id,
        pos=pos,
        token_id=int(trace.tokens[pos]),
        token=row["token"],
        role="control" if number else "sink" if sink else "token",
        kind=trial.control_kind if number else own_kind,
        sink_pos=trial.choice.pos,
        layer=edit.layers[0],
        site=edit.site,
        edit=edit.label,
        effect=effect,
        **{name: row[name] for name in names},
    )
