"""What norms do residuals, keys and values of sinks have? (Figure 1 of the paper.)"""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from experiments.command import main_of
from experiments.shared import (
    Finding,
    Observed,
    sink_columns,
    unanswered,
    why_no_sinks,
)
from secondary_sinks import Trace, Verdict
from secondary_sinks.causal import readers
from secondary_sinks.display import rounded
from secondary_sinks.plots import Look, attention_around_life, interval_lines, life_lines
from secondary_sinks.questions import MatchedPair, judge
from secondary_sinks.statistics import share_over_texts

NAME, QUESTION = "norms", "What norms do residuals, keys and values of sinks have?"
PAPER = (
    "Claim of the paper (Wong et al. 2025, arXiv 2512.22213): secondary sinks are a weaker form of "
    "the known kind of sink: residuals of large norm, and values so small that attending to them "
    "changes little."
)
METHOD = (
    "Norms of resid_post, keys and values, for primary sinks, secondary sinks and all other "
    "tokens. Keys are measured both raw (the output of k_proj, as in the paper's figure) and as "
    "used in the scores (after q/k norm and rotation); they differ in models that normalize keys. "
    "Sinks are detected by the norm of their residual, so it is not evidence; values play no part "
    "in detection. Verdict: the share of secondary sinks whose value, on average over the "
    "blocks that read the sink, has a smaller norm than that of its control token (a token twin, "
    "else a neighbour); norms whose ratio is within 1e-4 of 1, the rounding, count as equal."
)
REFUTATION = "Half of the sinks or more have values of the same norm as their controls, or larger."
CLAIM = "{} of secondary sinks have smaller norms than those of their controls"
OF = ("value", "raw key", "used key")
ROUNDING = 1e-4
"""Norms that differ by this share or less are equal but for rounding: neither is the smaller."""
PANELS = {
    "norm": ("norm of residual", "log"),
    "key_norm_raw": ("norm of raw key", "log"),
    "key_norm": ("norm of used key", "log"),
    "value_norm": ("norm of value", "linear"),
}
COLUMNS = {
    "kind": "primary, primary_like or secondary sink, or ordinary: every other token",
    "layer": "0-based; residuals after the block, keys and values inside it",
    "measure": "norm (of resid_post), key_norm_raw (output of k_proj), key_norm (used by scores: "
    "after q/k norm and rotation) or value_norm",
    "n_tokens": "tokens of all texts",
    "low": "10th percentile over tokens, norm in units of the model",
    "median": "median over tokens, same unit",
    "high": "90th percentile over tokens, same unit",
}
CAPTIONS = {
    "figure": (
        "Lines are medians over tokens, bands the 10th to 90th percentile. Residuals are those "
        "after the layer; keys and values those inside the block of that number. Raw keys are the "
        "output of k_proj; used keys are those after q/k norm and rotation."
    ),
    "lives": (
        "Attention that secondary sinks draw, as a multiple of that expected for a token at the "
        "same position, by layer relative to their creation, and to their last layer as a sink. "
        "Medians over sinks, bands the 10th to the 90th percentile. Attention before creation and "
        "after the end is drawn at layers where the norm test fails."
    ),
}


def run(observed: Observed) -> Finding:
    """Norms by kind of token, and of sinks compared with their controls."""
    if why := why_no_sinks(observed):
        return unanswered(NAME, QUESTION, CLAIM.format("values"), why, COLUMNS)
    trace = pd.concat([one.to_frame() for one in observed.traces], ignore_index=True)
    sinks = observed.sinks.to_frame()
    ratios = pd.DataFrame([_ratios(*pair) for pair in observed.pairs()])
    verdicts = [_verdict(ratios, of, observed) for of in OF]
    lives, frame = attention_around_life(trace, sinks), _by_kind(trace, sinks)
    return Finding(
        name=NAME,
        question=QUESTION,
        frame=frame,
        columns=COLUMNS,
        captions=CAPTIONS,
        figure=_profiles(frame),
        verdict=verdicts[0],
        further=tuple(verdicts[1:]),
        figures={"lives": life_lines(lives)} if len(lives) else {},
        tables={"ratios": ratios, "lives": lives},
    )


def _by_kind(trace: pd.DataFrame, sinks: pd.DataFrame) -> pd.DataFrame:
    """Percentiles over tokens, one row per kind, layer and measure."""
    kinds = trace.merge(sinks[["text_id", "pos", "kind"]], on=["text_id", "pos"], how="left")
    long = kinds.fillna({"kind": "ordinary"}).melt(
        id_vars=["kind", "layer"], value_vars=list(PANELS), var_name="measure"
    )
    grouped = long.groupby(["kind", "layer", "measure"], sort=True)["value"]
    rows = grouped.quantile(np.array([0.1, 0.5, 0.9])).unstack()
    rows.columns = pd.Index(["low", "median", "high"])
    return rows.assign(n_tokens=grouped.size()).reset_index()[list(COLUMNS)]


def _profiles(frame: pd.DataFrame) -> go.Figure:
    """The percentiles by layer."""
    kinds = frame.groupby("kind", sort=False)["n_tokens"].max()
    looks = {str(kind): Look(f"{str(kind).replace('_', '-')} ({n:,})") for kind, n in kinds.items()}
    lines = frame.rename(columns={"kind": "group", "layer": "x", "measure": "panel"})
    lines = lines.rename(columns={"median": "value"})
    return interval_lines(lines, PANELS, "layer", looks=looks, height=180)


def _ratios(trace: Trace, case: MatchedPair) -> dict[str, Any]:
    """Mean norm of a sink over that of its control, in its layers or the blocks reading it."""
    layers = list(case.sink.layers)
    blocks = readers(layers, len(trace.norm))

    def ratio(name: str, rows: list[int]) -> float:
        values = getattr(trace, name)[rows]
        return float(values[:, case.sink.pos].mean() / values[:, case.control].mean())

    return sink_columns(case) | {
        "norm_ratio": ratio("norm", layers),
        "raw_key_ratio": ratio("key_norm_raw", blocks),
        "used_key_ratio": ratio("key_norm", blocks),
        "value_ratio": ratio("value_norm", blocks),
    }


def _verdict(ratios: pd.DataFrame, of: str, observed: Observed) -> Verdict:
    ratio = ratios[f"{of.replace(' ', '_')}_ratio"]
    shorter = (ratio < 1 - ROUNDING).astype(float).where(ratio.notna())
    return judge(
        CLAIM.format(f"{of}s"),
        share_over_texts(shorter, ratios["text_id"].tolist(), n_claims=len(OF)),
        f"norm of a sink's {of}: {rounded(ratio.median(), 2)} times its control's (median); of its "
        f"residual: {rounded(ratios['norm_ratio'].median(), 2)} times",
        statistic=f"share of sinks whose {of} has a smaller norm than the control's",
        controls="token twins, or ordinary tokens nearby",
        left_out=observed.left_out,
        n_claims=len(OF),
    )


main = main_of(run)

if __name__ == "__main__":
    main()
