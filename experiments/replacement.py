"""Does another token become a sink when one is removed, and do later sinks need earlier ones?"""

from dataclasses import asdict
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from torch import Tensor

from experiments.command import main_of
from experiments.shared import Finding, Observed, unanswered, why_no_sinks
from experiments.steered import lasting_positions
from secondary_sinks import Trace, Verdict, detect, observe
from secondary_sinks.causal import readers
from secondary_sinks.plots import interval_dots, message_figure
from secondary_sinks.questions import Cost, MatchedPair, judge
from secondary_sinks.statistics import HALF, Interval, paired_share_over_texts
from secondary_sinks.types import Sink

NAME = "replacement"
QUESTION = "Does removing a secondary sink create others, and do later sinks need earlier ones?"
PAPER = (
    "Wong et al. 2025 (arXiv 2512.22213) do not say whether one secondary sink takes the place of "
    "another, or whether the later ones of a text need the earlier ones."
)
METHOD = (
    "One sink at a time: the MLP output of its creation layer is zeroed at its token, the whole "
    "text is run again, and sinks are detected as in the clean run. The same is done at the "
    "sink's control token. A token that is a lasting sink now and was none before is new. Sinks "
    "that still meet the criterion, or draw half of their attention, were not removed: they are "
    "left out, and counted. Verdicts: removal creates a new "
    "sink, and the same edit at the control does not; sinks that stand later in the text end when "
    "the first tested sink of the text is removed, and do not when its control is edited."
)
REFUTATION = (
    "No new sink arises where one is removed, or as many arise with control tokens. If later sinks "
    "stay, each is formed on its own."
)
CREATES = "removing a secondary sink makes another token a sink"
DEPENDS = "later secondary sinks end when the first one of the text is removed"
N_CLAIMS = 2
COLUMNS = {
    "event": "new: another token becomes a sink; later sink ends: one later in the text does",
    "edit": "the token at which the MLP output is zeroed: sink, or control",
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


def run(observed: Observed) -> Finding:
    """Remove one sink at a time, and detect again in the whole text."""
    if why := why_no_sinks(observed):
        return unanswered(NAME, QUESTION, CREATES, why, COLUMNS)
    removed: list[dict[str, Any]] = []
    later: list[dict[str, Any]] = []
    pairs, progress = observed.pairs(), observed.progress(NAME)
    texts = list(dict.fromkeys(trace.text_id for trace, _ in pairs))
    firsts = _first_of_texts(pairs)
    for trace, case in pairs:
        found = {
            name: _sinks_without(observed, trace, case.sink, pos)
            for name, pos in (("sink", case.sink.pos), ("control", case.control))
        }
        clean = lasting_positions(observed.sinks.of_text(trace.text_id))
        removed.append(_removed_row(case, clean, found))
        if (trace.text_id, case.sink.pos) in firsts and removed[-1]["removed"]:
            later += _later_rows(trace, case, clean, found)
        progress(texts.index(trace.text_id), len(texts))
    sinks = pd.DataFrame(removed)
    after = pd.DataFrame(later, columns=["text_id", "first_pos", "pos", "token", "sink", "control"])
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


def _sinks_without(observed: Observed, trace: Trace, sink: Sink, pos: int) -> set[int]:
    """Positions of the lasting sinks of the text with an MLP output zeroed at one token.

    And that of the sink, if it still draws half of its attention: then it was not removed.
    """

    def silence(written: Tensor, hook: Any) -> Tensor:
        changed = written.clone()
        changed[:, pos] = 0.0
        return changed

    hooks = [(f"blocks.{sink.l_start}.hook_mlp_out", silence)]
    edited = observe(observed.model, trace.tokens, text_id=trace.text_id, hooks=hooks)
    lasting = lasting_positions(detect(edited, observed.sinks.thresholds))
    blocks = readers(sink.layers, len(trace.mass))
    was, now = ((one.mass - one.mass_expected)[blocks, sink.pos].mean() for one in (trace, edited))
    return lasting | ({sink.pos} if now >= HALF * was else set())


def _removed_row(case: MatchedPair, clean: set[int], found: dict[str, set[int]]) -> dict[str, Any]:
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
    trace: Trace, case: MatchedPair, clean: set[int], found: dict[str, set[int]]
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
    """The rows of the frame: each event with each edit."""
    events = [
        ("new", "sink", (removed["n_new"] > 0).astype(float), removed),
        ("new", "control", (removed["n_new_control"] > 0).astype(float), removed),
        ("later sink ends", "sink", later["sink"], later),
        ("later sink ends", "control", later["control"], later),
    ]
    return pd.DataFrame(
        [
            {"event": event, "edit": edit, **asdict(_beyond(values, 0 * values, table))}
            for event, edit, values, table in events
        ],
        columns=list(COLUMNS),
    )


def _beyond(case: "pd.Series[Any]", control: "pd.Series[Any]", table: pd.DataFrame) -> Interval:
    texts = table["text_id"].tolist()
    return paired_share_over_texts(case.astype(float), control, texts, n_claims=N_CLAIMS)


def _figure(frame: pd.DataFrame) -> go.Figure:
    rows = frame.rename(columns={"event": "row", "edit": "series"}).replace({"row": EVENTS})
    if rows["value"].isna().all():
        return message_figure("zeroing the MLP of its creation layer removes no sink")
    return interval_dots(rows, "share, mean over texts")


def _creates(sinks: pd.DataFrame, observed: Observed) -> Verdict:
    gone = sinks[sinks["removed"]]
    new, control = gone["n_new"] > 0, gone["n_new_control"] > 0
    return judge(
        CREATES,
        _beyond(new, control.astype(float), gone),
        f"removal makes another token a sink for {int(new.sum())} of {len(gone)} sinks, the same "
        f"edit at a control for {int(control.sum())}",
        statistic="share of removed sinks whose removal makes another token a sink, but the same "
        "edit at the control does not, mean over texts",
        controls="token twins, or ordinary tokens nearby",
        left_out={**observed.left_out, "not removed by this edit": len(sinks) - len(gone)},
        n_claims=N_CLAIMS,
    )


def _depends(later: pd.DataFrame) -> Verdict:
    ends, control = int(later["sink"].sum()), int(later["control"].sum())
    return judge(
        DEPENDS,
        _beyond(later["sink"], later["control"], later),
        f"{ends} of {len(later)} later sinks end, and {control} with the control edited instead",
        statistic="share of later sinks that end when the first tested sink of their text is "
        "removed, but not when its control is edited, mean over texts",
        controls="token twins, or ordinary tokens nearby",
        n_claims=N_CLAIMS,
    )


def cost(observed: Observed) -> Cost:
    """Two further passes over the text for each sink."""
    lengths = [len(trace.tokens) for trace, _ in observed.pairs()]
    return Cost(question=NAME, replayed=0, recomputed=2 * len(lengths), tokens=2 * sum(lengths))


main = main_of(run)

if __name__ == "__main__":
    main()
