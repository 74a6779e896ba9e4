"""Do the paper's criterion and ours find the same sinks, and where not, why?"""

import pandas as pd

from experiments.command import main_of
from experiments.members import COPIES
from experiments.shared import Finding, Observed, unanswered
from secondary_sinks import SinkTable, Trace, Verdict, detect
from secondary_sinks.detection import compare, criteria_frame, first_texts
from secondary_sinks.display import count
from secondary_sinks.plots import count_bars
from secondary_sinks.questions import judge
from secondary_sinks.statistics import share_over_texts

NAME, QUESTION = "criterion_check", "Do the paper's criterion and ours find the same sinks?"
PAPER = (
    "In the paper's scripts (Wong et al. 2025, arXiv 2512.22213) a token is a sink if the raw "
    "cosine of its residual with the primary's is above 0.9. Our criterion requires three tests at "
    "once: aligned (centred on the typical token), outlying, and attended. Claim to check: on this "
    "model the two criteria agree."
)
METHOD = (
    "All tokens, except primaries, that either criterion calls a sink. For a token found only by "
    "the paper's criterion: which of our tests fails at most of the layers where the paper's "
    "passes. For a token found only by ours: which condition of the paper's it fails. Verdict: the "
    "share of these tokens that both criteria find, over texts; a token that stands in an earlier "
    "text too, after the same tokens, is counted once. This shows where the criteria "
    "differ, not which one is right: `docs/plants.md` measures both where the truth is known."
)
REFUTATION = "Most of these tokens are found by one criterion only."
CLAIM = "the paper's criterion and ours find the same sinks"
TESTS = {
    "primary_active": "primary not active",
    "aligned": "not aligned once centred",
    "outlying": "not outlying",
    "attended": "not attended",
}
COLUMNS = {
    "text_id": "text",
    "pos": "position of the token",
    "token": "string of the token",
    "found": "both, paper (only) or joint (only)",
    "reason": "why the other criterion does not find it; 'agreement' if both do",
    "overlap": "layers at which both call it a sink, as a share of those of either, in [0, 1]",
    "l_start_paper": "creation layer by the paper's criterion; NaN if it is not a sink",
    "l_start_joint": "creation layer by our criterion; NaN if it is not a sink",
    "lifetime_paper": "number of layers at which it is a sink by the paper's criterion",
    "lifetime_joint": "number of layers at which it is a sink by our criterion",
    "copy": "whether it is listed in an earlier text too, after the same tokens; not counted",
}
CAPTIONS = {
    "figure": "Number of tokens by why the criteria differ, without copies; colour: which "
    "criterion finds them.",
}


FOUND = {
    "both": "found by both criteria",
    "paper": "by the paper's only",
    "joint": "by the joint criterion only",
}
"""Names in the legend."""


def run(observed: Observed) -> Finding:
    """One row per token that is a sink by either criterion, without primaries."""
    paper = detect(observed.traces, observed.sinks.thresholds, criterion="paper")
    parts = [_rows(observed, trace, paper) for trace in observed.traces]
    frame = _with_copies(observed, pd.concat(parts, ignore_index=True))[list(COLUMNS)]
    if frame.empty:
        why = "neither criterion finds a sink other than primaries, so there is nothing to compare"
        return unanswered(NAME, QUESTION, CLAIM, why, COLUMNS)
    fresh = frame[~frame["copy"]]
    counts = fresh.groupby(["reason", "found"]).size().rename("count").reset_index()
    return Finding(
        name=NAME,
        question=QUESTION,
        frame=frame,
        columns=COLUMNS,
        captions=CAPTIONS,
        figure=count_bars(
            counts.rename(columns={"reason": "what", "found": "group"}), "tokens", names=FOUND
        ),
        verdict=_verdict(frame),
        tables={"reasons": counts},
    )


def _rows(observed: Observed, trace: Trace, paper: SinkTable) -> pd.DataFrame:
    """Rows for the tokens of one text."""
    own, theirs = (table.of_text(trace.text_id) for table in (observed.sinks, paper))
    primaries = {sink.pos for table in (own, theirs) for sink in table.of_kind("primary").sinks}
    both = compare(theirs, own, ("paper", "joint"))
    both = both[~both["pos"].isin(primaries)]
    tests = criteria_frame(trace, observed.sinks.thresholds, both["pos"].tolist())
    rows = []
    for found, pos in zip(both["found"], both["pos"].tolist(), strict=True):
        reason = _reason(found, tests[tests["pos"] == pos], primaries)
        rows.append({"token": trace.token_strings[pos], "reason": reason})
    return both.assign(**pd.DataFrame(rows, index=both.index, columns=["token", "reason"]))


def _with_copies(observed: Observed, frame: pd.DataFrame) -> pd.DataFrame:
    tokens = {trace.text_id: trace.tokens for trace in observed.traces}
    listed = zip(frame["text_id"], frame["pos"].tolist(), strict=True)
    first = first_texts((text_id, tokens[text_id], pos) for text_id, pos in listed)
    copies = [text != own for text, own in zip(first, frame["text_id"], strict=True)]
    return frame.assign(copy=pd.Series(copies, index=frame.index, dtype=bool))


def _reason(found: str, tests: pd.DataFrame, primaries: set[int]) -> str:
    """The failed test in words; of several, the one that fails at most layers (or the first)."""
    if found == "both":
        return "agreement"
    if found == "paper":
        at = tests[tests["paper"]]
        failed = {words: int((~at[name]).sum()) for name, words in TESTS.items()}
        return max(failed, key=lambda words: failed[words])
    at = tests[tests["joint"]]
    if not at["in_clip"].any():
        return "not a sink at the layers that the paper examines"
    if int(tests["pos"].iloc[0]) < max(primaries):
        return "before the paper's primary"
    return "raw cosine with the paper's primary too low"


def _verdict(frame: pd.DataFrame) -> Verdict:
    fresh = frame[~frame["copy"]]
    agree = (fresh["found"] == "both").astype(float)
    number = fresh["found"].value_counts()
    apart = fresh[fresh["found"] != "both"]["reason"].value_counts()
    reasons = ", ".join(f"{reason} ({count})" for reason, count in apart.items())
    return judge(
        CLAIM,
        share_over_texts(agree, fresh["text_id"].tolist()),
        f"both criteria find {count(number.get('both', 0), 'token')}, only the paper's finds "
        f"{number.get('paper', 0)}, only ours {number.get('joint', 0)}"
        + (f": {reasons}" if reasons else ""),
        statistic="share of the tokens found by either criterion that both find, without primaries",
        controls="none",
        controlled=False,
        counted="token",
        left_out={COPIES: int(frame["copy"].sum())},
    )


main = main_of(run)

if __name__ == "__main__":
    main()
