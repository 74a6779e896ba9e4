"""Where inside the forming MLP does a token turn towards the primary? (MLP figure of the paper.)"""

from typing import Annotated

import pandas as pd

from experiments.command import main_of
from experiments.shared import Finding, Observed, judge_interval, unanswered, why_no_sinks
from secondary_sinks import Verdict, mlp_anatomy
from secondary_sinks.attribution import GATED_STAGES, PLAIN_STAGES
from secondary_sinks.cli import whole
from secondary_sinks.plots import interval_lines
from secondary_sinks.statistics import median_over_texts

NAME, QUESTION = (
    "mlp_anatomy",
    "At which stage of the forming MLP does a token align with the primary?",
)
PAPER = (
    "Claim of the paper (Wong et al. 2025, arXiv 2512.22213): at the creation layer the MLP maps "
    "a token that is nothing like the primary to a vector that points along the primary's "
    "direction."
)
METHOD = (
    "At each sink's creation layer (or `--layer`), the cosine of the token with the primary at "
    "every stage of the MLP (input, gate, up, act, act*up, down; both tokens at the same stage of "
    "the same layer), for sinks and their controls (token twins, else neighbours). A further "
    "stage, `written`, compares the MLP's output with the primary's residual: the direction that "
    "the claim is about. (At the other stages the primary's own activation may be small.) "
    "Verdict: the cosine of `written`."
)
REFUTATION = "The MLP's output at sinks has a cosine below one half with the primary's residual."
CLAIM = "the MLP of the creation layer maps sinks to the primary's direction"
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
}


def run(
    observed: Observed,
    *,
    layer: Annotated[
        int | None, whole("Layer of the MLP. Default: each sink's creation layer.")
    ] = None,
) -> Finding:
    """Cosine with the primary at each stage of the MLP."""
    why = why_no_sinks(observed)
    if why:
        return unanswered(NAME, QUESTION, CLAIM, why, COLUMNS)
    tokens = _tokens(observed, layer)
    frame = _means(tokens)
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
        tables={"tokens": tokens},
    )


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
    written = tokens[(tokens["stage"] == "written") & (tokens["role"] == "sink")]
    means = {key: part["cosine"].mean() for key, part in tokens.groupby(["stage", "role"])}
    interval = median_over_texts(written["cosine"], written["text_id"].tolist())
    return judge_interval(
        CLAIM,
        interval,
        f"the output has cosine {interval.value:.2f} with the primary's residual (controls "
        f"{means['written', 'control']:.2f}); cosine with the primary at the MLP's input: "
        f"{means['input', 'sink']:.2f} (controls {means['input', 'control']:.2f}), at its output: "
        f"{means['down', 'sink']:.2f} (controls {means['down', 'control']:.2f})",
        statistic="cosine of the MLP's output at sinks with the primary's residual, median over "
        "texts",
        unit="cosine",
        controls="token twins, or ordinary tokens nearby",
        left_out=observed.left_out,
    )


main = main_of(run)

if __name__ == "__main__":
    main()
