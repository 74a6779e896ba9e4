"""Does another token become a sink when one is removed, and do later sinks need earlier ones?"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from torch import Tensor

from experiments.command import main_of
from experiments.shared import Finding, Observed, unanswered, why_no_sinks
from experiments.steered import lasting_positions
from secondary_sinks import Edit, Trace, Verdict, detect, observe, replay
from secondary_sinks.causal import drawn_by, token_twins
from secondary_sinks.plots import interval_dots, message_figure
from secondary_sinks.questions import Cost, MatchedPair, combine_outcomes, judge
from secondary_sinks.statistics import HALF, Interval, outcome_of, paired_share_over_texts
from secondary_sinks.types import LASTING, Sink

NAME = "replacement"
QUESTION = "Does removing a secondary sink create others, and do later sinks need earlier ones?"
PAPER = (
    "Wong et al. 2025 (arXiv 2512.22213) do not say whether one secondary sink takes the place of "
    "another, or whether the later ones of a text need the earlier ones."
)
METHOD = (
    "One sink at a time: the MLP output of its creation layer is zeroed at its token or, in a "
    "second run, replaced by its mean at the same token elsewhere (zeroing also removes which "
    "token this is, and later tokens may need that). The whole text is run again, and sinks are "
    "detected as in the clean run. The same is done at the sink's control token (zeroed there, if "
    "that token stands nowhere else). A token that is a lasting sink now and was none before is "
    "new, unless its part of the freed attention, by the softmax alone, makes it one: it must be "
    "none where only the key of the edited token is replaced. Nor is it new if it drew half of its "
    "attention before. Sinks that still meet the criterion, or draw half of their attention, have "
    "not ended. Where the edited sink is such a one, it was not removed, and is left out and "
    "counted. Verdicts, "
    "for which both edits must agree: removal creates a new sink, and the same edit at the control "
    "does not; sinks that stand later in the text end when the first tested sink of the text is "
    "removed, and do not when its control is edited."
)
REFUTATION = (
    "No new sink arises where one is removed, or as many arise with control tokens. If later sinks "
    "stay, each is formed on its own."
)
CREATES = "removing a secondary sink makes another token a sink"
DEPENDS = "later secondary sinks end when the first one of the text is removed"
N_CLAIMS = 2
ZERO, TWINS = "zero", "mean:twins"
COLUMNS = {
    "event": "new: another token becomes a sink; later sink ends: one later in the text does",
    "at": "the token at which the MLP output is edited: sink, or control",
    "edit": "zero, or mean:twins (the mean output at the same token elsewhere)",
    "value": "share of removed sinks (new), or of later sinks (later sink ends), mean over texts",
    "low": "lower end of its exact 95 % interval over texts, corrected for two claims",
    "high": "upper end of it",
    "n": "number of removed sinks, or of later sinks",
    "n_texts": "number of texts",
}
EVENTS = {"new": "another token becomes a sink", "later sink ends": "a later sink ends"}
"""Names in the figure."""
CAPTIONS = {
    "figure": (
        "Share of removed sinks whose removal makes another token a sink, and share of later sinks "
        "that end when the first tested sink of their text is removed; the same with control "
        "tokens. Means over texts, with exact intervals. Dotted: threshold of the verdicts."
    )
}
CONTROLS = "token twins, or ordinary tokens nearby"
Positions = set[int]


def run(observed: Observed) -> Finding:
    """Remove one sink at a time, and detect again in the whole text."""
    if why := why_no_sinks(observed):
        return unanswered(NAME, QUESTION, CREATES, why, COLUMNS)
    removed, later = list[dict[str, Any]](), list[dict[str, Any]]()
    pairs, progress = observed.pairs(), observed.progress(NAME)
    texts = list(dict.fromkeys(trace.text_id for trace, _ in pairs))
    firsts = _first_of_texts(pairs)
    for trace, case in pairs:
        clean = lasting_positions(observed.sinks.of_text(trace.text_id))
        for way in _ways(trace, case):
            found = {
                name: _sinks_without(observed, trace, case.sink, clean, edit)
                for name, edit in _edits(trace, case, way).items()
            }
            removed.append({"edit": way, **_removed_row(case, clean, found)})
            if (trace.text_id, case.sink.pos) in firsts and removed[-1]["removed"]:
                later += [{"edit": way, **row} for row in _later_rows(trace, case, clean, found)]
        progress(texts.index(trace.text_id), len(texts))
    sinks = pd.DataFrame(removed)
    names = ["edit", "text_id", "first_pos", "pos", "token", "sink", "control"]
    after = pd.DataFrame(later, columns=names)
    frame = _shares(sinks[sinks["removed"]], after)
    return Finding(
        name=NAME,
        question=QUESTION,
        frame=frame,
        columns=COLUMNS,
        captions=CAPTIONS,
        figure=_figure(frame),
        verdict=_creates(sinks, observed),
        further=(_depends(after),),
        tables={"removed": sinks, "later": after},
    )


def _first_of_texts(pairs: list[tuple[Trace, MatchedPair]]) -> set[tuple[str, int]]:
    first: dict[str, int] = {}
    for trace, case in pairs:
        first[trace.text_id] = min(case.sink.pos, first.get(trace.text_id, case.sink.pos))
    return set(first.items())


def _ways(trace: Trace, case: MatchedPair) -> tuple[str, ...]:
    """Ways to remove the sink; the mean over twins needs a twin."""
    return (ZERO, TWINS) if token_twins(trace, case.sink.pos) else (ZERO,)


def _edits(trace: Trace, case: MatchedPair, way: str) -> dict[str, Edit]:
    """The edit of the sink, and that of its control: zero where the control has no twin."""
    of_control = way if token_twins(trace, case.control) else ZERO
    layer = case.sink.l_start
    return {
        "sink": Edit.of_label(way, pos=case.sink.pos, layer=layer),
        "control": Edit.of_label(of_control, pos=case.control, layer=layer),
    }


def _sinks_without(
    observed: Observed, trace: Trace, sink: Sink, clean: Positions, edit: Edit
) -> Positions:
    """Positions of the lasting sinks of the text with an edit of one token.

    A sink of the clean text that still draws half of its attention is one still. A token that drew
    half of its attention in the clean text, or that the softmax alone makes a sink, is no new one.
    """
    (pos,), thresholds = edit.positions, observed.sinks.thresholds
    twins = token_twins(trace, pos)

    def replaced(written: Tensor, hook: Any) -> Tensor:
        changed = written.clone()
        changed[:, pos] = 0.0 if edit.kind == ZERO else written[:, twins].mean(dim=1)
        return changed

    hooks = [(f"blocks.{sink.l_start}.hook_mlp_out", replaced)]
    edited = observe(observed.model, trace.tokens, text_id=trace.text_id, hooks=hooks)
    before = {one.pos: one for one in observed.sinks.of_text(trace.text_id).of_kind(*LASTING)}
    after = {one.pos: one for one in detect(edited, thresholds).of_kind(*LASTING)}
    stay = {at for at, one in {**before, sink.pos: sink}.items() if _draws_half(edited, trace, one)}
    new = sorted(after.keys() - clean - {pos})
    attended = {at for at in new if _draws_half(trace, edited, after[at])}
    alone = _by_softmax_alone(observed, trace, edit, new) if new else set()
    return after.keys() - alone - attended | stay


def _draws_half(trace: Trace, than: Trace, sink: Sink) -> bool:
    """Whether the token of `sink` draws in `trace` at least half of what it draws in `than`."""
    draws, compared = (drawn_by(one, sink.pos, sink) for one in (trace, than))
    return draws >= HALF * compared


def _by_softmax_alone(
    observed: Observed, trace: Trace, edit: Edit, new: Sequence[int]
) -> Positions:
    """Which tokens are lasting sinks if only the key of the edited token is replaced.

    Their states are the clean ones, and their attention is what the softmax then gives them.
    """
    direct = replay(observed.model, trace, edit, watch=new).watched[:, 0]
    mass = trace.mass.clone()
    mass[:, list(new)] = direct.to(mass.dtype)
    return lasting_positions(detect(replace(trace, mass=mass), observed.sinks.thresholds)) & {*new}


def _removed_row(
    case: MatchedPair, clean: Positions, found: dict[str, Positions]
) -> dict[str, Any]:
    """What removing one sink creates, and what the same edit at its control creates."""
    sink, new = case.sink, {name: sorted(after - clean) for name, after in found.items()}
    return {
        **sink.fields("text_id", "pos", "token", "l_start"),
        "rank": sorted(clean | {sink.pos}).index(sink.pos) + 1,
        "n_sinks": len(clean | {sink.pos}),
        "control_pos": case.control,
        "control_kind": case.kind,
        "removed": sink.pos not in found["sink"],
        "n_new": len(new["sink"]),
        "n_new_control": len(new["control"]),
        "new_at": " ".join(map(str, new["sink"])),
        "new_at_control": " ".join(map(str, new["control"])),
    }


def _later_rows(
    trace: Trace, case: MatchedPair, clean: Positions, found: dict[str, Positions]
) -> list[dict[str, Any]]:
    """One row per later sink: whether it ends with the first one removed, and with the control."""
    positions = sorted(pos for pos in clean if pos > max(case.sink.pos, case.control))
    return [
        {
            "text_id": trace.text_id,
            "first_pos": case.sink.pos,
            "pos": pos,
            "token": trace.token_strings[pos],
            **{name: float(pos not in after) for name, after in found.items()},
        }
        for pos in positions
    ]


def _shares(removed: pd.DataFrame, later: pd.DataFrame) -> pd.DataFrame:
    """The rows of the frame: each event, at sinks and at controls, with each edit."""
    new = removed.assign(sink=removed["n_new"] > 0, control=removed["n_new_control"] > 0)
    rows = [
        {"event": event, "at": at, "edit": way, **asdict(_beyond(part[at], 0 * part[at], part))}
        for event, table in (("new", new), ("later sink ends", later))
        for at in ("sink", "control")
        for way, part in _by_way(table)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _by_way(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each edit; of zero, if there are no rows."""
    ways = list(dict.fromkeys(table["edit"])) or [ZERO]
    return [(way, table[table["edit"] == way]) for way in ways]


