"""Do sinks of larger norm draw more attention, and at more layers? (Figure 7 of the paper.)"""

from dataclasses import astuple, replace
from typing import Annotated, Any

import pandas as pd

from experiments.command import main_of
from experiments.shared import (
    Finding,
    Observed,
    places,
    sink_columns,
    unanswered,
    why_no_sinks,
)
from secondary_sinks import Thresholds, Trace, Verdict
from secondary_sinks.cli import whole
from secondary_sinks.detection import joint_tests
from secondary_sinks.display import count, rounded
from secondary_sinks.plots import scatter_panels
from secondary_sinks.questions import MatchedPair, judge
from secondary_sinks.statistics import (
    MIN_IN_TEXT,
    PERMUTATIONS,
    WithinTexts,
    partial_correlation_within_texts,
    tail_probability,
)

NAME = "norm_and_score"
QUESTION = "Do sinks of larger norm draw more attention, and at more layers?"
PAPER = (
    "Claim of the paper (Wong et al. 2025, arXiv 2512.22213): the norm of the forming MLPs' output "
    "determines the sink score of a secondary sink, and the number of layers it lasts for."
)
METHOD = (
    "Rank correlation of a norm (of the MLP's output, or of the residual, both at the creation "
    "layer) with a response (attention mass, q.k, or number of layers attended), among the "
    "secondary sinks of one text that are created at the same layer. Responses cover the same "
    "blocks for all sinks that are compared: all blocks after the creation layer. So the primary "
    "is active at the same layers for all of them, and no norm test selects the layers. The "
    "lifetime of a sink ends where the norm test fails, so it depends on the norm by definition: "
    "it is in the table, but no verdict uses it. The mass of any token depends on its position, so "
    "the mass under evenly spread attention is controlled for (partial correlation). Differences "
    "between texts or creation layers do not contribute. Statistic: the median over texts with at "
    "least four such sinks, with its exact interval. A supported verdict also needs a permutation "
    "test, whose null hypothesis is that norms within each text and creation layer are "
    "exchangeable. Six pairs are tested and corrected for. This is observational; `norm_dose` "
    "intervenes and shows the cause. Verdict: MLP output and attention mass. Sinks whose norms or "
    "responses agree to four digits give no correlation."
)
REFUTATION = "A correlation below 0. If its interval contains 0, the verdict is inconclusive."
CLAIM = "the larger the norm of {} at the creation layer, the {}"
LENGTHS = {"mlp_norm": "the MLP output", "norm": "the residual"}
RESPONSES = {
    "mass": "more attention the sink draws",
    "attended": "more layers attend to the sink",
    "score": "higher the sink's q.k",
}
SHOWN = {"mass": "attention mass", "attended": "layers attended", "score": "score q·k"}
"""Names of the responses in the figure."""
BY_DEFINITION = ("lifetime", "lifetime_norm")
"""Responses whose definition includes the norm: shown, but used in no verdict."""
N_CLAIMS = len(LENGTHS) * len(RESPONSES)
COLUMNS = {
    "text_id": "text",
    "pos": "position of the sink",
    "token": "string of the token",
    "l_start": "creation layer, 0-based",
    "control_pos": "position of its control",
    "control_kind": "twin (same token id) or neighbour",
    "mlp_norm": "norm of the MLP's output at the creation layer, in units of the model",
    "norm": "norm of resid_post at the creation layer, same unit",
    "mass": "attention mass, mean over all blocks after the creation layer, queries and heads",
    "score": "q.k x scale, mean over the same blocks, queries and heads",
    "even_share": "attention mass if attention were spread evenly",
    "attended": "number of these blocks that attend to it",
    "lifetime": "number of layers at which it is a sink, which includes a norm test",
    "lifetime_norm": "number of layers at which it passes the norm test",
    "lifetime_attention": "number of layers at which it passes the attention test",
    "censored": "none, or the end of its life that is cut off: the lifetime is then a lower bound",
}
CAPTIONS = {
    "figure": (
        "One point is one sink. Correlations are within texts and creation layers (median over "
        "texts), controlled for a monotone effect of the sinks' positions. Responses cover all "
        "blocks after the creation layer."
    ),
}


