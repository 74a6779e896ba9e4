"""The authors' own intervention, reproduced, next to exact edits of single tokens."""

from dataclasses import asdict
from typing import Annotated, Any

import pandas as pd
import typer

from experiments import steered
from experiments.command import main_of
from experiments.members import members_of
from experiments.shared import Finding, Observed, unanswered
from experiments.steered import (
    TAU,
    edited_rows,
    found_rows,
    lengths_of,
    targets_of,
    token_rows,
)
from experiments.steered_verdicts import CLAIM, coverage, harms, loses, more, short_texts
from secondary_sinks.cli import number, whole
from secondary_sinks.plots import Look, count_bars, interval_lines
from secondary_sinks.questions import Cost
from secondary_sinks.statistics import median_over_texts
from secondary_sinks.types import LASTING

NAME = "their_steering"
QUESTION = "Does the authors' intervention edit only sinks, and as an exact edit of each would?"
PAPER = (
    "The authors' scripts (Wong et al. 2025, arXiv 2512.22213; `steer_threshold` in "
    "src/hidden_state_base.py) intervene in a whole forward pass: at layer 22, each token after "
    "the first three whose MLP output has a cosine above 0.98 with a stored activation of the "
    "first token gets its MLP output rescaled to a given length; then sinks are detected again. "
    "The stored activation is not in their repository; their notebooks use the output of the MLP "
    "of the same layer at the first token."
)
METHOD = (
    "The same rule at the layer that creates most secondary sinks of this model. Its direction is "
    "the output of the MLP of this layer at the primary (mean over texts of unit vectors). "
    "Positions 0 to 2 and the primary are exempt. The same norms are set in three ways: by the "
    "rule, at all its tokens at once; at the same number of matched tokens at once (token twins, "
    "else neighbours; their directions stay); and at each sink alone, with everything else clean. "
    "Norms: 0, 0.5, 1 and 2 times the median norm of the MLP output at sinks, and the largest norm "
    "of any MLP output at the primary. Attention is the total effect: everything after the edit is "
    "recomputed. Four verdicts. (1) The rule edits the lasting sinks that arise at the layer, and "
    "no other token. (2) At norm 0, the edited sinks lose more attention than matched tokens. (3) "
    "At twice the norm, the effect of the rule on a sink differs from that of editing this sink "
    "alone (without texts in which the rule edits one token only: there both edits are the same). "
    "(4) At norm 0, the loss of later, unedited tokens rises more than with matched tokens. Texts "
    "with fewer matched tokens than the rule edits are left out of (2) and (4), and of the arm in "
    "the figure. "
    "Lifetimes depend on the norm by definition, and are only shown. Table 'found' has the sinks "
    "that the paper's criterion and ours find after the rule."
)
REFUTATION = (
    "Most tokens that the rule edits are not sinks, or most sinks are not edited. Sinks keep their "
    "attention at norm 0. If the rule affects a sink differently than editing this sink alone, the "
    "sink does not depend on its own MLP output alone."
)
COLUMNS = {
    "arm": "rule (all its tokens at once), matched (the same number of other tokens at once), or "
    "alone (one sink at a time)",
    "dose": "name of the norm that the MLP output is given",
    "length": "that norm, in units of the model",
    "measure": "kept: 1 plus the change of attention of the sink (or of its matched token), in "
    "units of the sink's clean attention; lifetime: number of layers at which it is a sink; kl: "
    "divergence (nats) of later predictions from the clean ones",
    "value": "median over texts",
    "low": "lower end of its exact 95 % interval, not corrected for several rows",
    "high": "upper end of it",
    "n": "number of sinks; for kl, of edits",
    "n_texts": "number of texts",
}
PANELS = {
    "kept": ("attention kept", "linear"),
    "lifetime": ("lifetime, layers", "linear"),
    "kl": ("KL of later tokens", "linear"),
}
LOOKS = {
    "rule": Look("all tokens of the rule"),
    "matched": Look("matched tokens"),
    "alone": Look("one sink alone"),
}
FOUND = {
    "both": "sinks that the rule edits",
    "rule": "other tokens that it edits",
    "sinks": "sinks that it does not edit",
}
"""Names in the legends."""
CAPTIONS = {
    "figure": (
        "Medians over texts and exact 95 % intervals, by the norm given to the MLP's output. "
        "Attention kept: 1 is the clean attention, for sinks and matched tokens alike; changes are "
        "in units of the sink's clean attention. Only sinks that the rule edits. Lifetimes include "
        "a norm test."
    ),
    "touched": "Tokens that the rule edits, and sinks of the layer that it does not edit.",
}


