"""Sufficiency: does what one MLP writes at a sink make another token a sink?"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from secondary_sinks.errors import EditError
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.numbers import check_whole
from secondary_sinks.progress import Progress, shows_progress
from secondary_sinks.questions import figures
from secondary_sinks.questions.answer import Answer, judge
from secondary_sinks.questions.forming import Forming, by_place, none_found
from secondary_sinks.questions.held_out import (
    ended_beyond_others,
    has_other,
    held_out,
    other_controls,
    other_layers,
    other_words,
)
from secondary_sinks.questions.matched_pairs import (
    MatchedPair,
    Place,
    TextPairs,
    count_censored,
    count_left_out,
    match_pairs,
    with_progress,
)
from secondary_sinks.questions.question import CellCounts, Question, Sample
from secondary_sinks.questions.trials import (
    Trial,
    frame_of,
    rate_difference,
    run_trials,
    summary,
    survives,
)
from secondary_sinks.statistics import claims_together
from secondary_sinks.types import Edit, SinkTable, Trace, Verdict, mass_lost
from secondary_sinks.types.lists import one_or_more

N_CLAIMS = 2
SEEDS = 3
WORDS = ("patch", "where", "layers", "donor", "control")
DENOISING = "the output of the MLP of its creation layer at a sink makes another token a sink"
NOISING = "replacing the forming MLPs' outputs by those at a token that is not a sink ends a sink"


@shows_progress
def sufficiency(
    model: HookedModel,
    traces: Trace | Iterable[Trace],
    sinks: SinkTable,
    *,
    layers: int | Sequence[int] | None = None,
    seeds: int = SEEDS,
    forming: Iterable[Forming] | None = None,
    progress: Progress | None = None,
    n_claims: int | None = None,
) -> Answer:
    """Does the MLP output at a sink make another token a sink? Patch it into a control, and back.

    The control is a token twin, else a neighbour. Columns `patch` and `where` name the tests:

    * denoising, "creation": what the MLP of the creation layer writes at the sink is put into the
      control. Does it become a sink by the criterion? Compared with the outputs of the same MLP at
      `seeds` ordinary tokens.
    * noising, "forming": the control's outputs of the sink's forming MLPs (chosen on earlier texts:
      `held_out`) are put into the sink. Compared with the same patch at as many other MLPs
      ("other").
    * both are also done for each single layer (`layers`, by default all): "layer"; and denoising
      with all forming MLPs: "forming". These can be nearly all MLPs up to the creation layer; that
      a copy of all they write makes a sink says little, so no verdict rests on it.

    Verdicts: on the share of tokens that become sinks but not with ordinary donors, and on the
    share of sinks that end (no sink any more, nor half of its attention) but not with other MLPs. A
    sink with too few other MLPs counts as if these ended it too (`held_out.ended_beyond_others`).
    Supported if the interval lies above one half, contradicted if it lies below and so does the
    share without regard to the controls. Sinks without forming MLPs are included; they count as
    failures. Intervals are corrected for `n_claims`, by default those of this answer.
    """
    check_whole(EditError, seeds=seeds, n_claims=n_claims)
    n_claims = claims_together(n_claims, N_CLAIMS)
    texts = match_pairs(traces, sinks)
    formed_by = by_place(model, texts, sinks, forming)
    tested_with = held_out(texts, formed_by)
    rows: list[dict[str, Any]] = []
    for text in with_progress(texts, progress):
        trials = list(_trials(text, tested_with, layers, seeds))
        rows += run_trials(model, text.trace, sinks.thresholds, trials)
    cells = frame_of(rows, *WORDS)
    left_out = count_left_out(texts)
    why = _twins(texts) + none_found(texts, formed_by)
    return Answer(
        question="sufficiency",
        cells=cells,
        effects=summary(cells, "patch", "where", "layers", "donor"),
        verdicts=(
            _denoising(cells, why, left_out, n_claims),
            _noising(cells, why, left_out, n_claims),
        ),
        left_out=left_out,
        n_censored=count_censored(texts),
    )


def _trials(
    text: TextPairs,
    found: Mapping[Place, Forming],
    layers: int | Sequence[int] | None,
    seeds: int,
) -> Iterator[Trial]:
    every = range(len(text.trace.norm)) if layers is None else one_or_more(layers)
    for case in text.cases:
        sink, own = case.sink, found[case.place].layers
        alone = (sink.l_start,)
        places = {"forming": own, "other": other_layers(sink, own)}
        single = [("layer", (la,)) for la in every]
        for where, group in [*places.items(), *single]:
            if not group:  # no control possible
                continue
            yield _patch(case, "denoising", where, group, donor=sink.pos)
            yield _patch(case, "noising", where, group, donor=case.control)
        yield _patch(case, "denoising", "creation", alone, donor=sink.pos)
        for seed in range(seeds):
            yield _patch(case, "denoising", "creation", alone, seed=seed)


def _patch(
    case: MatchedPair,
    patch: str,
    where: str,
    layers: tuple[int, ...],
    donor: int | None = None,
    seed: int = 0,
) -> Trial:
    """Patch into the control (denoising) or the sink (noising); by default from a drawn token."""
    pos = case.control if patch == "denoising" else case.sink.pos
    kind = "resample" if donor is None else "patch"
    given = "control" if patch == "noising" else "ordinary" if donor is None else "sink"
    return Trial(
        sink=case.sink,
        pos=pos,
        cell=(Edit(pos=pos, layer=layers, kind=kind, donor=donor, seed=seed),),
        words={
            "patch": patch,
            "where": where,
            "layers": layers,
            "donor": given,
            "control": case.kind,
        },
    )


def _denoising(
    cells: pd.DataFrame, why: str, left_out: Mapping[str, int], n_claims: int
) -> Verdict:
    part = cells[(cells["patch"] == "denoising") & (cells["where"] == "creation")]
    interval = rate_difference(part, "donor", "sink", "ordinary", alive=True, n_claims=n_claims)
    made = part[part["donor"] == "sink"]
    ordinary = survives(part[part["donor"] == "ordinary"]).mean()
    sinks = cells[(cells["patch"] == "noising") & (cells["where"] == "forming")]
    group = cells[(cells["patch"] == "denoising") & (cells["where"] == "forming")]
    return judge(
        DENOISING,
        interval,
        lambda: (
            f"{made['is_sink'].astype(float).mean():.0%} of the tokens become sinks, with "
            f"{made['lifetime_edited'].mean() / sinks['lifetime_clean'].mean():.0%} of the sinks' "
            f"lifetime and {made['mass_edited'].mean() / sinks['mass_clean'].mean():.0%} of their "
            f"attention; with ordinary donors, {ordinary:.0%} do, or draw half of it; with all "
            f"forming MLPs' outputs, {group['is_sink'].astype(float).mean():.0%} do{why}"
        ),
        statistic="share of tokens that become sinks, but neither do so nor draw half of the "
        "sink's attention with ordinary donors",
        controls="outputs of the same MLP at ordinary tokens",
        left_out=left_out,
        n_claims=n_claims,
    )


def _noising(cells: pd.DataFrame, why: str, left_out: Mapping[str, int], n_claims: int) -> Verdict:
    part = cells[(cells["patch"] == "noising") & (cells["where"] != "layer")]
    at = part[part["where"] == "forming"]
    clean = at["mass_clean"].mean()
    lost = float(mass_lost(clean, at["mass_edited"].mean(), clean))
    others = other_words(part, "where", "forming")
    return judge(
        NOISING,
        ended_beyond_others(part, "where", "forming", n_claims=n_claims),
        lambda: (
            f"{1 - survives(at).mean():.0%} of the sinks end and lose {lost:.0%} of "
            f"their attention{others and '; '}{others}{why}"
        ),
        statistic="share of sinks that end, but not if other MLPs are patched instead",
        left_out=left_out,
        n_claims=n_claims,
        **other_controls(part, "where", "forming"),
    )


def _twins(texts: Sequence[TextPairs]) -> str:
    kinds = [case.kind for text in texts for case in text.cases]
    return f"; {kinds.count('twin')} of {len(kinds)} control tokens are token twins"


def cells_of(sample: Sample) -> CellCounts:
    """Cost: each layer and all forming MLPs, both ways, with their controls; one MLP alone."""
    able = sum(has_other(case.sink) for text in sample.texts for case in text.cases)
    return CellCounts(replayed=sample.n_sinks * (2 * (1 + sample.n_layers) + 1 + SEEDS) + 2 * able)


SUFFICIENCY = Question(
    name="sufficiency",
    title="Sufficiency",
    asks="Does the MLP output at a sink make another token a sink?",
    ask=sufficiency,
    n_claims=lambda sinks: N_CLAIMS,
    cost=cells_of,
    figures=figures.sufficiency,
)
