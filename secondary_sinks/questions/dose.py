"""Direction or norm? How a sink hangs on the length, and on the direction, of what forms it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypedDict

import pandas as pd

from secondary_sinks.causal.replay import Progress
from secondary_sinks.errors import EditError
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.questions import figures
from secondary_sinks.questions.answer import (
    Answer,
    Words,
    format_exclusions,
    sum_counts,
    verdict_of,
)
from secondary_sinks.questions.forming import Forming, Place, by_place, none_found
from secondary_sinks.questions.held_out import (
    control_words,
    has_other,
    held_out,
    other_layers,
    with_control,
)
from secondary_sinks.questions.matched_pairs import (
    MatchedPair,
    TextPairs,
    censored,
    match_pairs,
    with_progress,
)
from secondary_sinks.questions.question import Cells, Question, Sample
from secondary_sinks.questions.threshold import thresholds
from secondary_sinks.questions.trials import (
    Trial,
    frame_of,
    rate_difference,
    rates,
    run_trials,
    summary,
)
from secondary_sinks.statistics import (
    Interval,
    holm,
    median_over_texts,
    outcome_of,
    page_trend_test,
    rank_correlation,
    too_few,
)
from secondary_sinks.types import SHARE_UNIT, Edit, SinkTable, Trace, Verdict

FACTORS = tuple(2.0 ** (step / 2) for step in range(-8, 5))
"""Thirteen doses from a sixteenth to four times the norm; 1 is among them."""
N_CLAIMS = 4
SEEDS = 3
ALPHA = 0.05
WORDS = ("test", "role", "factor", "seed", "layers")
DOSE = "in the same direction, more norm of what forms a sink makes it draw more attention"
LAYERS = "in the same direction, more norm of what forms a sink makes more layers attended"
DIRECTION = (
    "sinks need the direction of what forms them: turned, at the same norm, they lose more than "
    "half of their attention"
)
NORM = (
    "sinks need the norm of what forms them: in the same direction, at the least norm, they lose "
    "more than half of their attention"
)


def norm_dose(
    model: HookedModel,
    traces: Trace | Iterable[Trace],
    sinks: SinkTable,
    *,
    factors: Sequence[float] = FACTORS,
    seeds: int = SEEDS,
    forming: Iterable[Forming] | None = None,
    progress: Progress | None = None,
    n_claims: int | None = None,
) -> Answer:
    """Scale and turn what the forming MLPs write at each sink.

    test "dose": times each of the `factors`, at the sink and at its control token. "turned": the
    same norm in `seeds` random directions at right angles, and (factor) the largest norm; at the
    sink, and at as many other MLPs that could have ended it (role "other"), where there are.
    "made": the same put into the control token: straight, turned, and times the smallest factor
    ("least"). "least": the smallest factor at the sink, and at as many other MLPs. Which MLPs these
    are was chosen on earlier texts (`held_out`).

    All verdicts are on attention alone. Being a sink asks for a norm and a direction by definition,
    so a sink that is shortened or turned ends, and one that is lengthened lives longer, whatever
    norm and direction do; `why` says so much for comparison. The primary is active at the same
    layers, and as strong, at every dose.

    *Attention* and *layers*: the rank correlation of factor and attention (of factor and number of
    layers attended) beyond that of the control token at the same factor, median over texts;
    supported where its interval lies above one half and Page's test, with permutations within texts
    and corrected (Holm) for both, has p of at most 0.05; contradicted where the interval lies below
    one half. *Direction* and *norm*: the share of sinks that lose more than half of what they draw
    beyond their expected share, and do not with other MLPs, against one half; where no other MLP
    could have ended the sink, its control token stands in: with the output put there as it is it
    draws half as much as the sink, and turned, or at the least norm, it does not. `n_claims`: see
    `n_claims_of`; by default those of this answer. Table "threshold": the least norm that makes a
    sink, or draws half as much (`threshold.thresholds`). Raises `EditError` for factors that do not
    ascend.
    """
    n_claims = n_claims or N_CLAIMS
    factors = _checked(factors)
    texts = match_pairs(traces, sinks)
    found = by_place(model, texts, sinks, forming)
    held = held_out(texts, found)
    rows: list[dict[str, Any]] = []
    for text in with_progress(texts, progress):
        trials = list(_trials(text, held, factors, seeds))
        rows += run_trials(model, text.trace, sinks.thresholds, trials)
    cells = frame_of(rows, *WORDS)
    left_out = sum_counts(*(text.left_out for text in texts))
    extra = none_found(texts, found)
    return Answer(
        question="norm_dose",
        cells=cells,
        effects=summary(cells, "test", "role", "factor"),
        verdicts=(
            *_doses(cells, extra, left_out, n_claims),
            _direction(cells, extra, left_out, n_claims),
            _norm(cells, extra, left_out, n_claims),
        ),
        tables={"threshold": thresholds(cells[cells["test"] == "dose"], held)},
        left_out=left_out,
        n_censored=censored(texts),
    )


def _checked(factors: Sequence[float]) -> tuple[float, ...]:
    if len(factors) < 2 or sorted(set(factors)) != list(factors) or factors[0] <= 0:
        raise EditError(f"factors must be positive and ascending, two or more; got {factors}")
    return tuple(factors)


def _trials(
    text: TextPairs, found: Mapping[Place, Forming], factors: Sequence[float], seeds: int
) -> Iterator[Trial]:
    for case in text.cases:
        own = found[case.sink.text_id, case.sink.pos].layers
        other = other_layers(case.sink, own)
        for factor in factors:
            yield _trial(case, "dose", "sink", own, factor, case.sink.pos)
            yield _trial(case, "dose", "control", own, factor, case.control)
        yield _trial(case, "least", "sink", own, factors[0], case.sink.pos)
        if other:
            yield _trial(case, "least", "other", other, factors[0], case.sink.pos)
        for role, factor in (("straight", 1.0), ("least", factors[0])):
            yield _trial(case, "made", role, own, factor, case.control, donor=case.sink.pos)
        for seed in range(seeds):
            for factor in (1.0, factors[-1]):
                yield _trial(case, "turned", "sink", own, factor, case.sink.pos, seed=seed)
                if other:
                    yield _trial(case, "turned", "other", other, factor, case.sink.pos, seed=seed)
            pos, donor = case.control, case.sink.pos
            yield _trial(case, "made", "turned", own, 1.0, pos, seed=seed, donor=donor)


def _trial(
    case: MatchedPair,
    test: str,
    role: str,
    layers: tuple[int, ...],
    factor: float,
    pos: int,
    *,
    seed: int | None = None,
    donor: int | None = None,
) -> Trial:
    """Patch, if there is a donor; turn by 90 degrees, if there is a seed; then scale."""
    cell = [Edit(pos=pos, layer=layers, kind="scale", value=factor)]
    if seed is not None:
        cell.insert(0, Edit(pos=pos, layer=layers, kind="rotate", value=90.0, seed=seed))
    if donor is not None:
        cell.insert(0, Edit(pos=pos, layer=layers, kind="patch", donor=donor))
    words = {"test": test, "role": role, "factor": factor, "seed": seed, "layers": layers}
    return Trial(sink=case.sink, pos=pos, cell=tuple(cell), words=words)


RESPONSES = {
    "mass_edited": (DOSE, "attention"),
    "lifetime_attention_edited": (LAYERS, "number of layers attended"),
}


def _doses(
    cells: pd.DataFrame, extra: str, left_out: Mapping[str, int], n_claims: int
) -> list[Verdict]:
    """One verdict for each response that no test of the norm has a part in."""
    part = cells[cells["test"] == "dose"]
    p_values = holm([_page(part, name) for name in RESPONSES])
    return [
        _dose(part, name, p, extra, left_out, n_claims)
        for name, p in zip(RESPONSES, p_values, strict=True)
    ]


def _dose(
    part: pd.DataFrame,
    name: str,
    p_value: float,
    extra: str,
    left_out: Mapping[str, int],
    n_claims: int,
) -> Verdict:
    claim, what = RESPONSES[name]
    words: Words = {
        "n_claims": n_claims,
        "statistic": f"rank correlation of factor and {what} beyond controls, median over texts",
        "unit": "rank correlation",
        "controls": "token twins, or ordinary tokens nearby, scaled alike"
        + format_exclusions(left_out),
    }
    interval = _correlation(part, name, n_claims)
    missing = too_few(interval.n, interval.n_texts, left_out, n_claims)
    if missing:
        return verdict_of(claim, "inconclusive", missing, interval, **words)
    outcome = outcome_of(interval)
    if outcome == "supported" and not p_value <= ALPHA:
        outcome = "inconclusive"
    lived = _correlation(part, "lifetime_edited", n_claims)
    why = (
        f"{what} follows the norm with a rank correlation of {interval.value:.2f} (corrected p = "
        f"{p_value:.2g}); the lifetime, whose definition has the norm in it, with "
        f"{lived.value:.2f}{extra}"
    )
    return verdict_of(claim, outcome, why, interval, **words)


def _correlation(cells: pd.DataFrame, name: str, n_claims: int) -> Interval:
    """Correlation of the factor with what a sink has beyond its control: median over texts."""
    beyond = _beyond(cells, name)
    found = [rank_correlation(beyond.columns, row) for row in beyond.to_numpy()]
    texts = beyond.index.get_level_values("text_id").tolist()
    return median_over_texts(found, texts, n_claims=n_claims)


def _beyond(cells: pd.DataFrame, name: str) -> pd.DataFrame:
    """What sinks have less what their controls have at the same dose: `[sink, factor]`.

    Of numbers with four digits: what differs less than that differs by rounding.
    """
    keys = [cells[key] for key in ("text_id", "sink_pos", "role", "factor")]
    values = cells[name].map(lambda value: float(f"{value:.4g}"))
    by_dose = values.groupby(keys).mean().unstack("role").reindex(columns=["sink", "control"])
    return (by_dose["sink"] - by_dose["control"]).unstack("factor")


def _page(cells: pd.DataFrame, name: str) -> float:
    return page_trend_test(_beyond(cells, name).groupby("text_id").mean().to_numpy())


def _direction(
    cells: pd.DataFrame, extra: str, left_out: Mapping[str, int], n_claims: int
) -> Verdict:
    turned = cells[cells["test"] == "turned"]
    same = turned[turned["factor"] == 1.0]
    instead = _made_as_well(cells, "turned")
    interval = rate_difference(
        same, "role", "sink", "other", n_claims=n_claims, of="draws", instead=instead
    )
    words: Words = {
        "statistic": "share of sinks that lose half of their attention, and not with other MLPs "
        "turned",
        "unit": SHARE_UNIT,
        **_controls(same, left_out, n_claims),
    }
    missing = too_few(interval.n, interval.n_texts, left_out, n_claims)
    if missing:
        return verdict_of(DIRECTION, "inconclusive", missing, interval, **words)
    more = turned[(turned["factor"] != 1.0) & (turned["role"] == "sink")]
    made = cells[cells["test"] == "made"].groupby("role")["draws"].apply(_mean)
    own = same[same["role"] == "sink"]
    why = (
        f"turned at the same norm {1 - _mean(own['draws']):.0%} lose more than half of their "
        f"attention, at {more['factor'].iloc[0]:g} times the norm {1 - _mean(more['draws']):.0%}; "
        f"by definition, which asks for the direction, {1 - _mean(own['is_sink']):.0%} are sinks "
        f"no more; put into other tokens, {made['turned']:.0%} of them draw half as much turned "
        f"and {made['straight']:.0%} straight{extra}"
    )
    return verdict_of(DIRECTION, outcome_of(interval), why, interval, **words)


def _norm(cells: pd.DataFrame, extra: str, left_out: Mapping[str, int], n_claims: int) -> Verdict:
    part = cells[cells["test"] == "least"]
    instead = _made_as_well(cells, "least")
    interval = rate_difference(
        part, "role", "sink", "other", n_claims=n_claims, of="draws", instead=instead
    )
    words: Words = {
        "statistic": "share of sinks that lose half of their attention, and not with other MLPs "
        "scaled",
        "unit": SHARE_UNIT,
        **_controls(part, left_out, n_claims),
    }
    missing = too_few(interval.n, interval.n_texts, left_out, n_claims)
    if missing:
        return verdict_of(NORM, "inconclusive", missing, interval, **words)
    own = part[part["role"] == "sink"]
    why = (
        f"at {part['factor'].iloc[0]:g} times the norm {1 - _mean(own['draws']):.0%} lose more "
        f"than half of their attention; by definition, which asks for the norm, "
        f"{1 - _mean(own['is_sink']):.0%} are sinks no more{extra}"
    )
    return verdict_of(NORM, outcome_of(interval), why, interval, **words)


def _made_as_well(cells: pd.DataFrame, role: str) -> "pd.Series[float]":
    """By case, 1 less the share of control tokens that draw half as much by the output as it is."""
    made = rates(cells[cells["test"] == "made"], "role", alive=True, of="draws")
    made = made.reindex(columns=["straight", role])
    return 1 - made["straight"] * (1 - made[role])


class _Controls(TypedDict):
    n_claims: int
    n_controls: int
    controls: str


def _controls(part: pd.DataFrame, left_out: Mapping[str, int], n_claims: int) -> _Controls:
    n_controls, n_sinks = (with_control(part, "role", one) for one in ("other", "sink"))
    instead = (
        "the same put into control tokens, which then draw half as much only by the output as it is"
    )
    words = control_words(n_controls, n_sinks, instead) + format_exclusions(left_out)
    return {"n_claims": n_claims, "n_controls": n_controls, "controls": words}


def _mean(values: "pd.Series[Any]") -> float:
    return float(values.astype(float).mean())


def cells_of(sample: Sample) -> Cells:
    """What it costs: the doses at a sink and its control, and the turned and least ones."""
    able = sum(has_other(case.sink) for text in sample.texts for case in text.cases)
    at_each = 2 * len(FACTORS) + 3 + 3 * SEEDS
    return Cells(replayed=sample.n_sinks * at_each + able * (1 + 2 * SEEDS))


NORM_DOSE = Question(
    name="norm_dose",
    title="Direction or norm",
    asks="Is it where the vector points, or how long it is?",
    ask=norm_dose,
    n_claims=lambda sinks: N_CLAIMS,
    cost=cells_of,
    figures=figures.norm_dose,
    further_tables=("threshold",),
)
