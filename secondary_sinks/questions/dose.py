"""Direction or norm? How a sink hangs on the length, and on the direction, of what forms it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

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
from secondary_sinks.questions.forming import Forming, Place, by_place, none_found, other_layers
from secondary_sinks.questions.matched_pairs import (
    MatchedPair,
    TextPairs,
    censored,
    match_pairs,
    with_progress,
)
from secondary_sinks.questions.question import Cells, Question, Sample
from secondary_sinks.questions.threshold import thresholds
from secondary_sinks.questions.trials import Trial, frame_of, rate_difference, run_trials, summary
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
N_CLAIMS = 3
SEEDS = 3
ALPHA = 0.05
WORDS = ("test", "role", "factor", "seed", "layers")
DOSE = "in the same direction, more norm of what forms a sink makes it live longer"
DIRECTION = "sinks need the direction of what forms them: turned, at the same norm, they end"
NORM = "sinks need the norm of what forms them: in the same direction, at the least norm, they end"


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
    sink, and at as many other MLPs of it (role "other"). "made": the same put into the control
    token, turned and not. "least": the smallest factor at as many other MLPs.

    Verdicts. *Dose*: the rank correlation of factor and lifetime, less that of the control token,
    median over texts; supported where its interval lies above one half and Page's test, with
    permutations within texts and corrected (Holm) for lifetime and mass, has p of at most 0.05;
    contradicted where the interval lies below one half. *Direction* and *norm*: the share of sinks
    that end, and do not with other MLPs, against one half. `n_claims`: see `n_claims_of`; by
    default those of this answer. Table "threshold": the least norm that makes a sink
    (`threshold.thresholds`). Raises `EditError` for factors that do not ascend.
    """
    n_claims = n_claims or N_CLAIMS
    factors = _checked(factors)
    texts = match_pairs(traces, sinks)
    found = by_place(model, texts, sinks, forming)
    rows: list[dict[str, Any]] = []
    for text in with_progress(texts, progress):
        trials = list(_trials(text, found, factors, seeds))
        rows += run_trials(model, text.trace, sinks.thresholds, trials)
    cells = frame_of(rows, *WORDS)
    left_out = sum_counts(*(text.left_out for text in texts))
    extra = none_found(texts, found)
    return Answer(
        question="norm_dose",
        cells=cells,
        effects=summary(cells, "test", "role", "factor"),
        verdicts=(
            _dose(cells, extra, left_out, n_claims),
            _direction(cells, extra, left_out, n_claims),
            _norm(cells, extra, left_out, n_claims),
        ),
        tables={"threshold": thresholds(cells[cells["test"] == "dose"], found)},
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
        other = other_layers(case.sink, own, len(text.trace.norm))
        for factor in factors:
            yield _trial(case, "dose", "sink", own, factor, case.sink.pos)
            yield _trial(case, "dose", "control", own, factor, case.control)
        yield _trial(case, "least", "sink", own, factors[0], case.sink.pos)
        yield _trial(case, "least", "other", other, factors[0], case.sink.pos)
        yield _trial(case, "made", "straight", own, 1.0, case.control, donor=case.sink.pos)
        for seed in range(seeds):
            for factor in (1.0, factors[-1]):
                yield _trial(case, "turned", "sink", own, factor, case.sink.pos, seed=seed)
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


def _dose(cells: pd.DataFrame, extra: str, left_out: Mapping[str, int], n_claims: int) -> Verdict:
    part = cells[cells["test"] == "dose"]
    words: Words = {
        "n_claims": n_claims,
        "statistic": "rank correlation of factor and lifetime, less that of controls, median over "
        "texts",
        "unit": "rank correlation",
        "controls": "token twins, or ordinary tokens nearby, scaled alike"
        + format_exclusions(left_out),
    }
    interval, mass = (
        _correlation(part, name, n_claims) for name in ("lifetime_edited", "mass_edited")
    )
    missing = too_few(interval.n, interval.n_texts, left_out, n_claims)
    if missing:
        return verdict_of(DOSE, "inconclusive", missing, interval, **words)
    p_values = holm([_page(part, name) for name in ("lifetime_edited", "mass_edited")])
    outcome = outcome_of(interval)
    if outcome == "supported" and p_values[0] > ALPHA:
        outcome = "inconclusive"
    why = (
        f"lifetime follows the norm with a rank correlation of {interval.value:.2f} beyond "
        f"controls (corrected p = {p_values[0]:.2g}), attention with {mass.value:.2f} (p = "
        f"{p_values[1]:.2g}){extra}"
    )
    return verdict_of(DOSE, outcome, why, interval, **words)


def _correlation(cells: pd.DataFrame, name: str, n_claims: int) -> Interval:
    """Median over texts of each sink's correlation with the factor, less its control's."""
    keys = ["text_id", "sink_pos", "role"]
    found = pd.Series(
        {key: rank_correlation(g["factor"], g[name]) for key, g in cells.groupby(keys)}, dtype=float
    )
    found.index = pd.MultiIndex.from_tuples(found.index, names=keys)
    by_case = found.unstack().reindex(columns=["sink", "control"])
    texts = by_case.index.get_level_values("text_id").tolist()
    return median_over_texts(by_case["sink"] - by_case["control"], texts, n_claims=n_claims)


def _page(cells: pd.DataFrame, name: str) -> float:
    sinks = cells[cells["role"] == "sink"]
    return page_trend_test(sinks.groupby(["text_id", "factor"])[name].mean().unstack().to_numpy())


def _direction(
    cells: pd.DataFrame, extra: str, left_out: Mapping[str, int], n_claims: int
) -> Verdict:
    turned = cells[cells["test"] == "turned"]
    same = turned[turned["factor"] == 1.0]
    interval = rate_difference(same, "role", "sink", "other", n_claims=n_claims)
    words: Words = {
        "n_claims": n_claims,
        "statistic": "share of sinks that end, and do not with other MLPs turned",
        "unit": SHARE_UNIT,
        "controls": "as many other MLPs turned, at the same sink" + format_exclusions(left_out),
    }
    missing = too_few(interval.n, interval.n_texts, left_out, n_claims)
    if missing:
        return verdict_of(DIRECTION, "inconclusive", missing, interval, **words)
    more = turned[(turned["factor"] != 1.0) & (turned["role"] == "sink")]
    made = cells[cells["test"] == "made"].groupby("role")["is_sink"].apply(_mean)
    why = (
        f"turned at the same norm {1 - _mean(same[same['role'] == 'sink']['is_sink']):.0%} of the "
        f"sinks end, at {more['factor'].iloc[0]:g} times the norm {1 - _mean(more['is_sink']):.0%};"
        f" put into other tokens, {made['turned']:.0%} of them become sinks turned and "
        f"{made['straight']:.0%} straight{extra}"
    )
    return verdict_of(DIRECTION, outcome_of(interval), why, interval, **words)


def _norm(cells: pd.DataFrame, extra: str, left_out: Mapping[str, int], n_claims: int) -> Verdict:
    part = cells[cells["test"] == "least"]
    interval = rate_difference(part, "role", "sink", "other", n_claims=n_claims)
    words: Words = {
        "n_claims": n_claims,
        "statistic": "share of sinks that end, and do not with other MLPs scaled",
        "unit": SHARE_UNIT,
        "controls": "as many other MLPs scaled, at the same sink" + format_exclusions(left_out),
    }
    missing = too_few(interval.n, interval.n_texts, left_out, n_claims)
    if missing:
        return verdict_of(NORM, "inconclusive", missing, interval, **words)
    ended = 1 - _mean(part[part["role"] == "sink"]["is_sink"])
    why = f"at {part['factor'].iloc[0]:g} times the norm {ended:.0%} of the sinks end{extra}"
    return verdict_of(NORM, outcome_of(interval), why, interval, **words)


def _mean(values: "pd.Series[Any]") -> float:
    return float(values.astype(float).mean())


def cells_of(sample: Sample) -> Cells:
    """What it costs: the doses at a sink and its control, and the turned and least ones."""
    return Cells(replayed=sample.n_sinks * (2 * len(FACTORS) + 2 + 1 + SEEDS * 5))


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
