"""The authors' own intervention, reproduced, next to exact edits of single tokens."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Annotated, Any

import pandas as pd
import typer

from experiments import steered
from experiments.command import main_of
from experiments.members import members_of
from experiments.shared import Finding, Observed, judged, unanswered
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
from secondary_sinks.plots import count_bars, interval_lines
from secondary_sinks.questions import Cost
from secondary_sinks.statistics import Interval, median_over_texts
from secondary_sinks.types import LASTING

NAME = "their_steering"
QUESTION = "Does the authors' intervention edit the sinks, and no more than an exact edit of each?"
PAPER = (
    "The authors' scripts (Wong et al. 2025, arXiv 2512.22213; `steer_threshold` in "
    "src/hidden_state_base.py) intervene in a whole forward pass: at layer 22, each token after "
    "the first three whose MLP output has a cosine above 0.98 with a stored activation of the "
    "first token gets its MLP output rescaled to a given length; then sinks are detected again. "
    "The stored activation is not in their repository. Their notebooks compare with what the MLP "
    "of the same layer writes at the first token."
)
METHOD = (
    "The same rule at the layer that creates most secondary sinks of this model. Its direction is "
    "what the MLP of this layer writes at the primary (mean over texts of unit vectors). Exempt "
    "are positions 0 to 2 and the primary. The same lengths are set in three ways: by the rule, at "
    "all its tokens at once; at as many matched tokens at once (token twins, else neighbours; "
    "their directions stay); and at each sink on its own, with everything else clean. Lengths: 0, "
    "a half, one and two times the median of what the MLP writes at its sinks, and the longest "
    "that an MLP writes at the primary. Attention is the total effect: everything after the edit "
    "is recomputed. Four verdicts. The rule touches the lasting sinks that arise at the layer, and "
    "no other token. "
    "At length 0 the sinks that it touches lose their attention, beyond matched tokens. At twice "
    "the length, what the rule does to a sink differs from what its own edit does (texts in which "
    "the rule touches one token are left out: there both are the same edit). At length 0 the loss "
    "of later tokens, none of them edited, rises beyond the matched tokens'. Lifetimes have the "
    "norm in their definition, and are only shown. Table 'found' has the sinks that the paper's "
    "criterion and ours find after the rule."
)
REFUTATION = (
    "Most tokens that the rule touches are no sinks, or most sinks are not touched. Attention that "
    "stays although the MLP writes nothing. An effect of the rule on a sink that its own edit does "
    "not have refutes that it reacts to its own MLP output alone."
)
CLAIM = "the authors' rule touches the sinks that arise at its layer, and only them"
LOSES = "sinks that the rule silences lose half of their attention or more, beyond matched tokens"
MORE = (
    "at twice the length, the rule and a sink's own edit differ by a tenth of its attention or more"
)
HARMS = (
    "silencing by the rule raises the loss of later tokens by a hundredth or more, beyond matched "
    "tokens"
)
N_CLAIMS = 4
TENTH, HUNDREDTH = 0.1, 0.01
COLUMNS = {
    "arm": "rule (all its tokens at once), matched (as many other tokens at once), or alone (one "
    "sink at a time)",
    "dose": "length of what the MLP writes after the edit, as a word",
    "length": "the same in units of the model",
    "measure": "kept: attention of the sink (or of its matched token) in units of the sink's clean "
    "attention, less the clean attention plus 1; lifetime: layers at which it is a sink; kl: "
    "divergence (nats) of later predictions from the clean ones",
    "value": "median over texts",
    "low": "lower end of its exact 95 % interval, not corrected for several rows",
    "high": "upper end",
    "n": "sinks; for kl, edits",
    "n_texts": "texts",
}
PANELS = {
    "kept": ("attention kept", "linear"),
    "lifetime": ("lifetime, layers", "linear"),
    "kl": ("KL of later tokens", "linear"),
}
CAPTIONS = {
    "figure": (
        "Medians over texts and exact 95 % intervals, by the length given to the MLP's output. "
        "Attention kept: 1 is the sink's clean attention; matched tokens start at 1 too, and move "
        "in the same units. Only sinks that the rule touches. Lifetimes include a test of the norm."
    ),
    "touched": "Tokens that the rule touches, and sinks of the layer that it leaves alone.",
}


def run(
    observed: Observed,
    *,
    layer: Annotated[int | None, whole("Layer; else the one that creates most sinks.")] = None,
    tau: Annotated[
        float, number("Cosine above which the rule touches a token.", least=-1.0, most=1.0)
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
        why = f"the MLP of layer {at} writes nothing at the sinks that arise there"
        return unanswered(NAME, QUESTION, CLAIM, why, COLUMNS)
    lengths = lengths_of(observed, targets, at)
    tokens = pd.DataFrame(
        [row for one in targets for row in token_rows(one, observed.sinks, at, tau)]
    )
    sinks: list[dict[str, Any]] = []
    damage: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    told = observed.progress(NAME)
    for done, one in enumerate(targets, start=1):
        of_sinks, of_text = edited_rows(observed, one, at, lengths)
        sinks, damage = [*sinks, *of_sinks], [*damage, *of_text]
        found += found_rows(observed, one, at, lengths)
        told(done, len(targets))
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
        figure=interval_lines(lines, PANELS, "length of what the MLP writes"),
        figures={
            "touched": count_bars(
                counts.rename(columns={"reason": "what", "found": "group"}), "tokens"
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
    told = ", ".join(f"{reason} ({count})" for reason, count in reasons.value_counts().items())
    return judged(
        CLAIM,
        _median((fresh["found"] == "both").astype(float), fresh),
        f"at layer {layer} with a cosine above {tau:g} the rule touches {counts.get('both', 0)} "
        f"sink(s) and {counts.get('rule', 0)} other token(s), and leaves {counts.get('sinks', 0)} "
        f"sink(s) alone" + (f": {told}" if told else ""),
        statistic="share of tokens that are touched and a sink, of those that are either, median "
        "over texts",
        controls="none",
        controlled=False,
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
    return judged(
        LOSES,
        _median(lost["rule"] - lost["matched"], lost),
        f"they lose {rule:.0%} of it, matched tokens {matched:.0%} of as much; silenced alone, a "
        f"sink loses {alone:.0%}",
        statistic="attention that touched sinks lose at length 0, less that of matched tokens, "
        "median over texts",
        controls="token twins, or ordinary tokens nearby, silenced at once",
        left_out=observed.left_out,
        n_claims=N_CLAIMS,
    )


def _more(cells: pd.DataFrame) -> Verdict:
    several = cells[cells["n_touched"] > 1]
    lost = _wide(several, "2x", ("rule", "alone"))
    apart, (rule, alone) = lost["rule"] - lost["alone"], 1 - lost[["rule", "alone"]].median()
    return judged(
        MORE,
        _median(apart.abs(), lost),
        f"edited with all others a sink draws {rule:.0%} of its clean attention, alone "
        f"{alone:.0%}; the difference is {-apart.median():+.0%} (medians over sinks)",
        statistic="absolute difference of the attention lost by the rule and by the sink's own "
        "edit, median over texts",
        controls="the same edit of the sink on its own",
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
    return judged(
        HARMS,
        replace(_median(table["rule"] - table["matched"], table), n=n_touched),
        f"it rises by {rule:.2%} of the clean loss with the rule, by {matched:.2%} with matched "
        f"tokens silenced, by {alone:.2%} with one sink silenced at a time",
        statistic="rise of the loss of later tokens as a share of the clean loss, less that with "
        "matched tokens, median over texts",
        controls="token twins, or ordinary tokens nearby, silenced at once",
        line=HUNDREDTH,
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
