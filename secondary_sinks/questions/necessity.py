"""Necessity: which MLPs does a secondary sink need?"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from secondary_sinks.causal.ablate import ablate_text, checked_labels, checked_layers
from secondary_sinks.causal.controls import owners_of
from secondary_sinks.causal.donors import token_twins
from secondary_sinks.errors import EditError
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.numbers import check_whole, whole_number
from secondary_sinks.progress import Progress, shows_progress
from secondary_sinks.questions import figures
from secondary_sinks.questions.answer import Answer, judge_ways
from secondary_sinks.questions.forming import (
    Forming,
    by_place,
    cell_at,
    forming_frame,
)
from secondary_sinks.questions.held_out import (
    ended_beyond_others,
    has_other,
    held_out,
    other_controls,
    other_layers,
    other_words,
)
from secondary_sinks.questions.layers import layer_verdicts
from secondary_sinks.questions.lost_by_layer import by_way, could_end, layer_effects
from secondary_sinks.questions.matched_pairs import (
    Place,
    TextPairs,
    count_censored,
    count_left_out,
    match_pairs,
    with_progress,
)
from secondary_sinks.questions.question import CellCounts, Question, Sample
from secondary_sinks.questions.run_claims import layers_of
from secondary_sinks.questions.trials import Trial, frame_of, run_trials, survives
from secondary_sinks.statistics import claims_together
from secondary_sinks.types import Edit, LayerEffect, SinkTable, Trace, Verdict
from secondary_sinks.types.frames import tidy

EDITS = ("zero", "mean", "resample:0", "resample:1", "resample:2")
WAYS = (*EDITS, "mean:twins")
"""With the mean output at the same token elsewhere, since zeroing also removes what the MLP writes
about which token this is, and may end a sink for this reason alone."""
CLAIM = "sinks other than the primary need one MLP, or several MLPs together"
WORDS = ("edit", "where", "layers")


@shows_progress
def necessity(
    model: HookedModel,
    traces: Trace | Iterable[Trace],
    sinks: SinkTable,
    *,
    edits: Sequence[str] = WAYS,
    layers: int | Sequence[int] | None = None,
    ordinary: int = 1,
    forming: Iterable[Forming] | None = None,
    progress: Progress | None = None,
    n_claims: int | None = None,
) -> Answer:
    """Which MLPs do secondary sinks need, and which MLPs form each of them?

    Every MLP (or those of `layers`) is ablated alone, by each of the `edits`, at each secondary and
    primary-like sink, at its control (a token twin, else a neighbour) and at `ordinary` further
    tokens of similar position and norm. Seeds of a resampling edit are averaged; a token without a
    twin is left out of "mean:twins" only. `cells` has one row per token, layer and edit, `effects`
    one per layer and way to ablate (`LayerEffect`).

    Table "forming": the forming MLPs of each sink, from `forming` or, by default, those that
    `forming_mlps` finds by zeroing.
    Table "formed": at each sink, the MLPs that form sinks of its creation layer in earlier texts
    (`held_out`), ablated by `edits`; and as many other MLPs that could have ended it, if possible.

    Verdicts: one for each layer that secondary sinks need, or a single one if no layer is needed
    (`layer_verdicts`); and one on whether sinks, primary-like ones included, need the MLPs that
    formed earlier ones, judged by the edits other than zero if there are any. Which MLP writes a
    sink is another question (`roles`): a sink that a head writes needs the MLPs through which the
    head acts. Intervals are corrected for `n_claims`, by default those of this answer.
    """
    check_whole(EditError, n_claims=n_claims)
    texts = match_pairs(traces, sinks)
    formed_by = by_place(model, texts, sinks, forming)
    labels, chosen = checked_labels(edits), checked_layers(layers)
    whole_number("ordinary", ordinary, EditError, 0)
    asked = with_progress(texts, progress)
    parts = [_cells(model, text, sinks, labels, chosen, ordinary) for text in asked]
    cells = pd.concat(parts, ignore_index=True)
    formed = _formed_cells(model, texts, sinks, held_out(texts, formed_by), labels)
    n_claims = claims_together(n_claims, len(could_end(cells)) + 1)
    left_out = count_left_out(texts)
    return Answer(
        question="necessity",
        cells=cells,
        effects=_effects(cells, n_claims),
        verdicts=(*layer_verdicts(cells, n_claims), _formed_verdict(formed, left_out, n_claims)),
        tables={"forming": forming_frame(formed_by.values(), sinks), "formed": formed},
        left_out=left_out,
        n_censored=count_censored(texts),
    )


def _cells(
    model: HookedModel,
    text: TextPairs,
    sinks: SinkTable,
    edits: Sequence[str],
    layers: tuple[int, ...] | None,
    ordinary: int,
) -> pd.DataFrame:
    """Effects at the tested sinks and at their controls."""
    asked = [case.sink.pos for case in text.cases]
    table = sinks if asked else SinkTable(sinks=(), thresholds=sinks.thresholds)
    given: Any = {"layers": layers, "ordinary": ordinary, "kl": True, "begin": text.begin}
    every = ablate_text(model, text.trace, table, edits, **given).to_frame()
    return every[every["sink_pos"].isin(asked)]


def _effects(cells: pd.DataFrame, n_claims: int) -> pd.DataFrame:
    parts = [
        tidy([asdict(row) for row in layer_effects(part, n_claims)], LayerEffect).assign(edit=way)
        for way, part in by_way(cells).items()
    ]
    return pd.concat(parts or [tidy([], LayerEffect).assign(edit="")], ignore_index=True)


def _formed_cells(
    model: HookedModel,
    texts: Sequence[TextPairs],
    sinks: SinkTable,
    found: Mapping[Place, Forming],
    edits: Sequence[str],
) -> pd.DataFrame:
    """Cells that ablate the MLPs chosen on earlier texts, and as many other MLPs."""
    rows = []
    for text in texts:
        trials = []
        for case in text.cases:
            own = found[case.place].layers
            places = {"forming": own, "other": other_layers(case.sink, own)}
            trials += [
                Trial(
                    sink=case.sink,
                    pos=case.sink.pos,
                    cell=cell_at(case.sink.pos, group, edit),
                    words={"edit": edit, "where": where, "layers": group},
                )
                for where, group in places.items()
                for edit in edits
                if group and is_there(edit, text.trace, case.sink.pos)
            ]
        rows += run_trials(model, text.trace, sinks.thresholds, trials)
    return frame_of(rows, *WORDS)


def is_there(edit: str, trace: Trace, pos: int) -> bool:
    """Whether an edit is possible at a token: a mean over twins needs at least one twin."""
    over_twins = Edit.of_label(edit, pos=pos, layer=0).over == "twins"
    return not over_twins or bool(token_twins(trace, pos))


def _formed_verdict(cells: pd.DataFrame, left_out: dict[str, int], n_claims: int) -> Verdict:
    """Verdict: do the MLPs that form sinks of earlier texts end these too, by edits but zero?

    And others do not (`ended_beyond_others`). Sinks of layer 0 have none: there the edits are
    controls of each other.
    """
    ways = by_way(cells)
    if len(ways) > 1:
        ways.pop("zero", None)
    found = {
        way: ended_beyond_others(part, "where", "forming", n_claims=n_claims)
        for way, part in ways.items()
    }

    def why(agreement: str) -> str:
        ended = 1 - survives(cells[cells["where"] == "forming"]).mean()
        others = other_words(cells, "where", "forming")
        return (
            f"with the MLPs ablated that form sinks of earlier texts, {ended:.0%} of "
            f"the sinks end{others and ', '}{others}; {agreement}"
        )

    return judge_ways(
        CLAIM,
        found,
        why,
        lowest=True,
        statistic="share of sinks that end, but not if other MLPs are ablated instead",
        left_out=left_out,
        n_claims=n_claims,
        **other_controls(cells, "where", "forming"),
    )


def n_claims_about(sinks: SinkTable) -> int:
    """One claim for each layer that could keep a sink from arising, and one more.

    The layers above the last creation layer make none: there the sink is written already.
    """
    return layers_of(sinks) + 1


def cells_of(sample: Sample) -> CellCounts:
    """Cost: every layer at each sink and its controls, then one or two groups of MLPs per sink.

    Each by all edits that are possible there. Exact for sinks formed by the MLP of their creation
    layer alone; for sinks with several forming MLPs there may be fewer controls.
    """
    return CellCounts(replayed=sum(_n_cells(text, sample.sinks) for text in sample.texts))


def _n_cells(text: TextPairs, sinks: SinkTable) -> int:
    trace, asked = text.trace, {case.sink.pos for case in text.cases}
    owners = owners_of(trace, sinks, 1, text.begin) if asked else {}
    n_ways = {pos: sum(is_there(way, trace, pos) for way in WAYS) for pos in owners}
    own = {pos for pos, (sink, _) in owners.items() if sink.pos in asked}
    by_layer = sum(n_ways[pos] for pos in own) * len(trace.norm)
    groups = sum(n_ways[case.sink.pos] * (1 + has_other(case.sink)) for case in text.cases)
    return by_layer + groups


NECESSITY = Question(
    name="necessity",
    title="Necessity",
    asks="Which MLPs does a secondary sink need?",
    ask=necessity,
    n_claims=n_claims_about,
    cost=cells_of,
    figures=figures.necessity,
    further_tables=("forming", "formed"),
)
