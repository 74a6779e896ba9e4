"""Redistribution: where does the attention of a removed sink go?"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.causal import recompute, replay
from secondary_sinks.causal.ablate import checked_labels
from secondary_sinks.causal.outcome import readers
from secondary_sinks.errors import EditError
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.numbers import check_whole
from secondary_sinks.progress import Progress, shows_progress
from secondary_sinks.questions import figures
from secondary_sinks.questions.answer import Answer
from secondary_sinks.questions.damage import damage_of_cells
from secondary_sinks.questions.forming import Forming, by_place, cell_at, formed_only
from secondary_sinks.questions.held_out import held_out
from secondary_sinks.questions.lost_by_layer import by_way
from secondary_sinks.questions.matched_pairs import (
    Place,
    TextPairs,
    count_censored,
    match_pairs,
    with_progress,
)
from secondary_sinks.questions.necessity import WAYS, is_there
from secondary_sinks.questions.question import CellCounts, Question, Sample
from secondary_sinks.questions.redistribution_verdict import (
    DIRECT,
    MATERIAL,
    MOVED,
    beyond,
    n_sinks,
    receiver_rows,
    redistribution_verdict,
)
from secondary_sinks.statistics import claims_together
from secondary_sinks.types import SinkTable, Trace

N_CLAIMS = 1
NOTHING_FREED = "in texts whose removed sinks free no attention"
DAMAGE = ("kl_at_token", "loss_later", "loss_clean")
COLUMNS = ("text_id", "sink_pos", "pos", "role", "edit", *MOVED, *DIRECT, *DAMAGE)
EFFECTS = (
    *("edit", "receiver", "share", "proportional", "beyond", "low", "high"),
    *("n_sinks", "n_texts"),
)


@shows_progress
def redistribution(
    model: HookedModel,
    traces: Trace | Iterable[Trace],
    sinks: SinkTable,
    *,
    edits: Sequence[str] = WAYS,
    forming: Iterable[Forming] | None = None,
    progress: Progress | None = None,
    n_claims: int | None = None,
) -> Answer:
    """Who gains the attention of a removed sink, beyond what the softmax alone gives them?

    The forming MLPs of one secondary or primary-like sink at a time are ablated, and everything
    after it is recomputed. Attention is summed over the queries and over the blocks that read the
    sink's own layers, and averaged over heads. `freed` is the attention that the edited token
    loses; `primary`, `others` (all other sinks) and `rest` (all other tokens, and learned sinks)
    are the gains of the receivers, which add up to `freed`. The primary of a block is that of the
    state that it reads. `freed_direct`, `primary_direct` and so on are direct effects (`replay`):
    only the key of the edited token is replaced, so each later query's softmax redistributes in
    proportion what it paid to the sink. The same edit at the sink's control token is subtracted
    from all of these. Seeds are averaged. "mean:twins" is applied only if both the sink and its
    control occur elsewhere as ordinary tokens. The forming MLPs were chosen on earlier texts
    (`held_out`).

    `effects`, by receiver: its `share` of the freed attention and its `proportional` share (ratios
    of sums over texts), and `beyond`, their difference, median over texts with its interval. Sinks
    of texts that free no attention have no shares: `left_out` counts them, for the first edit.

    Table "damage", by edit and role: the effect of an edit on the predictions at its token and
    after it, medians over cells (`damage.damage_of_cells`).

    Verdict, about `beyond` of the primary: supported if its interval, and that at the sinks alone
    (nothing subtracted), lie above one hundredth by every way to ablate; contradicted if both lie
    below. Intervals are corrected for `n_claims`, by
    default those of this answer.
    """
    check_whole(EditError, n_claims=n_claims)
    labels = checked_labels(edits)
    n_claims = claims_together(n_claims, N_CLAIMS)
    texts = match_pairs(traces, sinks)
    formed_by = by_place(model, texts, sinks, forming)
    tested_with = held_out(texts, formed_by)
    texts, left_out = formed_only(texts, formed_by)
    rows: list[dict[str, Any]] = []
    for text in with_progress(texts, progress):
        rows += _rows(model, text, sinks, tested_with, labels)
    cells = pd.DataFrame(rows, columns=list(COLUMNS))
    parts = by_way(cells)
    effects = [row for way, part in parts.items() for row in receiver_rows(way, part, n_claims)]
    for first in list(parts.values())[:1]:
        left_out |= {NOTHING_FREED: n_sinks(first) - beyond(first, "primary", n_claims).n}
    return Answer(
        question="redistribution",
        cells=cells,
        effects=pd.DataFrame(effects, columns=list(EFFECTS)),
        verdicts=(redistribution_verdict(cells, left_out, n_claims),),
        tables={"damage": damage_of_cells(cells)},
        left_out=left_out,
        n_censored=count_censored(texts),
    )


def _rows(
    model: HookedModel,
    text: TextPairs,
    sinks: SinkTable,
    found: Mapping[Place, Forming],
    edits: Sequence[str],
) -> Iterator[dict[str, Any]]:
    asked = [
        (case, role, pos, edit)
        for case in text.cases
        for role, pos in (("sink", case.sink.pos), ("control", case.control))
        for edit in edits
        if is_there(edit, text.trace, case.sink.pos) and is_there(edit, text.trace, case.control)
    ]
    if not asked:
        return
    there = sinks.of_text(text.trace.text_id).sinks
    every = {sink.pos for sink in there if sink.kind != "transient"}
    layers = {case.sink.pos: found[case.place].layers for case in text.cases}
    cells = [cell_at(pos, layers[case.sink.pos], edit) for case, _, pos, edit in asked]
    watch = sorted(every | set(text.trace.reference.tolist()))
    total = recompute(model, text.trace, cells, watch=watch)
    direct = replay(model, text.trace, cells, watch=watch)
    for number, (case, role, pos, edit) in enumerate(asked):
        blocks = readers(case.sink.layers, len(text.trace.mass))
        totals = {block: _masses(total.watch, total.mass[block, number]) for block in blocks}
        directs = {
            block: _masses(watch, direct.watched[block, number])
            | {pos: float(direct.mass[block, number])}
            for block in blocks
        }
        yield {
            "text_id": text.trace.text_id,
            "sink_pos": case.sink.pos,
            "pos": pos,
            "role": role,
            "edit": edit,
            **_moved(text.trace, totals, pos, every),
            **dict(zip(DIRECT, _moved(text.trace, directs, pos, every).values(), strict=True)),
            "kl_at_token": float(total.kl[number, pos]),
            "loss_later": total.loss_later(number, pos),
            "loss_clean": float(total.loss_clean[pos + 1 : -1].double().mean()),
        }


def _masses(watch: Sequence[int], mass: Float[Tensor, "watch"]) -> dict[int, float]:
    return dict(zip(watch, mass.tolist(), strict=True))


def _moved(
    trace: Trace, edited: Mapping[int, Mapping[int, float]], pos: int, every: set[int]
) -> dict[str, float]:
    """Freed attention and the gains of the receivers, from edited masses by block and token."""
    moved = dict.fromkeys(("freed", "primary", "others"), 0.0)
    for block, mass in edited.items():
        watch = list(mass)
        change = torch.tensor(list(mass.values())).double() - trace.mass[block, watch].double()
        total = change * trace.queries[block, watch]  # sum over queries, mean over heads
        gained = dict(zip(watch, torch.nan_to_num(total).tolist(), strict=True))
        primary = int(trace.reference[block - 1])
        moved["freed"] -= gained[pos]
        moved["primary"] += gained[primary] if primary != pos else 0.0
        moved["others"] += sum(gained[one] for one in every - {pos, primary})
    return moved | {"rest": moved["freed"] - moved["primary"] - moved["others"]}


def cells_of(sample: Sample) -> CellCounts:
    """Cost: each way to ablate at every sink and at its control."""
    possible = [
        sum(
            is_there(way, text.trace, case.sink.pos) and is_there(way, text.trace, case.control)
            for case in text.cases
            for way in WAYS
        )
        for text in sample.texts
    ]
    return CellCounts(recomputed=[2 * number for number in possible])


REDISTRIBUTION = Question(
    name="redistribution",
    title="Where a removed sink's attention goes",
    asks="Does the primary gain more of a removed sink's attention than the softmax alone gives?",
    ask=redistribution,
    n_claims=lambda sinks: N_CLAIMS,
    cost=cells_of,
    figures=partial(figures.redistribution, line=MATERIAL),
    further_tables=("damage",),
    recomputes=True,
)