def run(
    observed: Observed,
    *,
    permutations: Annotated[
        int, whole("Number of permutations within texts.", least=999)
    ] = PERMUTATIONS,
) -> Finding:
    """One row per secondary sink; correlations of all pairs of norm and response."""
    if why := why_no_sinks(observed):
        claim = CLAIM.format(LENGTHS["mlp_norm"], RESPONSES["mass"])
        return unanswered(NAME, QUESTION, claim, why, COLUMNS)
    sinks = pd.DataFrame(
        [_row(*pair, observed.sinks.thresholds) for pair in observed.pairs()], columns=list(COLUMNS)
    )
    pairs = [(length, response) for length in LENGTHS for response in RESPONSES]
    every = [(length, response) for length in LENGTHS for response in (*RESPONSES, *BY_DEFINITION)]
    correlations = {pair: _correlation(sinks, *pair, permutations, observed.seed) for pair in every}
    tested = {pair: correlations[pair] for pair in pairs}
    verdicts = [_verdict(*pair, within, sinks, observed) for pair, within in tested.items()]
    return Finding(
        name=NAME,
        question=QUESTION,
        frame=sinks,
        columns=COLUMNS,
        captions=CAPTIONS,
        figure=scatter_panels(
            pd.concat([_points(sinks, *pair) for pair in pairs]),
            titles={
                (b, a): f"{SHOWN[b]}: rank correlation {one.interval.value:.2f}"
                for (a, b), one in tested.items()
            },
            x_title=["norm of " + words for words in LENGTHS.values()],
            x_scale="log",
        ),
        verdict=verdicts[0],
        further=tuple(verdicts[1:]),
        tables={"correlations": _table(correlations)},
    )


def _row(trace: Trace, case: MatchedPair, thresholds: Thresholds) -> dict[str, Any]:
    """Responses in the blocks after the creation layer, shared by all sinks created there."""
    sink = case.sink
    blocks = list(range(sink.l_start + 1, len(trace.norm)))
    attended = joint_tests(trace, thresholds).attended
    return sink_columns(case) | {
        "mlp_norm": float(trace.mlp_norm[sink.l_start, sink.pos]),
        "norm": float(trace.norm[sink.l_start, sink.pos]),
        "mass": float(trace.mass[blocks, sink.pos].mean()),
        "even_share": float(trace.mass_null[blocks, sink.pos].mean()),
        "score": float(trace.score[blocks, sink.pos].mean()),
        "attended": int(attended[sink.l_start : -1, sink.pos].sum()),
        **sink.fields("lifetime", "lifetime_norm", "lifetime_attention", "censored"),
    }


def _correlation(
    sinks: pd.DataFrame, length: str, response: str, permutations: int, seed: int
) -> WithinTexts:
    """Correlation of numbers rounded to four digits: smaller differences are rounding errors."""
    names = (length, response, "even_share")
    x, y, z = ([float(f"{value:.4g}") for value in sinks[name]] for name in names)
    asked = {"n_claims": N_CLAIMS, "permutations": permutations, "seed": seed}
    layers = sinks["l_start"].tolist()
    texts = sinks["text_id"].tolist()
    return partial_correlation_within_texts(x, y, z, texts, strata=layers, **asked)


def _verdict(
    length: str, response: str, within: WithinTexts, sinks: pd.DataFrame, observed: Observed
) -> Verdict:
    """Judge by the interval, and by a permutation test that exchanges norms within texts."""
    cut = int((sinks["censored"] != "none").sum())
    spread = [sinks[name].quantile([0.1, 0.9]).tolist() for name in (length, response)]
    few, value = len(sinks) - within.interval.n, within.interval.value
    undefined = "" if value == value else "one of them is constant, or determined by the position; "
    found = judge(
        CLAIM.format(LENGTHS[length], RESPONSES[response]),
        within.interval,
        f"{undefined}{length} from {rounded(spread[0][0])} to {rounded(spread[0][1])}, {response} "
        f"from {rounded(spread[1][0])} to {rounded(spread[1][1])} (10th to 90th percentile); "
        "permutation test within texts and creation layers: p = "
        f"{rounded(min(within.p_high, within.p_low), 2)}; {count(cut, 'lifetime')} cut off",
        statistic=f"rank correlation of {length} and {response} within texts and creation layers, "
        "controlled for a monotone effect of position, median over texts",
        unit="rank correlation",
        controls="none: an observation",
        controlled=False,
        line=0.0,
        left_out=observed.left_out
        | {f"in groups of fewer than {MIN_IN_TEXT} sinks, or with equal numbers": few},
        n_claims=N_CLAIMS,
    )
    p = within.p_high if found.outcome == "supported" else within.p_low
    if found.outcome != "inconclusive" and p > tail_probability(N_CLAIMS):
        return replace(found, outcome="inconclusive")
    return found


def _points(sinks: pd.DataFrame, length: str, response: str) -> pd.DataFrame:
    words = {"row": response, "col": length, "group": "secondary"}
    return sinks.assign(**words, x=sinks[length], y=sinks[response], label=places(sinks))


def _table(found: dict[tuple[str, str], WithinTexts]) -> pd.DataFrame:
    names = ["length", "response", "correlation", "low", "high", "n_sinks", "n_texts"]
    rows = [
        (*pair, *astuple(one.interval)[:5], one.p_high, one.p_low, pair[1] in BY_DEFINITION)
        for pair, one in found.items()
    ]
    return pd.DataFrame(rows, columns=[*names, "p_high", "p_low", "by_definition"])


main = main_of(run)

if __name__ == "__main__":
    main()
