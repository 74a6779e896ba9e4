"""Do longer sinks draw more attention, and live longer? (Figure 7 of the paper.)

Claim of the paper (Wong et al. 2025, arXiv 2512.22213): the length of what the forming MLPs write
determines the sink score of a secondary sink, and the number of layers it lasts for.

Method: over all secondary sinks, the rank correlation of a length (of the MLP's output, and of the
residual, both at the creation layer) with a response (attention mass, over the blocks that read
the sink; q.k; lifetime). The mass of any token depends on its place, so what it would be if
attention were spread evenly is held fixed (partial correlation). Sinks of one text are no
independent trials: intervals come from drawing whole texts (at least six) anew. This observes;
`norm_dose` intervenes, and says what causes what. Verdict: MLP output and attention mass. Sinks
whose norms or responses agree to four digits show nothing.

What would refute it: a correlation below 0. One whose interval holds 0 leaves it open.

    python -m experiments.norm_and_score --model smollm2-135m --out results/norm_and_score
"""

from dataclasses import astuple
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from numpy.typing import NDArray

from experiments.command import main_of
from experiments.shared import Finding, Observed, judged, nobody, places, unanswered, who
from secondary_sinks import Trace, Verdict
from secondary_sinks.causal.measured import readers
from secondary_sinks.plots import clouds
from secondary_sinks.questions.cases import Case
from secondary_sinks.questions.statistics import (
    LEAST_TO_DRAW,
    RESAMPLES,
    Interval,
    cluster_bootstrap,
    partial_rank_correlation,
)

NAME, QUESTION = "norm_and_score", "Do longer sinks draw more attention, and live longer?"
CLAIM = "the longer {} at the creation layer, the {}"
LENGTHS = {"mlp_norm": "what the MLP writes", "norm": "the residual"}
RESPONSES = {
    "mass": "more attention the sink draws",
    "lifetime": "longer the sink lives",
    "score": "higher the sink's q.k",
}
COLUMNS = {
    "text_id": "text",
    "pos": "position of the sink",
    "token": "its token",
    "l_start": "creation layer, 0-based",
    "control_pos": "position of its control",
    "control_kind": "twin (same token id) or neighbour",
    "mlp_norm": "length of the MLP's output at the creation layer, in units of the model",
    "norm": "length of resid_post there, same unit",
    "mass": "attention mass, mean over the blocks that read the sink, over queries and heads",
    "score": "q.k x scale, mean over the same",
    "even_share": "what mass would be if attention were spread evenly",
    "lifetime": "number of layers at which it is a sink",
    "censored": "none, or which end of its life is hidden: its lifetime is then a lower bound",
}
CAPTIONS = {
    "figure": "One point is one sink. The correlations hold its place in the text fixed.",
}


def run(
    observed: Observed,
    *,
    resamples: Annotated[int, typer.Option(min=1, help="Draws of the texts.")] = RESAMPLES,
) -> Finding:
    """One row per secondary sink; correlations of all pairs of length and response."""
    why = nobody(observed)
    if why:
        claim = CLAIM.format(LENGTHS["mlp_norm"], RESPONSES["mass"])
        return unanswered(NAME, QUESTION, claim, why, COLUMNS)
    sinks = pd.DataFrame([_row(*pair) for pair in observed.pairs()], columns=list(COLUMNS))
    pairs = [(length, response) for length in LENGTHS for response in RESPONSES]
    found = {pair: _correlation(sinks, *pair, resamples, observed.seed) for pair in pairs}
    verdicts = [_verdict(*pair, interval, sinks, observed) for pair, interval in found.items()]
    return Finding(
        name=NAME,
        question=QUESTION,
        frame=sinks,
        columns=COLUMNS,
        captions=CAPTIONS,
        figure=clouds(
            pd.concat([_points(sinks, *pair) for pair in pairs]),
            titles={
                (b, a): f"{b}: rank correlation {one.value:.2f}" for (a, b), one in found.items()
            },
            x_title=["length of " + words for words in LENGTHS.values()],
            x_scale="log",
        ),
        verdict=verdicts[0],
        further=tuple(verdicts[1:]),
        tables={"correlations": _table(found)},
    )


def _row(trace: Trace, case: Case) -> dict[str, Any]:
    sink = case.sink
    blocks = readers(sink.layers, len(trace.norm))
    return who(trace, case) | {
        "mlp_norm": float(trace.mlp_norm[sink.l_start, sink.pos]),
        "norm": float(trace.norm[sink.l_start, sink.pos]),
        "mass": float(trace.mass[blocks, sink.pos].mean()),
        "even_share": float(trace.mass_null[blocks, sink.pos].mean()),
        "score": float(trace.score[blocks, sink.pos].mean()),
        "lifetime": sink.lifetime,
        "censored": sink.censored,
    }


def _correlation(
    sinks: pd.DataFrame, length: str, response: str, resamples: int, seed: int
) -> Interval:
    """Of numbers with four digits: what differs less than that differs by rounding."""
    names = (length, response, "even_share")
    x, y, z = ([float(f"{value:.4g}") for value in sinks[name]] for name in names)
    columns = np.array([x, y, z])

    def correlate(rows: NDArray[np.int64]) -> float:
        return partial_rank_correlation(*columns[:, rows])

    texts = sinks["text_id"].tolist()
    return cluster_bootstrap(texts, correlate, resamples=resamples, seed=seed)


def _verdict(
    length: str, response: str, interval: Interval, sinks: pd.DataFrame, observed: Observed
) -> Verdict:
    cut = int((sinks["censored"] != "none").sum())
    spread = [sinks[name].quantile([0.1, 0.9]).tolist() for name in (length, response)]
    return judged(
        CLAIM.format(LENGTHS[length], RESPONSES[response]),
        interval,
        f"{_odd(interval)}lengths from {spread[0][0]:.3g} to {spread[0][1]:.3g}, {response} from "
        f"{spread[1][0]:.3g} to {spread[1][1]:.3g} (10 to 90 %); {cut} lifetime(s) are cut off",
        statistic=f"rank correlation of {length} and {response} over sinks, place held fixed",
        controls="none: an observation",
        line=0.0,
        left_out=observed.left_out,
    )


def _odd(interval: Interval) -> str:
    """Why a correlation says little; empty where it says something."""
    if interval.value != interval.value:
        return "one never differs, or follows from the place; "
    told = f"{interval.n_texts} texts are too few for an interval ({LEAST_TO_DRAW} are needed); "
    return told if interval.n_texts < LEAST_TO_DRAW else ""


def _points(sinks: pd.DataFrame, length: str, response: str) -> pd.DataFrame:
    words = {"row": response, "col": length, "group": "secondary"}
    return sinks.assign(**words, x=sinks[length], y=sinks[response], label=places(sinks))


def _table(found: dict[tuple[str, str], Interval]) -> pd.DataFrame:
    names = ["length", "response", "correlation", "low", "high", "n_sinks", "n_texts"]
    return pd.DataFrame([(*pair, *astuple(one)) for pair, one in found.items()], columns=names)


main = main_of(run)

if __name__ == "__main__":
    main()
