"""Direction or norm? How a sink depends on the length and direction of the output that forms it."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from secondary_sinks.errors import EditError
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.numbers import check_whole
from secondary_sinks.progress import Progress, shows_progress
from secondary_sinks.questions import dose_figures
from secondary_sinks.questions.answer import Answer
from secondary_sinks.questions.dose_verdicts import direction_verdict, dose_verdicts, norm_verdict
from secondary_sinks.questions.forming import Forming, by_place, none_found
from secondary_sinks.questions.held_out import has_other, other_layers
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
from secondary_sinks.questions.trials import Trial, frame_of, run_trials, summary
from secondary_sinks.statistics import claims_together, mean_over_texts
from secondary_sinks.types import Edit, SinkTable, Trace

BY = {"sink": "is_sink", "attention": "draws"}
"""When a factor is enough: the token is a sink, or it draws half of what the clean sink draws."""
COLUMNS = ("by", "unit", "value", "low", "high", "n_sinks", "n_texts", "n_below", "n_never")


def thresholds(doses: pd.DataFrame, written: Mapping[Place, float]) -> pd.DataFrame:
    """The least dose that makes a sink: geometric mean over texts, with its interval.

    Column `by`: "sink" uses the criterion, which includes a norm itself; "attention" asks for the
    least dose that draws half of what the clean sink draws.

    For each sink, the threshold lies between the last factor that is too small and the first that
    is enough. The value is their geometric mean; the interval goes from the lower end of the
    interval of the former to the upper end of that of the latter, so it includes the step of the
    grid. Unit "factor" scales the output of the MLP; unit "norm" is the length that it writes along
    the primary's direction, from `written`. Sinks for which the smallest factor is enough
    (`n_below`), or no factor is (`n_never`), are not counted; in norm, neither are sinks whose MLP
    writes against the direction.
    """
    sinks = doses[doses["role"] == "sink"]
    rows = [row for by, column in BY.items() for row in _rows(by, sinks, column, written)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _rows(
    by: str, sinks: pd.DataFrame, column: str, written: Mapping[Place, float]
) -> list[dict[str, object]]:
    """Two rows: one in factors, one in norm."""
    brackets = [
        (text_id, *_bracket(group, column), written[str(text_id), int(str(pos))])
        for (text_id, pos), group in sinks.groupby(["text_id", "sink_pos"])
    ]
    table = pd.DataFrame(brackets, columns=["text_id", "last", "first", "norm"])
    table = table.astype({"last": float, "first": float, "norm": float})
    inside = table[(table["last"] > 0) & np.isfinite(table["first"])]
    counts = {
        "by": by,
        "n_below": int((table["last"] == 0).sum()),
        "n_never": int(np.isinf(table["first"]).sum()),
    }
    norm = inside["norm"].where(inside["norm"] > 0)
    return [_row("factor", inside, 1.0) | counts, _row("norm", inside, norm) | counts]


def _bracket(group: pd.DataFrame, column: str) -> tuple[float, float]:
    """The largest factor before the first that is enough (0 if none is smaller), and that first."""
    ordered = group.sort_values("factor")
    alive = ordered[column].astype(bool).to_numpy()
    factors = ordered["factor"].to_numpy()
    if not alive.any():
        return float(factors[-1]), math.inf
    first = int(alive.argmax())
    return (float(factors[first - 1]) if first else 0.0), float(factors[first])


def _row(unit: str, inside: pd.DataFrame, scale: "float | pd.Series[float]") -> dict[str, object]:
    texts = inside["text_id"].tolist()
    last, first = (
        mean_over_texts(np.log(inside[name] * scale), texts) for name in ("last", "first")
    )
    return {
        "unit": unit,
        "value": math.exp((last.value + first.value) / 2),
        "low": math.exp(last.low),
        "high": math.exp(first.high),
        "n_sinks": last.n,
        "n_texts": last.n_texts,
    }


FACTORS = tuple(2.0 ** (step / 2) for step in range(-8, 5))
"""Thirteen factors from 1/16 to 4 times the norm, including 1."""
N_CLAIMS = 4
SEEDS = 3
WORDS = ("test", "role", "factor", "seed", "layers")


@shows_progress
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
    """Does attention to a sink depend on the norm or the direction of the output that forms it?

    The output of the MLP of the creation layer is scaled and rotated at each sink. That MLP alone,
    not all that a sink needs: other MLPs may enable it, and scaling them changes its input. This
    choice depends on no outcome. Column `test`:

    * "dose": the output times each of the `factors`, at the sink and at its control token;
    * "turned": the output rotated by 90 degrees to `seeds` random directions, at the same norm and
      at the largest factor. As a control, the output of the MLP before is rotated instead (role
      "other"), unless the sink is created at layer 0;
    * "least": the output times the smallest factor; as a control, that of the MLP before;
    * "made": the output put into the control token as it is, and rotated.

    All verdicts are about attention alone. A sink has a large norm and a direction by definition,
    so if its output is scaled down or rotated it ends, and if it is scaled up it lives longer, in
    any model; `why` gives these numbers for comparison. The primary is active at the same layers,
    and as strong, at every factor.

    *Attention* and *layers*: the rank correlation of the factor with attention (with the number of
    layers attended) minus that of the control token at the same factor, median over texts. Only
    factors from 1 up count: smaller ones take the output away, so that anything that needs it
    follows them. Supported if its interval lies above one half, if the largest factor adds more
    than a tenth of the clean response (`GAIN`, median over texts with its interval, minus the
    control), and if Page's trend test (permutations within texts, Holm-corrected for both
    responses) has p of at most 0.05; contradicted if the interval of the correlation lies below 0.
    For either outcome, the correlation at the sinks alone must lie on the same side too, so that a
    change of the controls cannot decide.

    *Direction* (rotated by 90 degrees, nothing is left along it) and *norm* (the smallest factor):
    the share of sinks that lose more than half of their attention beyond the expected, and do not
    with other MLPs, compared with one half; contradicted only if the share is below without regard
    to other MLPs too. Both come near to removing the output, and say no more than that a part of
    it along its direction, or more than the smallest factor of its norm, is needed. Where the
    same edit of the MLP before has the same effect, neither is supported.

    Intervals are corrected for `n_claims`, by default those of this answer. Table "threshold": the
    smallest factor, and the smallest norm, that makes a sink or draws half as much attention
    (`dose.thresholds`). Raises `EditError` for factors that do not ascend, or that lack 1, a
    smaller or a larger one.
    """
    check_whole(EditError, seeds=seeds, n_claims=n_claims)
    n_claims = claims_together(n_claims, N_CLAIMS)
    ascends = sorted(set(factors)) == list(factors)
    if not ascends or 1.0 not in factors or not 0 < factors[0] < 1 < factors[-1]:
        raise EditError(
            "factors must be positive and ascending, with 1, a smaller and a larger one; "
            f"got {factors}"
        )
    texts = match_pairs(traces, sinks)
    formed_by = by_place(model, texts, sinks, forming)
    rows: list[dict[str, Any]] = []
    for text in with_progress(texts, progress):
        trials = list(_trials(text, factors, seeds))
        rows += run_trials(model, text.trace, sinks.thresholds, trials)
    cells = frame_of(rows, *WORDS)
    left_out = count_left_out(texts)
    extra = none_found(texts, formed_by)
    return Answer(
        question="norm_dose",
        cells=cells,
        effects=summary(cells, "test", "role", "factor"),
        verdicts=(
            *dose_verdicts(cells, extra, left_out, n_claims),
            direction_verdict(cells, extra, left_out, n_claims),
            norm_verdict(cells, factors[0], extra, left_out, n_claims),
        ),
        tables={
            "threshold": thresholds(cells[cells["test"] == "dose"], _written(texts, formed_by))
        },
        left_out=left_out,
        n_censored=count_censored(texts),
    )


def _written(texts: Sequence[TextPairs], formed_by: Mapping[Place, Forming]) -> dict[Place, float]:
    """Signed length that the MLP of the creation layer writes along the primary, by sink."""
    starts = {case.place: case.sink.l_start for text in texts for case in text.cases}
    lengths = {place: formed_by[place].by_layer for place in starts}
    return {at: lengths[at][layer] if lengths[at] else math.nan for at, layer in starts.items()}


def _trials(text: TextPairs, factors: Sequence[float], seeds: int) -> Iterator[Trial]:
    for case in text.cases:
        own = (case.sink.l_start,)
        other = other_layers(case.sink, own)
        for factor in factors:
            yield _trial(case, "dose", "sink", own, factor, case.sink.pos)
            yield _trial(case, "dose", "control", own, factor, case.control)
        yield _trial(case, "least", "sink", own, factors[0], case.sink.pos)
        if other:
            yield _trial(case, "least", "other", other, factors[0], case.sink.pos)
        yield _trial(case, "made", "straight", own, 1.0, case.control, donor=case.sink.pos)
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
    """A trial that patches (given a donor), rotates by 90 degrees (given a seed), and scales."""
    cell = [Edit(pos=pos, layer=layers, kind="scale", value=factor)]
    if seed is not None:
        cell.insert(0, Edit(pos=pos, layer=layers, kind="rotate", value=90.0, seed=seed))
    if donor is not None:
        cell.insert(0, Edit(pos=pos, layer=layers, kind="patch", donor=donor))
    words = {"test": test, "role": role, "factor": factor, "seed": seed, "layers": layers}
    return Trial(sink=case.sink, pos=pos, cell=tuple(cell), words=words)


def cells_of(sample: Sample) -> CellCounts:
    """Cost: the factors at each sink and its control, and the turned and least outputs."""
    able = sum(has_other(case.sink) for text in sample.texts for case in text.cases)
    at_each = 2 * len(FACTORS) + 2 + 3 * SEEDS
    return CellCounts(replayed=sample.n_sinks * at_each + able * (1 + 2 * SEEDS))


NORM_DOSE = Question(
    name="norm_dose",
    title="Direction or norm",
    asks="Does a sink depend on the direction or on the norm of the output that forms it?",
    ask=norm_dose,
    n_claims=lambda sinks: N_CLAIMS,
    cost=cells_of,
    figures=dose_figures.norm_dose,
    further_tables=("threshold",),
)
