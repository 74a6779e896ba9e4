"""Where inside the forming MLP does a token turn towards the primary? (MLP figure of the paper.)"""

from dataclasses import replace
from typing import Annotated

import pandas as pd
import plotly.graph_objects as go
from torch import Tensor

from experiments.command import main_of
from experiments.shared import Finding, Observed, unanswered, why_no_sinks
from secondary_sinks import SinkTable, Trace, Verdict, formation, mlp_anatomy
from secondary_sinks.attribution import GATED_STAGES, PLAIN_STAGES
from secondary_sinks.cli import whole
from secondary_sinks.plots import interval_lines
from secondary_sinks.questions import MatchedPair, TextPairs, judge
from secondary_sinks.statistics import median_over_texts, paired_share_over_texts
from secondary_sinks.types import Sink

NAME, QUESTION = (
    "mlp_anatomy",
    "At which stage of the forming MLP does a token align with the primary?",
)
PAPER = (
    "Claim of the paper (Wong et al. 2025, arXiv 2512.22213): at the creation layer the MLP maps a "
    "token that is nothing like the primary to a vector that points along the primary's direction."
)
METHOD = (
    "At each sink's creation layer (or `--layer`), the cosine of the token with the primary at "
    "every stage of the MLP (input, gate, up, act, act*up, down; both tokens at the same stage of "
    "the same layer), for sinks and their controls (token twins, else neighbours). A further "
    "stage, `written`, compares the MLP's output with the primary's residual: the direction that "
    "the claim is about. (At the other stages the primary's own activation may be small.) "
    "Verdict: the share of sinks at which `written` is above one half, and is not at the sink's "
    "control. What makes a token a sink at this layer nearly always points along the primary, as "
    "sinks are found by that direction; so this says that the MLP wrote it, not the attention. A "
    "second verdict compares the MLPs up to the creation "
    "layer by the signed length that they write along the primary's direction at the creation "
    "layer (its state minus the typical token): the share of sinks at which the MLP of the "
    "creation layer writes most, and does not at the sink's control. Sinks created at layer 0, "
    "whose one MLP writes most by definition, are left out there, and counted. This is the writer "
    "by direction: nothing is edited (`writers` edits)."
)
REFUTATION = (
    "At most sinks the MLP's output has a cosine below one half with the primary's residual, or "
    "another MLP writes more along the primary. Where controls do the same, the claim stays open."
)
MOST = "of the MLPs up to the creation layer, that of this layer writes most along the primary"
FIRST = "created at layer 0, before which there is no MLP"
"""Why a sink cannot be asked which MLP writes most: only one is compared."""
N_CLAIMS = 2
CLAIM = (
    "the MLP of the creation layer maps sinks, and not their controls, to the primary's direction"
)
ALONG = 0.5
"""Cosine above which an output points along the primary's direction."""
STAGES = (*dict.fromkeys((*GATED_STAGES, *PLAIN_STAGES)), "written")
COLUMNS = {
    "stage": "input, gate, up, act, act*up, down: with the primary at the same stage; written: "
    "output with the primary's residual",
    "role": "sink or control",
    "cosine": "signed cosine with the primary, median over texts, in [-1, 1]",
    "low": "lower end of its 95 % interval over texts",
    "high": "upper end of it",
    "n_sinks": "sinks with a control",
    "n_texts": "texts with such a sink",
}
CAPTIONS = {
    "figure": "Medians over texts of the signed cosine, bands exact 95 % intervals over texts.",
    "by_layer": (
        "Signed length that the MLP of each layer writes along the primary's direction at the "
        "creation layer of the sink, by layers after it (dotted): medians over texts, bands exact "
        "95 % intervals."
    ),
}


def run(
    observed: Observed,
    *,
    layer: Annotated[
        int | None, whole("Layer of the MLP. Default: each sink's creation layer.")
    ] = None,
) -> Finding:
    """Cosine with the primary at each stage of the MLP."""
    if why := why_no_sinks(observed):
        return unanswered(NAME, QUESTION, CLAIM, why, COLUMNS)
    tokens = _tokens(observed, layer)
    written, frame = _written(observed), _means(tokens)
    lines = frame.rename(columns={"stage": "x", "role": "group", "cosine": "value"})
    panels = {"cosine": ("cosine with the primary", "linear")}
    return Finding(
        name=NAME,
        question=QUESTION,
        frame=frame,
        columns=COLUMNS,
        captions=CAPTIONS,
        figure=interval_lines(lines.assign(panel="cosine"), panels, "stage of the MLP", height=330),
        verdict=_verdict(tokens, observed),
        further=(_most(written, observed),),
        tables={"tokens": tokens, "written": written},
        figures={"by_layer": _by_layer(written)},
    )


def _written(observed: Observed) -> pd.DataFrame:
    """One row per sink or control and layer, with what its MLP writes along the primary.

    All layers are measured along one direction, that of the primary where the sink is created: at
    the layers before, the primary may not be there yet.
    """
    rows = [
        {
            "text_id": text.trace.text_id,
            "sink_pos": case.sink.pos,
            "role": role,
            "layer": layer,
            "relative": layer - case.sink.l_start,
            "along": float(along),
        }
        for text in observed.cases
        for role in ("sink", "control")
        for case, by_layer in zip(text.cases, _along(observed, text, role), strict=True)
        for layer, along in enumerate(by_layer)
    ]
    return pd.DataFrame(rows)


