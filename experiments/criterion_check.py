"""Do the paper's criterion and ours find the same sinks, and where not, why?"""

import pandas as pd

from experiments.command import main_of
from experiments.shared import Finding, Observed, judged, unanswered
from secondary_sinks import SinkTable, Trace, Verdict, detect
from secondary_sinks.detection import compare, criteria_frame
from secondary_sinks.plots import count_bars
from secondary_sinks.statistics import share_over_texts

NAME, QUESTION = "criterion_check", "Do the paper's criterion and ours find the same sinks?"
PAPER = (
    "The paper's scripts (Wong et al. 2025, arXiv 2512.22213) call a token a sink whose residual "
    "has a raw cosine beyond 0.9 with the primary's. Ours asks for three signs at once: aligned "
    "(centred on the typical token), outlying, and attended. Claim to check: on this model the "
    "two agree."
)
METHOD = (
    "Every token but the primaries that either criterion calls a sink. For a token that only the "
    "paper's finds: which of our tests fails most often at the layers where it is one for the "
    "paper. For a token that only ours finds: what the paper's rule misses it by. Verdict: the "
    "share of these tokens that both find, over texts. A wrong test is not told by this, only a "
    "different one: `docs/plants.md` measures both where the truth is known."
)
REFUTATION = "Most tokens that one of them finds, the other does not."
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
    "token": "its string",
    "found": "both, paper (only) or joint (only)",
    "reason": "why the other criterion does not find it; agreement for both",
    "overlap": "share of the layers of either at which both call it a sink, in [0, 1]",
    "l_start_paper": "creation layer by the paper's criterion; NaN where it is none",
    "l_start_joint": "creation layer by ours",
    "lifetime_paper": "layers at which it is a sink for the paper",
    "lifetime_joint": "for ours",
}
CAPTIONS = {
    "figure": "Tokens by why the criteria differ; the colour says which one finds them.",
}


def run(observed: Observed) -> Finding:
    """One row per token that is a sink by either criterion, without primaries."""
    paper = detect(observed.traces, observed.sinks.thresholds, criterion="paper")
    parts = [_rows(observed, trace, paper) for trace in observed.traces]
    frame = pd.concat(parts, ignore_index=True)[list(COLUMNS)]
    if frame.empty:
        why = "neither criterion finds a sink besides primaries, so there is nothing to compare"
        return unanswered(NAME, QUESTION, CLAIM, why, COLUMNS)
    counts = frame.groupby(["reason", "found"]).size().rename("count").reset_index()
    return Finding(
        name=NAME,
        question=QUESTION,
        frame=frame,
        columns=COLUMNS,
        captions=CAPTIONS,
        figure=count_bars(counts.rename(columns={"reason": "what", "found": "group"}), "tokens"),
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
        return "outside the layers that the paper looks at"
    if int(tests["pos"].iloc[0]) < max(primaries):
        return "before the paper's primary"
    return "raw cosine with the paper's primary too low"


def _verdict(frame: pd.DataFrame) -> Verdict:
    agree = (frame["found"] == "both").astype(float)
    number = frame["found"].value_counts()
    apart = frame[frame["found"] != "both"]["reason"].value_counts()
    reasons = ", ".join(f"{reason} ({count})" for reason, count in apart.items())
    return judged(
        CLAIM,
        share_over_texts(agree, frame["text_id"].tolist()),
        f"both find {number.get('both', 0)} token(s), only the paper's {number.get('paper', 0)}, "
        f"only ours {number.get('joint', 0)}" + (f": {reasons}" if reasons else ""),
        statistic="share of tokens found by either that both find, primaries left out",
        controls="none",
        controlled=False,
    )


main = main_of(run)

if __name__ == "__main__":
    main()