def run(
    observed: Observed,
    *,
    layer: Annotated[int | None, whole("Layer. Default: the one that creates most.")] = None,
    tau: Annotated[
        float, number("Cosine above which the rule edits a token.", least=-1.0, most=1.0)
    ] = TAU,
    residual: Annotated[
        bool, typer.Option(help="Compare with the primary's residual, not with its MLP output.")
    ] = False,
) -> Finding:
    """Rescale by the rule, at matched tokens, and at one sink at a time; then detect again."""
    members = members_of(observed, layer)
    if members.missing:
        return unanswered(NAME, QUESTION, CLAIM, members.missing, COLUMNS)
    at = members.layer
    targets = targets_of(observed, at, tau, residual=residual)
    if not any(one.asked for one in targets):
        why = f"the MLP of layer {at} has zero output at the sinks that are created there"
        return unanswered(NAME, QUESTION, CLAIM, why, COLUMNS)
    lengths = lengths_of(observed, targets, at)
    tokens = pd.DataFrame(
        [row for one in targets for row in token_rows(one, observed.sinks, at, tau)]
    )
    sinks: list[dict[str, Any]] = []
    damage: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    progress = observed.progress(NAME)
    for done, one in enumerate(targets, start=1):
        of_sinks, of_text = edited_rows(observed, one, at, lengths)
        sinks, damage = [*sinks, *of_sinks], [*damage, *of_text]
        found += found_rows(observed, one, at, lengths)
        progress(done, len(targets))
    cells, texts = pd.DataFrame(sinks), pd.DataFrame(damage)
    frame = _effects(cells, texts, lengths)
    counts = tokens.groupby(["reason", "found"]).size().rename("count").reset_index()
    lines = frame.rename(columns={"measure": "panel", "arm": "group", "dose": "x"})
    return Finding(
        name=NAME,
        question=QUESTION,
        frame=frame,
        columns=COLUMNS,
        captions=CAPTIONS,
        figure=interval_lines(lines, PANELS, "norm of the MLP output", looks=LOOKS),
        figures={
            "touched": count_bars(
                counts.rename(columns={"reason": "what", "found": "group"}), "tokens", names=FOUND
            )
        },
        verdict=coverage(tokens, at, tau),
        further=(
            loses(cells, texts, observed),
            more(cells),
            harms(texts),
        ),
        tables={"tokens": tokens, "sinks": cells, "damage": texts, "found": pd.DataFrame(found)},
    )


def _effects(cells: pd.DataFrame, texts: pd.DataFrame, lengths: dict[str, float]) -> pd.DataFrame:
    """Medians over texts by arm and dose, of the sinks that the rule touches."""
    short = short_texts(texts)
    cells, texts = (
        part[~((part["arm"] == "matched") & part["text_id"].isin(short))] for part in (cells, texts)
    )
    own = cells[cells["touched"]]
    parts = {
        "kept": own.assign(value=1 - own["lost"]),
        "lifetime": own.assign(value=own["lifetime_edited"]),
        "kl": texts.assign(value=texts["kl"]),
    }
    rows = []
    for measure, part in parts.items():
        for (arm, dose), some in part.groupby(["arm", "dose"], sort=False):
            interval = median_over_texts(some["value"], some["text_id"].tolist())
            rows.append(
                {
                    "arm": arm,
                    "dose": dose,
                    "length": lengths[str(dose)],
                    "measure": measure,
                    **asdict(interval),
                }
            )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def cost(observed: Observed) -> Cost:
    """Upper bound of the work: two arms and a detection per dose, and each sink on its own."""
    n_doses, layer = len(steered.DOSES) + 1, members_of(observed, None).layer
    sizes = []
    for trace in observed.traces:
        own = observed.sinks.of_text(trace.text_id).of_kind(*LASTING).sinks
        sizes.append(n_doses * (3 + sum(sink.l_start == layer for sink in own)))
    tokens = sum(n * len(t.tokens) for n, t in zip(sizes, observed.traces, strict=True))
    return Cost(question=NAME, replayed=0, recomputed=sum(sizes), tokens=tokens)


main = main_of(run)

if __name__ == "__main__":
    main()
