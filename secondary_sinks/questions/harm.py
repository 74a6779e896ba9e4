"""Harm: what does removing all secondary sinks of a text do to the loss?"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd
import torch
from jaxtyping import Bool
from torch import Tensor

from secondary_sinks.causal import recompute
from secondary_sinks.causal.replay import Progress
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.questions import figures
from secondary_sinks.questions.answer import (
    Answer,
    Words,
    combine_outcomes,
    format_exclusions,
    verdict_of,
)
from secondary_sinks.questions.forming import Forming, Place, by_place, cell_at, formed_only
from secondary_sinks.questions.layers import by_way
from secondary_sinks.questions.matched_pairs import (
    TextPairs,
    censored,
    match_pairs,
    matched_draw,
    with_progress,
)
from secondary_sinks.questions.necessity import EDITS
from secondary_sinks.questions.question import Cells, Question, Sample
from secondary_sinks.statistics import Interval, median_over_texts, outcome_of, too_few
from secondary_sinks.types import SHARE_UNIT, Cell, SinkTable, Trace, Verdict

CLAIM = (
    "removing all secondary sinks raises the loss by a hundredth or more, beyond what removing as "
    "many ordinary tokens' MLP outputs does"
)
N_CLAIMS = 1
DRAWS = 5
LINE = 0.01
"""The share of the clean loss from which on its rise is called harm."""
COLUMNS = (
    "text_id",
    "role",
    "draw",
    "edit",
    "n_edited",
    "n_counted",
    "loss_clean",
    "loss_edited",
    "kl",
)


def harm(
    model: HookedModel,
    traces: Trace | Iterable[Trace],
    sinks: SinkTable,
    *,
    edits: Sequence[str] = EDITS,
    draws: int = DRAWS,
    forming: Iterable[Forming] | None = None,
    progress: Progress | None = None,
    n_claims: int | None = None,
) -> Answer:
    """Ablate the forming MLPs of all secondary sinks of a text at once; the rest is recomputed.

    Beside it, `draws` times, the same MLPs at as many ordinary tokens of similar position and
    norm, matched one to one. Loss is the cross-entropy (nats) of the next token, mean over the
    positions from the first edited token on that are edited in no cell of the text: the same ones
    for all.

    Verdict, of the rise of the loss with the sinks less that with ordinary tokens, as a share of
    the text's clean loss, median over texts: supported where its interval lies above one hundredth
    by every way to ablate; contradicted where it lies below. `effects` say whether it differs from
    0. `n_claims`: see `n_claims_of`; by default those of this answer.
    """
    n_claims = n_claims or N_CLAIMS
    texts = match_pairs(traces, sinks)
    found = by_place(model, texts, sinks, forming)
    texts, left_out = formed_only(texts, found)
    rows: list[dict[str, Any]] = []
    for text in with_progress(texts, progress):
        removed = _Removed(text, sinks, found, draws)
        rows += _rows(model, text, removed, edits)
    cells = pd.DataFrame(rows, columns=list(COLUMNS))
    effects = [_row(way, part, n_claims) for way, part in by_way(cells).items()]
    names = ["edit", "sinks", "controls", "beyond", "low", "high", "loss_clean", "n_texts"]
    return Answer(
        question="harm",
        cells=cells,
        effects=pd.DataFrame(effects, columns=names),
        verdicts=(_verdict(cells, left_out, n_claims),),
        left_out=left_out,
        n_censored=censored(texts),
    )


class _Removed:
    """The sinks of a text that are removed, and the tokens that stand in for them by draw."""

    def __init__(
        self, text: TextPairs, sinks: SinkTable, found: Mapping[Place, Forming], draws: int
    ) -> None:
        self.trace, targets = text.trace, [case.sink for case in text.cases]
        drawn = [matched_draw(text.trace, sinks, targets, seed) for seed in range(draws)]
        self.pairs = {sink.pos: tuple(draw[sink.pos] for draw in drawn) for sink in targets}
        self.layers = {pos: found[text.trace.text_id, pos].layers for pos in self.pairs}

    def cells(self, edit: str) -> Iterator[tuple[str, int, Cell]]:
        """(role, draw, cell): all sinks at once, then each draw."""
        yield "sinks", 0, self._cell({pos: pos for pos in self.pairs}, edit)
        for draw in range(len(next(iter(self.pairs.values())))):
            yield "controls", draw, self._cell({p: d[draw] for p, d in self.pairs.items()}, edit)

    def _cell(self, places: Mapping[int, int], edit: str) -> Cell:
        """The edit at each place, at the layers of the sink that it stands in for."""
        return tuple(e for pos, at in places.items() for e in cell_at(at, self.layers[pos], edit))

    def counted(self) -> Bool[Tensor, "pos"]:
        """Positions whose loss counts: after the first edit, edited nowhere, and not the last."""
        edited = set(self.pairs) | {pos for drawn in self.pairs.values() for pos in drawn}
        counts = torch.arange(len(self.trace.tokens)) >= min(edited)
        counts[[*edited, len(counts) - 1]] = False
        return counts


def _rows(
    model: HookedModel, text: TextPairs, removed: _Removed, edits: Sequence[str]
) -> Iterator[dict[str, Any]]:
    if not removed.pairs:
        return
    asked = [(edit, *one) for edit in edits for one in removed.cells(edit)]
    result = recompute(model, text.trace, [cell for *_, cell in asked])
    counts = removed.counted()
    for number, (edit, role, draw, _) in enumerate(asked):
        yield {
            "text_id": text.trace.text_id,
            "role": role,
            "draw": draw,
            "edit": edit,
            "n_edited": len(removed.pairs),
            "n_counted": int(counts.sum()),
            "loss_clean": float(result.loss_clean[counts].double().mean()),
            "loss_edited": float(result.loss[number, counts].double().mean()),
            "kl": float(result.kl[number, counts].double().mean()),
        }


def _rises(cells: pd.DataFrame) -> pd.DataFrame:
    """Rise of the loss by text, as a share of the clean loss; seeds averaged.

    With the sinks removed, with ordinary tokens removed, and the difference of the two.
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


