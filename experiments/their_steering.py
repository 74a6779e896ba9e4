"""The authors' own intervention, reproduced, next to exact edits of single tokens."""

from collections.abc import Sequence
from dataclasses import asdict, replace
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
from secondary_sinks import Verdict
from secondary_sinks.cli import number, whole
from secondary_sinks.display import count
from secondary_sinks.plots import Look, count_bars, interval_lines
from secondary_sinks.questions import Cost, judge
from secondary_sinks.statistics import Interval, median_over_texts
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
    "(4) At norm 0, the loss of later, unedited tokens rises more than with matched tokens. "
    "Lifetimes depend on the norm by definition, and are only shown. Table 'found' has the sinks "
    "that the paper's criterion and ours find after the rule."
)
REFUTATION = (
    "Most tokens that the rule edits are not sinks, or most sinks are not edited. Sinks keep their "
    "attention at norm 0. If the rule affects a sink differently than editing this sink alone, the "
    "sink does not depend on its own MLP output alone."
)
CLAIM = "the authors' rule edits the sinks that arise at its layer, and only them"
LOSES = (
    "sinks whose MLP output the rule zeroes lose half of their attention or more, beyond controls"
)
MORE = (
    "at twice the norm, the rule and an edit of one sink alone differ by a tenth of its attention "
    "or more"
)
HARMS = (
    "zeroing by the rule raises the loss of later tokens by 1% or more, beyond zeroing at matched "
    "tokens"
)
N_CLAIMS = 4
TENTH, HUNDREDTH = 0.1, 0.01
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
        verdict=_coverage(tokens, at, tau),
        further=(
            _loses(cells, observed),
            _more(cells),
            _harms(texts, int((tokens["found"] != "sinks").sum())),
        ),
        tables={"tokens": tokens, "sinks": cells, "damage": texts, "found": pd.DataFrame(found)},
    )


def _effects(cells: pd.DataFrame, texts: pd.DataFrame, lengths: dict[str, float]) -> pd.DataFrame:
    """Medians over texts by arm and dose, of the sinks that the rule touches."""
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


def _coverage(tokens: pd.DataFrame, layer: int, tau: float) -> Verdict:
    fresh = tokens[~tokens["copy"]]
    counts, reasons = fresh["found"].value_counts(), fresh[fresh["found"] != "both"]["reason"]
    missed = ", ".join(f"{reason} ({n})" for reason, n in reasons.value_counts().items())
    return judge(
        CLAIM,
        _median((fresh["found"] == "both").astype(float), fresh),
        f"at layer {layer} with a cosine above {tau:g} the rule edits "
        f"{count(counts.get('both', 0), 'sink')} and "
        f"{count(counts.get('rule', 0), 'other token')}, and misses "
        f"{count(counts.get('sinks', 0), 'sink')}" + (f": {missed}" if missed else ""),
        statistic="share of tokens that are both edited and a sink, among those that are either, "
        "median over texts",
        controls="none",
        controlled=False,
        counted="token",
        left_out={"copies of tokens in earlier texts": int(tokens["copy"].sum())},
        n_claims=N_CLAIMS,
    )


def _wide(cells: pd.DataFrame, dose: str, arms: Sequence[str]) -> pd.DataFrame:
    """Attention lost at one dose by the sinks that the rule touches, one column per arm."""
    own = cells[cells["touched"] & (cells["dose"] == dose)]
    table = own.pivot_table(index=["text_id", "pos"], columns="arm", values="lost")
    return table.reindex(columns=list(arms)).reset_index()


def _median(values: "pd.Series[float]", texts: pd.DataFrame) -> Interval:
    return median_over_texts(values, texts["text_id"].tolist(), n_claims=N_CLAIMS)


def _loses(cells: pd.DataFrame, observed: Observed) -> Verdict:
    lost = _wide(cells, "0", ("rule", "matched", "alone"))
    rule, matched, alone = lost[["rule", "matched", "alone"]].median()
    return judge(
        LOSES,
        _median(lost["rule"] - lost["matched"], lost),
        f"sinks lose {rule:.0%} of their attention, matched tokens {matched:.0%} in the same "
        f"units; zeroed alone, a sink loses {alone:.0%}",
        statistic="attention lost at norm 0 by edited sinks minus that lost by matched tokens, "
        "median over texts",
        controls="token twins, or ordinary tokens nearby, zeroed at once",
        left_out=observed.left_out,
        n_claims=N_CLAIMS,
    )


def _more(cells: pd.DataFrame) -> Verdict:
    several = cells[cells["n_touched"] > 1]
    lost = _wide(several, "2x", ("rule", "alone"))
    apart, (rule, alone) = lost["rule"] - lost["alone"], 1 - lost[["rule", "alone"]].median()
    return judge(
        MORE,
        _median(apart.abs(), lost),
        f"edited together with all others, a sink draws {rule:.0%} of its clean attention; edited "
        f"alone, {alone:.0%}; the difference is {-apart.median():+.0%} (medians over sinks)",
        statistic="absolute difference of the attention lost by the rule and by editing the sink "
        "alone, median over texts",
        controls="the same edit of the sink alone",
        controlled=False,
        line=TENTH,
        n_claims=N_CLAIMS,
    )


def _harms(texts: pd.DataFrame, n_touched: int) -> Verdict:
    silent = texts[texts["dose"] == "0"]
    rise = (silent["loss_edited"] - silent["loss_clean"]) / silent["loss_clean"]
    table = silent.assign(rise=rise).pivot_table(index="text_id", columns="arm", values="rise")
    table = table.reindex(columns=["rule", "matched", "alone"]).reset_index()
    rule, matched, alone = table[["rule", "matched", "alone"]].median()
    return judge(
        HARMS,
        replace(_median(table["rule"] - table["matched"], table), n=n_touched),
        f"the loss rises by {rule:.2%} of the clean loss with the rule, by {matched:.2%} with "
        f"matched tokens zeroed, by {alone:.2%} with one sink zeroed at a time",
        statistic="rise of the loss of later tokens as a share of the clean loss, minus that with "
        "matched tokens, median over texts",
        controls="token twins, or ordinary tokens nearby, zeroed at once",
        line=HUNDREDTH,
        counted="edited token",
        n_claims=N_CLAIMS,
    )


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
