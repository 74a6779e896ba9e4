"""The work of a worker with a loaded model: prepare its texts, and compute tasks.

Deterministic apart from timings: a task gives the same bytes wherever and whenever it is computed.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import pandas as pd
import torch

from secondary_sinks.causal.ablate import effects_of
from secondary_sinks.causal.controls import Owners, owners_of
from secondary_sinks.causal.recipes import edit_at
from secondary_sinks.causal.replay import replay, replay_groups
from secondary_sinks.causal.replayed import Replay
from secondary_sinks.detection import detect
from secondary_sinks.errors import SinkError
from secondary_sinks.memory import is_out_of_memory
from secondary_sinks.models import HookedModel
from secondary_sinks.models.identity import provenance_of
from secondary_sinks.observation import CachedPass, observe
from secondary_sinks.questions import roles
from secondary_sinks.runs import parquet
from secondary_sinks.runs.observed import check_lengths
from secondary_sinks.runs.record import describe
from secondary_sinks.sweeps.tasks import (
    ROLES,
    BadText,
    Failure,
    ModelSpec,
    Outcome,
    Prepared,
    Task,
    Unit,
    cell_key,
    key_of,
)
from secondary_sinks.texts import Text, TokenizedText, tokenize
from secondary_sinks.types import Edit, Effect, Effects, SinkTable, Thresholds, Trace

Texts = Sequence[Text | TokenizedText]
Seen = Callable[[Task, Trace, CachedPass | None], None]
"""Receives the trace of each observed text, and its pass if that is still in memory."""


def prepare(
    model: HookedModel, spec: ModelSpec, texts: Texts, feed: str, thresholds: Thresholds
) -> Prepared:
    """Identify the model and tokenize the texts; those that cannot be fed are listed apart."""
    good: list[TokenizedText] = []
    bad: list[BadText] = []
    for text in texts:
        try:
            fed = text if isinstance(text, TokenizedText) else tokenize(text, model.tokenizer, feed)
            check_lengths(model, [fed], thresholds)
            good.append(fed)
        except SinkError as error:
            bad.append(BadText(text_id=text.text_id, reason=str(error)))
    record = describe(model, [], thresholds, None, 0)
    return Prepared(
        model=record["model"]
        | {"skipped_checks": sorted(set(spec.skip)), "source": provenance_of(model)},
        device=record["device"],
        dtype=record["dtype"],
        versions=record["versions"],
        texts=tuple(good),
        bad=tuple(bad),
    )


def compute(model: HookedModel, task: Task, seen: Seen | None = None) -> Outcome:
    """Observe, detect and edit one text; failures are part of the outcome and are not raised."""
    where: dict[str, str | None] = {"device": str(model.cfg.device), "torch": torch.__version__}
    try:
        return replace(_compute(model, task, seen), where=where)
    except Exception as error:  # no error may end the sweep
        _free_memory(error)
        return Outcome(task=task, tables={}, failures=(_failure(None, error),), where=where)


def _compute(model: HookedModel, task: Task, seen: Seen | None) -> Outcome:
    begin = time.perf_counter()
    trace, kept = _observe(model, task)
    if seen:
        seen(task, trace, kept)
    observed = time.perf_counter()
    sinks = detect(trace, task.thresholds)
    owners = owners_of(trace, sinks, task.ordinary)
    detected = time.perf_counter()
    edits, left_out = _edits(task, trace, sinks, owners)
    results, failures = (_together if task.whole else _replayed)(model, trace, edits, kept)
    effects = _effects(task, trace, sinks, owners, results)
    asked, failed = _roles(model, task, trace, sinks, kept)
    theirs = detect(trace, task.thresholds, criterion="paper").to_frame()
    tables = {"sinks": _sinks_frame(sinks), "paper": theirs, "effects": effects} | asked
    tables |= {"trace": trace.to_frame()} if task.trace else {}
    return Outcome(
        task=task,
        tables={name: parquet.to_bytes(name, frame) for name, frame in tables.items()},
        units=(*results, *([ROLES] if asked else [])),
        n_cells=len(effects),
        n_sinks=sum(sink.kind != "primary" for sink in sinks.sinks),
        primary=trace.primary,
        left_out=left_out,
        failures=failures + failed,
        seconds={
            "observe": observed - begin,
            "detect": detected - observed,
            "edit": time.perf_counter() - detected,
        },
    )


def _observe(model: HookedModel, task: Task) -> tuple[Trace, CachedPass | None]:
    """The trace of a text and, if it is short and edits are asked for, the pass for their replay.

    The tables have the same bytes, kept or not.
    """
    tokens = torch.tensor(task.tokens)
    edited = any(unit.edit != "none" for unit in task.units)
    kept = CachedPass.if_small(model, tokens) if edited else None
    trace = kept.trace(task.text_id) if kept else observe(model, tokens, text_id=task.text_id)
    return trace, kept


def _edits(
    task: Task, trace: Trace, sinks: SinkTable, owners: Owners
) -> tuple[dict[Unit, list[Edit]], dict[str, int]]:
    """Edits of each unit, and the number of impossible ones by reason."""
    found: dict[Unit, list[Edit]] = {}
    left_out: Counter[str] = Counter()
    for unit in sorted({*task.units} - {ROLES}):
        found[unit] = []
        for pos in owners:
            layer, site = unit.layer, unit.site
            edit = edit_at(unit.edit, trace, sinks, owners, pos=pos, layer=layer, site=site)
            if isinstance(edit, Edit):
                found[unit].append(edit)
            else:
                left_out[edit] += 1
    return found, dict(left_out)


Results = dict[Unit, Replay | None]


def _replayed(
    model: HookedModel, trace: Trace, edits: dict[Unit, list[Edit]], kept: CachedPass | None
) -> tuple[Results, tuple[Failure, ...]]:
    """Replay all units together; if that fails, one by one, so that only the faulty one is lost."""
    results: Results = {unit: None for unit, one in edits.items() if not one}
    asked = {unit: one for unit, one in edits.items() if one}
    if not asked:
        return results, ()
    try:
        found = replay_groups(model, trace, list(asked.values()), kl=True, kept=kept)
        return results | dict(zip(asked, found, strict=True)), ()
    except Exception as error:
        _free_memory(error)
    failures = []
    for unit, one in asked.items():
        try:
            results[unit] = replay_groups(model, trace, [one], kl=True, kept=kept)[0]
        except Exception as error:
            _free_memory(error)
            failures.append(_failure(unit, error))
    return results, tuple(failures)


def _together(
    model: HookedModel, trace: Trace, edits: dict[Unit, list[Edit]], kept: CachedPass | None
) -> tuple[Results, tuple[Failure, ...]]:
    """Replay all units in one batch. Raises if one fails."""
    asked = [edit for one in edits.values() for edit in one]
    result = replay(model, trace, asked, kl=True, kept=kept) if asked else None
    results: Results = {}
    begin = 0
    for unit, one in edits.items():
        end = begin + len(one)
        results[unit] = result[begin:end] if result and one else None
        begin = end
    return results, ()


def _roles(
    model: HookedModel, task: Task, trace: Trace, sinks: SinkTable, kept: CachedPass | None
) -> tuple[dict[str, pd.DataFrame], tuple[Failure, ...]]:
    """The table of roles, if asked for; token twins come from the same text."""
    if ROLES not in task.units:
        return {}, ()
    try:
        passes = {trace.text_id: kept} if kept else {}
        return {"roles": roles(model, trace, sinks, kept=passes).cells}, ()
    except Exception as error:
        _free_memory(error)
        return {}, (_failure(ROLES, error),)


def _effects(
    task: Task, trace: Trace, sinks: SinkTable, owners: Owners, results: Results
) -> pd.DataFrame:
    """Effects of all units: `edit` is a unit's recipe; with donors of patches and cells' keys."""
    rows: list[Effect] = []
    recipes, donors, cells = list[str](), list[float](), list[str]()
    for unit, result in results.items():
        if result is None:
            continue
        found, key = effects_of(trace, sinks.thresholds, result, owners), key_of(task, unit)
        rows += found
        recipes += [unit.edit] * len(found)
        donors += [_only(cell[0].donors) for cell in result.cells]
        cells += [cell_key(key, row.role, row.pos) for row in found]
    if not rows:
        return NO_EFFECTS
    return Effects(rows=tuple(rows)).to_frame().assign(edit=recipes, donor=donors, cell=cells)


def _only(donors: Sequence[int]) -> float:
    """The donor of a patch; NaN if an edit has none, or several."""
    return float(donors[0]) if len(donors) == 1 else float("nan")


NO_EFFECTS = (
    Effects(rows=()).to_frame().assign(donor=pd.Series(dtype=float), cell=pd.Series(dtype=str))
)


def _sinks_frame(sinks: SinkTable) -> pd.DataFrame:
    """Sinks, and tokens within rounding of being one; the column `near` marks the latter."""
    near = SinkTable(sinks=sinks.near).to_frame()
    return pd.concat([sinks.to_frame().assign(near=False), near.assign(near=True)])


def _failure(unit: Unit | None, error: Exception) -> Failure:
    kind = "OutOfMemory" if is_out_of_memory(error) else type(error).__name__
    return Failure(unit=unit, kind=kind, message=" ".join(str(error).split())[:500])


def _free_memory(error: Exception) -> None:
    """Free the device memory of a failed computation."""
    if is_out_of_memory(error) and torch.cuda.is_available():
        error.__traceback__ = None
        torch.cuda.empty_cache()