def _beyond(case: "pd.Series[Any]", control: "pd.Series[Any]", table: pd.DataFrame) -> Interval:
    values, texts = (case.astype(float), control.astype(float)), table["text_id"].tolist()
    return paired_share_over_texts(*values, texts, n_claims=N_CLAIMS)


def _figure(frame: pd.DataFrame) -> go.Figure:
    rows = frame.assign(series=frame["at"] + ", " + frame["edit"])
    rows = rows.rename(columns={"event": "row"}).replace({"row": EVENTS})
    if rows["value"].isna().all():
        return message_figure("editing the MLP of its creation layer removes no sink")
    return interval_dots(rows, "share, mean over texts")


def _creates(sinks: pd.DataFrame, observed: Observed) -> Verdict:
    gone = sinks[sinks["removed"]]
    table = gone.assign(sink=gone["n_new"] > 0, control=gone["n_new_control"] > 0)
    kept = sinks[~sinks["removed"]]["edit"].value_counts()
    return _verdict(
        CREATES,
        table,
        "removal makes another token a sink for {sink} of {n} sinks, the same edit at a control "
        "for {control}",
        statistic="share of removed sinks whose removal makes another token a sink, but the same "
        "edit at the control does not, mean over texts",
        left_out={**observed.left_out, **{f"not removed by {way}": n for way, n in kept.items()}},
    )


