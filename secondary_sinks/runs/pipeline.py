"""Texts through a model: observe each, detect over all, ablate each; into a run folder."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from secondary_sinks.causal import ablate
from secondary_sinks.detection import detect
from secondary_sinks.errors import EditError, TextError
from secondary_sinks.models import HookedModel
from secondary_sinks.models.original.tokenizer import check_ids
from secondary_sinks.observation import observe
from secondary_sinks.questions import Answer, damage_at_tokens, roles, run_claims
from secondary_sinks.runs.answers import write_answers
from secondary_sinks.runs.folder import RunFolder
from secondary_sinks.texts import TokenizedText
from secondary_sinks.texts.many_files import refuse_same_ids
from secondary_sinks.types import (
    Edit,
    Effects,
    SinkTable,
    Thresholds,
    Trace,
    refuse_twice,
    split_words,
)

Tick = Callable[[str, str, int, int], None]
"""Called with (stage, text_id, tokens of texts done, tokens of all texts)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What a run found, and the seconds each stage took."""

    traces: tuple[Trace, ...]
    sinks: SinkTable
    effects: Effects | None
    roles: Answer | None
    """Of each MLP up to a sink's creation; None where nothing was to be edited."""
    timings: dict[str, float]


def check_lengths(model: HookedModel, texts: Sequence[TokenizedText], limits: Thresholds) -> None:
    """Raise `TextError` for a text too short, too long or with an id of no embedding."""
    for text in texts:
        n_pos = len(text.tokens)
        named = f"text {text.text_id!r}"
        check_ids(text.tokens.tolist(), model.cfg.d_vocab, model.tokenizer, named)
        if n_pos <= limits.min_queries:
            raise TextError(
                f"text {text.text_id!r} has {n_pos} tokens; at least {limits.min_queries + 1} are "
                f"needed, since a token must be seen by {limits.min_queries} queries to be judged"
            )
        if n_pos > model.cfg.n_ctx:
            raise TextError(
                f"text {text.text_id!r} has {n_pos} tokens, but the model sees at most "
                f"{model.cfg.n_ctx}; shorten or split it"
            )


def analyse(
    model: HookedModel,
    texts: Sequence[TokenizedText],
    *,
    edit: str | None = "zero,twins",
    thresholds: Thresholds | None = None,
    tick: Tick | None = None,
) -> Results:
    """Observe, detect and (unless `edit` is None) ablate every text, and find the roles of MLPs.

    `edit` is a label or several with commas between them; "none" alone leaves the roles out too.
    """
    limits, tick, clock = thresholds or Thresholds(), tick or _silent, _Clock()
    refuse_same_ids(texts)
    check_lengths(model, texts, limits)
    traces = []
    for text in _counted(texts, "observe", tick):
        traces.append(observe(model, text.tokens, text_id=text.text_id))
    clock.lap("observe")
    sinks = detect(traces, limits)
    clock.lap("detect")
    effects = found = None
    if edit is not None:
        by_id = {trace.text_id: trace for trace in traces}
        counted = _counted(texts, "ablate", tick)
        labels = split(edit)
        effects = Effects.join(ablate(model, by_id[t.text_id], sinks, labels) for t in counted)
        clock.lap("ablate")
    if edit not in (None, "none"):
        found = roles(model, traces, sinks, progress=partial(tick, "roles", ""))
        clock.lap("roles")
    return Results(
        traces=tuple(traces), sinks=sinks, effects=effects, roles=found, timings=clock.laps
    )


def split(edit: str) -> list[str]:
    """The labels of an option with commas. Raises `EditError` for one that is given twice.

    >>> split("zero, twins")
    ['zero', 'twins']
    """
    labels = split_words("--edit", edit, EditError)
    refuse_twice(
        "--edit", labels, EditError, [Edit.of_label(one, pos=0, layer=0) for one in labels]
    )
    return labels


def save(
    folder: RunFolder,
    results: Results,
    record: dict[str, Any],
    *,
    answers: Sequence[Answer] = (),
    force: bool = False,
) -> None:
    """Write the tables of a run, with those of its answers, then `run.json`.

    Raises `RunFolderError` when the folder holds anything; `force` replaces the run in it.
    """
    folder.prepare(force=force)
    folder.write_table("sinks", results.sinks.to_frame())
    folder.write_table("trace", pd.concat([trace.to_frame() for trace in results.traces]))
    asked = None
    if results.effects is not None:
        frame = results.effects.to_frame()
        folder.write_table("effects", frame)
        if record["edit"] != "none":
            asked = _without_copies(frame, results.sinks)
    if results.roles is not None:
        folder.write_table("roles", results.roles.cells)
    n_claims = next((one.n_claims for answer in answers for one in answer.verdicts), None)
    found = None if results.roles is None else results.roles.cells
    told: dict[str, Any] = {**run_claims(asked, found, n_claims)}
    if found is not None and results.effects is not None:
        told["damage"] = damage_at_tokens(frame, found).to_dict("records")
    told["near_sinks"] = [
        {"text_id": sink.text_id, "pos": sink.pos, "token": sink.token, "kind": sink.kind}
        for sink in results.sinks.near
    ]
    if answers:
        told["answers"] = write_answers(folder, answers)
    primaries = {trace.text_id: trace.primary for trace in results.traces}
    folder.write_record({"timings_s": results.timings, **record, "primaries": primaries, **told})


def save_more(
    folder: RunFolder,
    record: dict[str, Any],
    answers: Sequence[Answer],
    timings: dict[str, float],
) -> None:
    """Write further answers into a finished run of the same inputs, then its `run.json` anew."""
    told = folder.record()
    both = [*told.get("answers", []), *write_answers(folder, answers)]
    ordered = sorted(both, key=lambda one: record["asked"].index(one["question"]))
    new = {name: record[name] for name in ("key", "asked", "command")}
    timings = told["timings_s"] | timings
    folder.write_record(told | new | {"answers": ordered, "timings_s": timings})


def _without_copies(effects: pd.DataFrame, sinks: SinkTable) -> pd.DataFrame:
    """Cells of sinks that stood in no earlier text: the same sink once more is no further one."""
    copies = {(sink.text_id, sink.pos) for sink in sinks.sinks if sink.copy_of}
    own = pd.MultiIndex.from_frame(effects[["text_id", "sink_pos"]])
    return effects[~own.isin(list(copies))]


def _counted(texts: Sequence[TokenizedText], stage: str, tick: Tick) -> Any:
    """Yield the texts, reporting progress in tokens before each and at the end."""
    total, done = sum(len(text.tokens) for text in texts), 0
    for text in texts:
        tick(stage, text.text_id, done, total)
        yield text
        done += len(text.tokens)
    tick(stage, "", done, total)


def _silent(stage: str, text_id: str, done: int, total: int) -> None:
    pass


class _Clock:
    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = round(now - self._last, 3)
        self._last = now