def _row(way: str, cells: pd.DataFrame, n_claims: int) -> dict[str, Any]:
    found, rises = _beyond(cells, n_claims), _rises(cells)
    return {
        "edit": way,
        "sinks": rises["sinks"].median(),
        "controls": rises["controls"].median(),
        "beyond": found.value,
        "low": found.low,
        "high": found.high,
        "loss_clean": cells.groupby("text_id")["loss_clean"].mean().mean(),
        "n_texts": found.n_texts,
    }


def _verdict(cells: pd.DataFrame, left_out: Mapping[str, int], n_claims: int) -> Verdict:
    words: Words = {
        "statistic": "share of the clean loss by which it rises, less with ordinary tokens, median "
        "over texts",
        "unit": SHARE_UNIT,
        "controls": "as many ordinary tokens of similar position and norm"
        + format_exclusions(left_out),
        "n_claims": n_claims,
    }
    ways = by_way(cells)
    if not ways:
        return verdict_of(CLAIM, "inconclusive", too_few(0, 0, left_out), None, **words)
    first = next(iter(ways.values()))
    interval, row = _beyond(first, n_claims), _row("", first, n_claims)
    missing = too_few(interval.n, interval.n_texts, left_out, n_claims)
    if missing:
        return verdict_of(CLAIM, "inconclusive", missing, interval, **words)
    outcome, agreement = combine_outcomes(
        {way: outcome_of(_beyond(part, n_claims), LINE) for way, part in ways.items()}
    )
    why = (
        f"the loss of {row['loss_clean']:.3f} nats rises by {row['sinks']:.2%} of it without the "
        f"sinks, and by {row['controls']:.2%} without as many ordinary tokens' MLPs; {agreement}"
    )
    return verdict_of(CLAIM, outcome, why, interval, **words)


def cells_of(sample: Sample) -> Cells:
    """What it costs: each way to ablate, at the sinks of a text and at every draw of others."""
    by_text = len(EDITS) * (1 + DRAWS)
    return Cells(recomputed=[bool(text.cases) * by_text for text in sample.texts])


HARM = Question(
    name="harm",
    title="What it costs",
    asks="What does removing all secondary sinks of a text do to the loss?",
    ask=harm,
    n_claims=lambda sinks: N_CLAIMS,
    cost=cells_of,
    figures=partial(figures.harm, line=LINE),
    recomputes=True,
)