def _depends(later: pd.DataFrame) -> Verdict:
    return _verdict(
        DEPENDS,
        later,
        "{sink} of {n} later sinks end, and {control} with the control edited instead",
        statistic="share of later sinks that end when the first tested sink of their text is "
        "removed, but not when its control is edited, mean over texts",
        left_out={},
    )


def _verdict(
    claim: str, table: pd.DataFrame, words: str, *, statistic: str, left_out: dict[str, int]
) -> Verdict:
    """Verdict for which all edits must agree; its number is the smaller share."""
    parts = dict(_by_way(table))
    found = {way: _beyond(part["sink"], part["control"], part) for way, part in parts.items()}
    outcome, agreement = combine_outcomes({way: outcome_of(one) for way, one in found.items()})
    told = [
        f"{way}: "
        + words.format(
            sink=int(part["sink"].sum()), control=int(part["control"].sum()), n=len(part)
        )
        for way, part in parts.items()
    ]
    return judge(
        claim,
        min(found.values(), key=lambda one: one.value),
        "; ".join([*told, agreement]),
        statistic=statistic,
        controls=CONTROLS,
        left_out=left_out,
        n_claims=N_CLAIMS,
        outcome=outcome,
    )


def cost(observed: Observed) -> Cost:
    """Two further passes over the text for each sink and way to remove it."""
    passes = [(len(_ways(trace, case)) * 2, len(trace.tokens)) for trace, case in observed.pairs()]
    return Cost(
        question=NAME,
        replayed=0,
        recomputed=sum(n for n, _ in passes),
        tokens=sum(n * length for n, length in passes),
    )


main = main_of(run)

if __name__ == "__main__":
    main()
