"""How do secondary sinks change the entropy of the prefix?"""

from collections.abc import Iterator
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from experiments.command import main_of
from experiments.shared import (
    Finding,
    Observed,
    sink_columns,
    unanswered,
    why_no_sinks,
)
from secondary_sinks import Verdict
from secondary_sinks.display import rounded
from secondary_sinks.measures import matrix_entropy, prefix_entropies
from secondary_sinks.observation import activations
from secondary_sinks.plots import interval_lines
from secondary_sinks.questions import MatchedPair, TextPairs, judge_beyond
from secondary_sinks.statistics import median_over_texts

NAME, QUESTION = "prefix_entropy", "How do secondary sinks change the entropy of the prefix?"
PAPER = (
    "The authors' scripts (Wong et al. 2025, arXiv 2512.22213) compute the matrix-based entropy "
    "of the prefix, layer by layer. The abstract makes no claim about it. The question here: does "
    "the entropy of the prefix fall when a secondary sink, which points along the primary, is "
    "added to it, more than when the same token elsewhere is added?"
)
METHOD = (
    "Shannon entropy of the eigenvalues of the prefix's Gram matrix (raw states, not centred). At "
    "each sink's creation layer: the entropy of the states before the sink together with its own, "
    "minus that without it; and the same with the control's state in the sink's place, so that "
    "both are added to the same prefix. A control that stands before the sink is in that prefix "
    "already: its state then occurs twice. Verdict: the entropy falls with sinks, and more than "
    "with their controls (two medians over texts; differences up to 1e-6 nats, the rounding, count "
    "as 0). The curves show the text with most sinks, at eight layers, with its sinks marked."
)
REFUTATION = (
    "The entropy rises with a sink. If it falls as much with controls, nothing is shown or refuted."
)
CLAIM = "the entropy of the prefix falls with a secondary sink"
LAYERS, LENGTHS = 8, 16
ROUNDING = 1e-6
"""Differences of entropies up to this, in nats, are rounding, and count as 0."""
COLUMNS = {
    "text_id": "the text whose curves are drawn",
    "layer": "0-based, resid_post",
    "length": "tokens of the prefix",
    "entropy": "matrix-based Shannon entropy, in nats, from 0 to log(min(length, d_model))",
}
CAPTIONS = {
    "figure": "Entropy of the prefixes of one text, by length. Dotted: its secondary sinks.",
}


def run(observed: Observed) -> Finding:
    """Entropy before and after each sink and control, and the curves of one text."""
    if why := why_no_sinks(observed):
        return unanswered(NAME, QUESTION, CLAIM, why, COLUMNS)
    steps = pd.DataFrame([row for text in observed.cases for row in _steps(observed, text)])
    most = max(observed.cases, key=lambda text: len(text.cases))
    curves = pd.DataFrame(list(_curves(observed, most)), columns=list(COLUMNS))
    names = {"length": "x", "entropy": "value"}
    lines = curves.rename(columns=names).assign(
        panel="entropy", low=float("nan"), high=float("nan")
    )
    lines["group"] = "layer " + lines["layer"].astype(str)
    return Finding(
        name=NAME,
        question=QUESTION,
        frame=curves,
        columns=COLUMNS,
        captions=CAPTIONS,
        figure=interval_lines(
            lines,
            {"entropy": ("entropy of the prefix (nats)", "linear")},
            f"length of the prefix of {most.trace.text_id}, in tokens; dotted: secondary sinks",
            marks=[case.sink.pos + 1.0 for case in most.cases],
            ordered=True,
            height=360,
        ),
        verdict=_verdict(steps, observed),
        tables={"steps": steps},
    )


def _states(observed: Observed, text: TextPairs, layers: list[int]) -> Iterator[tuple[int, Tensor]]:
    everywhere = range(len(text.trace.tokens))
    found = activations(observed.model, text.trace, everywhere, layers, ["resid_post"])
    return ((layer, points["resid_post"]) for layer, points in found)


def _steps(observed: Observed, text: TextPairs) -> Iterator[dict[str, Any]]:
    """By sink: the entropy that its state and its control's add, at its creation layer."""
    layers = sorted({case.sink.l_start for case in text.cases})
    for layer, states in _states(observed, text, layers) if layers else ():
        for case in (one for one in text.cases if one.sink.l_start == layer):
            yield sink_columns(case) | _step(states, case)


def _step(states: Tensor, case: MatchedPair) -> dict[str, float]:
    """The entropy of the states before the sink, and what one more adds: its own, its control's."""
    before, with_sink, with_control = (
        float(matrix_entropy(states[[*range(case.sink.pos), *added]]))
        for added in ([], [case.sink.pos], [case.control])
    )
    return {"entropy": before, "step": with_sink - before, "control_step": with_control - before}


def _curves(observed: Observed, text: TextPairs) -> Iterator[dict[str, Any]]:
    n_pos = len(text.trace.tokens)
    layers = torch.linspace(0, observed.n_layers - 1, LAYERS).round().long().unique().tolist()
    lengths = torch.linspace(2, n_pos, LENGTHS).round().long().unique().tolist()
    for layer, states in _states(observed, text, layers):
        for length, entropy in zip(lengths, prefix_entropies(states, lengths), strict=True):
            row = {"text_id": text.trace.text_id, "layer": layer, "length": length}
            yield row | {"entropy": float(entropy)}


def _verdict(steps: pd.DataFrame, observed: Observed) -> Verdict:
    """supported: the entropy falls, and more than with the control; contradicted: it rises."""
    texts = steps["text_id"].tolist()
    falls, further = (
        one.mask(one.abs() <= ROUNDING, 0.0)
        for one in (-steps["step"], steps["control_step"] - steps["step"])
    )
    beyond = median_over_texts(further, texts)
    return judge_beyond(
        CLAIM,
        median_over_texts(falls, texts),
        beyond,
        f"a sink changes the entropy by {rounded(steps['step'].mean(), 2)} nats, a control in its "
        f"place by {rounded(steps['control_step'].mean(), 2)} (mean before: "
        f"{rounded(steps['entropy'].mean(), 2)}); it falls by {rounded(beyond.value, 2)} "
        f"[{rounded(beyond.low, 2)}, {rounded(beyond.high, 2)}] more at sinks (median over texts)",
        statistic="fall of the entropy with a sink, in nats, median over texts; supported only if "
        "it also exceeds that with the control in its place",
        unit="nats",
        controls="token twins, or ordinary tokens nearby",
        line=0.0,
        left_out=observed.left_out,
    )


main = main_of(run)

if __name__ == "__main__":
    main()
