"""Redistribution: where does the attention go that a removed secondary sink leaves?"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.causal import Recomputed, recompute
from secondary_sinks.causal.measured import readers
from secondary_sinks.causal.replay import Progress
from secondary_sinks.models.protocol import HookedModel
from secondary_sinks.questions.answer import Answer, agreed, told, verdict_of
from secondary_sinks.questions.cases import Case, TextCases, cases_of, censored, counted
from secondary_sinks.questions.forming import Forming, Place, by_place, cell_at, formed_only
from secondary_sinks.questions.layers import by_way
from secondary_sinks.questions.necessity import EDITS
from secondary_sinks.questions.statistics import Interval, jackknife, outcome_of, too_few
from secondary_sinks.types import SinkTable, Trace, Verdict

CLAIM = "the primary gets back most of the attention that a removed secondary sink leaves"
RECEIVERS = ("primary", "others", "rest")
COLUMNS = ("text_id", "sink_pos", "pos", "role", "edit", "freed", *RECEIVERS)


def redistribution(
    model: HookedModel,
    traces: Trace | Iterable[Trace],
    sinks: SinkTable,
    *,
    edits: Sequence[str] = EDITS,
    forming: Iterable[Forming] | None = None,
    progress: Progress | None = None,
) -> Answer:
    """Ablate the forming MLPs of one secondary sink at a time; everything after it is recomputed.

    Total effects, in units of attention paid: summed over the queries and over the blocks that
    read the sink's own layers, mean over heads. `freed` is what the edited token loses;
    `primary`, `others` (all other sinks) and `rest` (all other tokens, and learned sinks) are
    what these gain: together as much. The primary of a block is that of the state that it reads.
    The same edit at the sink's control token is subtracted from all of them; `effects` has the
    shares of what is freed, over texts (ratios of sums, jackknife). Seeds are averaged.

    Verdict, of the primary's share: supported where its interval lies above one half by every way
    to ablate, contradicted where it lies below. That says where attention goes, not by what
    mechanism: a softmax that loses a key gives more to whoever had most.
    """
    texts = cases_of(traces, sinks)
    found = by_place(model, texts, sinks, forming)
    texts, left_out = formed_only(texts, found)
    rows: list[dict[str, Any]] = []
    for text in counted(texts, progress):
        rows += _rows(model, text, sinks, found, edits)
    cells = pd.DataFrame(rows, columns=list(COLUMNS))
    effects = pd.DataFrame(
        [row for way, part in by_way(cells).items() for row in _effects(way, part)],
        columns=["edit", "receiver", "share", "low", "high", "n_sinks", "n_texts"],
    )
    return Answer(
        question="redistribution",
        cells=cells,
        effects=effects,
        verdicts=(_verdict(cells, left_out),),
        left_out=left_out,
        n_censored=censored(texts),
    )


def _rows(
    model: HookedModel,
    text: TextCases,
    sinks: SinkTable,
    found: Mapping[Place, Forming],
    edits: Sequence[str],
) -> Iterator[dict[str, Any]]:
    asked = [
        (case, role, pos, edit)
        for case in text.cases
        for role, pos in (("sink", case.sink.pos), ("control", case.control))
        for edit in edits
    ]
    if not asked:
        return
    every = {sink.pos for sink in sinks.of_text(text.trace.text_id).sinks}
    layers = {case.sink.pos: found[case.sink.text_id, case.sink.pos].layers for case in text.cases}
    cells = [cell_at(pos, layers[case.sink.pos], edit) for case, _, pos, edit in asked]
    result = recompute(model, text.trace, cells, watch=sorted(every), loss=False)
    for number, (case, role, pos, edit) in enumerate(asked):
        yield {
            "text_id": text.trace.text_id,
            "sink_pos": case.sink.pos,
            "pos": pos,
            "role": role,
            "edit": edit,
            **_moved(text.trace, result, number, case, pos, every),
        }


def _moved(
    trace: Trace, result: Recomputed, cell: int, case: Case, pos: int, every: set[int]
) -> dict[str, float]:
    """Attention that is freed, and who gets it, over the blocks that read the sink."""
    moved = dict.fromkeys(("freed", "primary", "others"), 0.0)
    for block in readers(case.sink.layers, len(trace.mass)):
        gained = _gained(trace, result, cell, block)
        primary = int(trace.reference[block - 1])
        moved["freed"] -= gained[pos]
        moved["primary"] += gained[primary] if primary != pos else 0.0
        moved["others"] += sum(gained[one] for one in every - {pos, primary})
    return moved | {"rest": moved["freed"] - moved["primary"] - moved["others"]}


def _gained(trace: Trace, result: Recomputed, cell: int, block: int) -> dict[int, float]:
    """Attention that each watched token gains in a block: over queries, mean over heads."""
    watch = list(result.watch)
    change: Float[Tensor, "watch"] = result.mass[block, cell] - trace.mass[block, watch]
    total = change.double() * trace.queries[block, watch]
    return dict(zip(watch, torch.nan_to_num(total).tolist(), strict=True))


def _by_text(cells: pd.DataFrame) -> pd.DataFrame:
    """What sinks move beyond their controls, summed over the sinks of a text; seeds averaged."""
    names = ["freed", *RECEIVERS]
    means = {
        role: part.groupby(["text_id", "sink_pos"])[names].mean()
        for role, part in cells.groupby("role")
    }
    return (means["sink"] - means["control"]).groupby("text_id").sum()


def _share(by_text: pd.DataFrame, receiver: str, n_sinks: int) -> Interval:
    sums = by_text[["freed", receiver]].to_numpy()
    found = jackknife(sums, lambda total: float(np.divide(total[1], total[0])))
    return Interval(
        value=found.value, low=found.low, high=found.high, n=n_sinks, n_texts=found.n_texts
    )


def _shares(cells: pd.DataFrame) -> dict[str, Interval]:
    n_sinks = len(cells[["text_id", "sink_pos"]].drop_duplicates())
    by_text = _by_text(cells)
    return {receiver: _share(by_text, receiver, n_sinks) for receiver in RECEIVERS}


def _effects(way: str, cells: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for receiver, share in _shares(cells).items():
        yield {
            "edit": way,
            "receiver": receiver,
            "share": share.value,
            "low": share.low,
            "high": share.high,
            "n_sinks": share.n,
            "n_texts": share.n_texts,
        }


def _verdict(cells: pd.DataFrame, left_out: Mapping[str, int]) -> Verdict:
    words = {
        "statistic": "share of the freed attention that the primary gains, both beyond controls",
        "controls": "same edit at token twins, or at ordinary tokens nearby" + told(left_out),
    }
    by_edit = {way: _shares(part) for way, part in by_way(cells).items()}
    if not by_edit:
        return verdict_of(CLAIM, "inconclusive", too_few(0, 0, left_out), None, **words)
    shares = next(iter(by_edit.values()))
    missing = too_few(shares["primary"].n, shares["primary"].n_texts, left_out)
    if missing:
        return verdict_of(CLAIM, "inconclusive", missing, shares["primary"], **words)
    outcome, agreement = agreed({way: outcome_of(one["primary"]) for way, one in by_edit.items()})
    why = (
        f"of the attention that is freed {shares['primary'].value:.0%} goes to the primary, "
        f"{shares['others'].value:.0%} to other sinks and {shares['rest'].value:.0%} to the rest; "
        f"{agreement}"
    )
    return verdict_of(CLAIM, outcome, why, shares["primary"], **words)