def _along(observed: Observed, text: TextPairs, role: str) -> list[Tensor]:
    """What every MLP writes at each sink of a text, or at its control, along the primary."""
    at = [case.sink if role == "sink" else _in_place_of(text.trace, case) for case in text.cases]
    table = SinkTable(sinks=tuple(at), thresholds=observed.sinks.thresholds)
    found = formation(observed.model, text.trace, table, parts=False)
    creation = [n for n, event in enumerate(found.events) if event.event == "creation"]
    return [*found.mlp[creation]]


def _in_place_of(trace: Trace, case: MatchedPair) -> Sink:
    """The control as if it were the sink, so that both are measured along the same direction."""
    pos = case.control
    token_id, token = int(trace.tokens[pos]), trace.token_strings[pos]
    return replace(case.sink, pos=pos, token_id=token_id, token=token)


def _most(written: pd.DataFrame, observed: Observed) -> Verdict:
    """At which sinks the creation layer's MLP writes most, and does not at the control."""
    created = written["layer"] - written["relative"]
    able = written[(written["relative"] <= 0) & (created > 0)].dropna(subset="along")
    n_first = len(written[created == 0].drop_duplicates(["text_id", "sink_pos"]))
    best = able.loc[able.groupby(["text_id", "sink_pos", "role"], sort=False)["along"].idxmax()]
    own = (best["relative"] == 0) & (best["along"] > 0)
    keys = [best["text_id"], best["sink_pos"], best["role"]]
    found = own.astype(float).groupby(keys, sort=False).first().unstack()
    found = found.reindex(columns=["sink", "control"]).dropna()
    texts = found.index.get_level_values("text_id").tolist()
    layers = best.loc[best["role"] == "sink", "layer"].value_counts()
    return judge(
        MOST,
        paired_share_over_texts(found["sink"], found["control"], texts, n_claims=N_CLAIMS),
        f"it writes most at {found['sink'].mean():.0%} of the sinks, and at "
        f"{found['control'].mean():.0%} of their controls; most is written at sinks by "
        + ", ".join(f"MLP {layer} ({count})" for layer, count in layers.items()),
        statistic="share of sinks at which it writes most, and not at their control, mean over "
        "texts",
        controls="token twins, or ordinary tokens nearby",
        left_out={**observed.left_out, FIRST: n_first},
        n_claims=N_CLAIMS,
    )


def _by_layer(written: pd.DataFrame) -> go.Figure:
    rows = []
    for (role, relative), part in written.dropna(subset="along").groupby(["role", "relative"]):
        found = median_over_texts(part["along"], part["text_id"].tolist())
        ends = {"value": found.value, "low": found.low, "high": found.high}
        rows.append({"panel": "along", "group": role, "x": relative, **ends})
    panels = {"along": ("written along the primary", "linear")}
    lines = pd.DataFrame(rows).sort_values(["group", "x"], ascending=[False, True])
    title = "layers after the sink's creation"
    return interval_lines(lines, panels, title, marks=[0.0], height=330)


def _tokens(observed: Observed, layer: int | None) -> pd.DataFrame:
    """One row per token and stage, for sinks that have a control."""
    parts = []
    for text in observed.cases:
        asked = {case.sink.pos for case in text.cases}
        if not asked:
            continue
        rows = mlp_anatomy(observed.model, text.trace, observed.sinks, layer).to_frame()
        rows = rows[rows["sink_pos"].isin(asked)]
        last = rows.drop_duplicates(["pos", "sink_pos", "role"])
        written = text.trace.mlp_alignment[last["layer"].tolist(), last["pos"].tolist()]
        parts += [rows, last.assign(stage="written", cosine=written.numpy())]
    columns = ["text_id", "pos", "token", "role", "sink_pos", "layer", "stage", "cosine"]
    return pd.concat(parts, ignore_index=True)[columns]


def _means(tokens: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (stage, role), part in tokens.groupby(["stage", "role"]):
        found = median_over_texts(part["cosine"], part["text_id"].tolist())
        ends = {"low": found.low, "high": found.high, "n_sinks": found.n, "n_texts": found.n_texts}
        rows.append({"stage": stage, "role": role, "cosine": found.value, **ends})
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    place = frame["stage"].map(STAGES.index)
    return frame.assign(place=place).sort_values(["role", "place"], ascending=[False, True])[
        list(COLUMNS)
    ]


def _verdict(tokens: pd.DataFrame, observed: Observed) -> Verdict:
    """At which sinks the MLP writes along the primary, and does not at the control."""
    means = {key: part["cosine"].mean() for key, part in tokens.groupby(["stage", "role"])}
    written = tokens[tokens["stage"] == "written"].set_index(["text_id", "sink_pos", "role"])
    cosine = written["cosine"].unstack().reindex(columns=["sink", "control"]).dropna()
    found = (cosine > ALONG).astype(float)
    texts = found.index.get_level_values("text_id").tolist()
    return judge(
        CLAIM,
        paired_share_over_texts(found["sink"], found["control"], texts, n_claims=N_CLAIMS),
        f"the output points along the primary's residual at {found['sink'].mean():.0%} of the "
        f"sinks (mean cosine {means['written', 'sink']:.2f}), and at {found['control'].mean():.0%} "
        f"of their controls ({means['written', 'control']:.2f}); cosine with the primary at the "
        f"MLP's input: {means['input', 'sink']:.2f} (controls {means['input', 'control']:.2f}), at "
        f"its output: {means['down', 'sink']:.2f} (controls {means['down', 'control']:.2f})",
        statistic="share of sinks at which the MLP's output has a cosine above one half with the "
        "primary's residual, and not at their control, mean over texts",
        controls="token twins, or ordinary tokens nearby",
        left_out=observed.left_out,
        n_claims=N_CLAIMS,
    )


main = main_of(run)

if __name__ == "__main__":
    main()
