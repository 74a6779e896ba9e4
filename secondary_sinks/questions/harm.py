"""Harm: does the loss rise when all removable sinks of a text but the primary are removed?"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import pandas as pd
import torch

from secondary_sinks.causal import recompute, watched_sinks
from secondary_sinks.causal.ablate import checked_labels
from secondary_sinks.causal.outcome import still_drawing
from secondary_sinks.errors import EditError
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.numbers import check_whole
from secondary_sinks.progress import Progress, shows_progress
from secondary_sinks.questions import figures
from secondary_sinks.questions.answer import Answer, judge_ways
from secondary_sinks.questions.forming import Forming, by_place, cell_at, formed_only
from secondary_sinks.questions.held_out import held_out
from secondary_sinks.questions.lost_by_layer import by_way
from secondary_sinks.questions.matched_pairs import (
    TextPairs,
    count_censored,
    lasting_of,
    match_pairs,
    matched_draw,
    with_progress,
)
from secondary_sinks.questions.necessity import WAYS, is_there
from secondary_sinks.questions.question import CellCounts, Question, Sample
from secondary_sinks.statistics import Interval, claims_together, median_over_texts
from secondary_sinks.types import Cell, SinkTable, Trace, Verdict
from secondary_sinks.types.edits import positions_of

CLAIM = (
    "removing the removable sinks other than the primary raises the loss by 1% or more, beyond the "
    "rise without the MLP outputs of the same number of ordinary tokens"
)
N_CLAIMS = 1
DRAWS = 5
LINE = 0.01
"""A rise of the loss by at least this share of the clean loss is called harm."""
COLUMNS = (
    *("text_id", "role", "draw", "edit", "n_edited", "n_sinks", "n_ended", "n_counted"),
    *("loss_clean", "loss_edited", "kl", "kl_at_token"),
)


@shows_progress
def harm(
    model: HookedModel,
    traces: Trace | Iterable[Trace],
    sinks: SinkTable,
    *,
    edits: Sequence[str] = WAYS,
    draws: int = DRAWS,
    forming: Iterable[Forming] | None = None,
    progress: Progress | None = None,
    n_claims: int | None = None,
) -> Answer:
    """How much does the loss rise when all removable sinks of a text are removed at once?

    Their forming MLPs are ablated, and the rest of the text is recomputed. Removable are secondary
    and primary-like sinks with forming MLPs and a control. `n_sinks` counts all secondary and
    primary-like sinks of the text that a later block reads, `n_ended` those that are no sinks under
    the edit and draw less than half of their clean attention. Tokens that become sinks instead are
    not counted.

    As a control, the same MLPs are ablated at as many ordinary tokens of similar position and norm,
    matched one to one and drawn `draws` times. Loss is the cross-entropy (nats) of the next token,
    mean over the positions after the first edited token that no cell of the text edits: the same
    positions for all cells. `kl` is KL(clean || edited) in nats at these positions, `kl_at_token`
    that at the edited tokens; both are means over positions. "mean:twins" is applied only to sinks
    and controls whose token occurs elsewhere as an ordinary token; `n_edited` counts the sinks. The
    forming MLPs were chosen on earlier texts (`held_out`).

    Statistic: the rise of the loss with the sinks removed minus that with ordinary tokens, as a
    share of the text's clean loss, median over texts. Supported if its interval lies above one
    hundredth by every way to ablate, with and without subtracting, even when every text in which a
    sink stayed counts as one whose loss did not rise. Contradicted if it lies below even when every
    such text counts as one whose loss rose. So in most texts all sinks must end.
    `effects` say whether it differs from 0, and which share of the sinks `ended`, mean over texts.
    Intervals are corrected for `n_claims`, by default those of this answer.
    """
    check_whole(EditError, draws=draws, n_claims=n_claims)
    labels = checked_labels(edits)
    n_claims = claims_together(n_claims, N_CLAIMS)
    texts = match_pairs(traces, sinks)
    formed_by = by_place(model, texts, sinks, forming)
    tested_with = held_out(texts, formed_by)
    texts, left_out = formed_only(texts, formed_by)
    rows: list[dict[str, Any]] = []
    for text in with_progress(texts, progress):
        layers = {case.sink.pos: tested_with[case.place].layers for case in text.cases}
        removed = {edit: removable(text, sinks, edit, draws) for edit in labels}
        rows += _rows(model, text, sinks, layers, removed)
    cells = pd.DataFrame(rows, columns=list(COLUMNS))
    effects = [_row(way, part, n_claims) for way, part in by_way(cells).items()]
    names = ["edit", "sinks", "controls", "beyond", "low", "high", "ended", "loss_clean", "n_texts"]
    return Answer(
        question="harm",
        cells=cells,
        effects=pd.DataFrame(effects, columns=names),
        verdicts=(_verdict(cells, left_out, n_claims),),
        left_out=left_out,
        n_censored=count_censored(texts),
    )


def removable(
    text: TextPairs, sinks: SinkTable, edit: str, draws: int
) -> dict[int, tuple[int, ...]]:
    """The sinks at which an edit is possible, each with one ordinary token per draw."""

    @cache
    def able(pos: int) -> bool:
        return is_there(edit, text.trace, pos)

    targets = [case.sink for case in text.cases if able(case.sink.pos)]
    drawn = [matched_draw(text.trace, sinks, targets, seed, able) for seed in range(draws)]
    places = [sink.pos for sink in targets if all(sink.pos in draw for draw in drawn)]
    return {pos: tuple(draw[pos] for draw in drawn) for pos in places}


def _cells(
    pairs: Mapping[int, tuple[int, ...]], layers: Mapping[int, Sequence[int]], edit: str
) -> Iterator[tuple[str, int, Cell]]:
    """(role, draw, cell): the edit at all sinks at once, then at the ordinary tokens of each draw.

    At each token, of the MLPs that its sink is tested with.
    """
    drawn = enumerate(zip(*pairs.values(), strict=True))
    every = [("sinks", 0, tuple(pairs)), *(("controls", draw, places) for draw, places in drawn)]
    for role, draw, places in every:
        at = zip(places, pairs, strict=True)
        yield role, draw, tuple(one for pos, sink in at for one in cell_at(pos, layers[sink], edit))


def _rows(
    model: HookedModel,
    text: TextPairs,
    sinks: SinkTable,
    layers: Mapping[int, Sequence[int]],
    removed: Mapping[str, Mapping[int, tuple[int, ...]]],
) -> Iterator[dict[str, Any]]:
    """Rows of a text; `removed` are by edit the `removable` sinks with their ordinary tokens."""
    asked = [
        (edit, *cell)
        for edit, pairs in removed.items()
        if pairs
        for cell in _cells(pairs, layers, edit)
    ]
    if not asked:
        return
    lasting = lasting_of(text.trace.text_id, sinks)
    watch = [sink.pos for sink in lasting]
    result = recompute(model, text.trace, [cell for *_, cell in asked], watch=watch)
    watched = [result.column(pos) for pos in watch]
    alive = watched_sinks(text.trace, result, sinks.thresholds).any(0)[:, watched]
    alive |= still_drawing(text.trace, result, lasting)
    # The loss counts after the first edit, but neither where a cell edits nor at the last position.
    edited = {pos for *_, cell in asked for pos in positions_of(cell)}
    counts = torch.arange(len(text.trace)) >= min(edited)
    counts[[*edited, len(counts) - 1]] = False
    for number, (edit, role, draw, cell) in enumerate(asked):
        yield {
            "text_id": text.trace.text_id,
            "role": role,
            "draw": draw,
            "edit": edit,
            "n_edited": len(removed[edit]),
            "n_sinks": len(lasting),
            "n_ended": int((~alive[number]).sum()),
            "n_counted": int(counts.sum()),
            "loss_clean": float(result.loss_clean[counts].double().mean()),
            "loss_edited": float(result.loss[number, counts].double().mean()),
            "kl": float(result.kl[number, counts].double().mean()),
            "kl_at_token": float(result.kl[number, positions_of(cell)].double().mean()),
        }


def _rises(cells: pd.DataFrame) -> pd.DataFrame:
    """Rise of the loss per text, as a share of the clean loss; mean over seeds and draws.

    Columns: with the sinks ablated, with ordinary tokens ablated, and the difference of the two.
    """
    rise = (cells["loss_edited"] - cells["loss_clean"]) / cells["loss_clean"]
    by_text = rise.groupby([cells["text_id"], cells["role"]]).mean().unstack()
    by_text = by_text.reindex(columns=["sinks", "controls"])
    return by_text.assign(beyond=by_text["sinks"] - by_text["controls"])


def _beyond(cells: pd.DataFrame, n_claims: int) -> Interval:
    rises = _rises(cells)
    found = median_over_texts(rises["beyond"], rises.index.tolist(), n_claims=n_claims)
    n_sinks = cells.groupby("text_id")["n_edited"].first().sum()
    return replace(found, n=int(n_sinks))


def _stayed(cells: pd.DataFrame) -> pd.DataFrame:
    """Per text, the number of its sinks and of those that stay by some seed of a way to ablate."""
    removed = cells[cells["role"] == "sinks"]
    removed = removed.assign(stayed=removed["n_sinks"] - removed["n_ended"])
    return removed.groupby("text_id")[["n_sinks", "stayed"]].max()


def _bounds(cells: pd.DataFrame, n_claims: int) -> tuple[Interval, Interval]:
    """The intervals if the loss rose in no text in which a sink stayed, and if it rose in each.

    In the first, a text counts with its rise without the sinks where that is the smaller one: what
    the loss falls without ordinary tokens shows nothing about sinks.
    """
    rises, removed = _rises(cells), _stayed(cells)["stayed"] == 0
    least = rises[["beyond", "sinks"]].min(axis=1).where(removed, -math.inf)
    most = rises["beyond"].where(removed, math.inf)
    texts = rises.index.tolist()
    low, high = (median_over_texts(one, texts, n_claims=n_claims) for one in (least, most))
    return low, high


def _row(way: str, cells: pd.DataFrame, n_claims: int) -> dict[str, Any]:
    found, rises, stayed = _beyond(cells, n_claims), _rises(cells), _stayed(cells)
    return {
        "edit": way,
        "sinks": rises["sinks"].median(),
        "controls": rises["controls"].median(),
        "beyond": found.value,
        "low": found.low,
        "high": found.high,
        "ended": 1 - (stayed["stayed"] / stayed["n_sinks"]).mean(),
        "loss_clean": cells.groupby("text_id")["loss_clean"].mean().mean(),
        "n_texts": found.n_texts,
    }


def _verdict(cells: pd.DataFrame, left_out: Mapping[str, int], n_claims: int) -> Verdict:
    ways = by_way(cells)

    def why(agreement: str) -> str:
        row = _row("", next(iter(ways.values())), n_claims)
        return (
            f"the loss of {row['loss_clean']:.3f} nats rises by {row['sinks']:.2%} without the "
            f"removable sinks, and by {row['controls']:.2%} without the MLP outputs of ordinary "
            f"tokens{_not_removed(ways)}; {agreement}"
        )

    bounds = {way: _bounds(part, n_claims) for way, part in ways.items()}
    return judge_ways(
        CLAIM,
        {way: _beyond(part, n_claims) for way, part in ways.items()},
        why,
        least={way: least for way, (least, _) in bounds.items()},
        most={way: most for way, (_, most) in bounds.items()},
        statistic="rise of the loss as a share of the clean loss, without the removable sinks "
        "minus without ordinary tokens, median over texts",
        controls="the same number of ordinary tokens of similar position and norm",
        left_out=left_out,
        n_claims=n_claims,
        line=LINE,
    )


def _not_removed(ways: Mapping[str, pd.DataFrame]) -> str:
    """How many sinks of the texts stayed by each way to ablate, to append; empty if none did."""
    counts = {way: _stayed(cells).sum() for way, cells in ways.items()}
    return "".join(
        f"; {n['stayed']} of {n['n_sinks']} sinks were not removed by {way}"
        for way, n in counts.items()
        if n["stayed"]
    )


def cells_of(sample: Sample) -> CellCounts:
    """Cost: each way to ablate, at the sinks of a text and at every draw of controls."""
    ways = [
        sum(bool(removable(text, sample.sinks, way, DRAWS)) for way in WAYS)
        for text in sample.texts
    ]
    return CellCounts(recomputed=[number * (1 + DRAWS) for number in ways])


HARM = Question(
    name="harm",
    title="Harm to the loss",
    asks="How much does the loss rise when all removable sinks but the primary are removed?",
    ask=harm,
    n_claims=lambda sinks: N_CLAIMS,
    cost=cells_of,
    figures=partial(figures.harm, line=LINE),
    recomputes=True,
)
