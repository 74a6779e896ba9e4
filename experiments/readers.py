"""Which heads read secondary sinks, do they read the primary too, and what makes the score?"""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from experiments.command import main_of
from experiments.parts import dot, find_part, over_texts
from experiments.shared import Finding, Observed
from secondary_sinks.circuit import Part, reader_heads
from secondary_sinks.plots import interval_dots, message_figure
from secondary_sinks.questions import levels_in

NAME = "readers"
QUESTION = "Do the heads that read the primary sink also read the secondary ones, and for what?"
PAPER = (
    "Wong et al. 2025 (arXiv 2512.22213) average attention over heads: they do not say which heads "
    "attend to secondary sinks, or whether these are the heads of the primary."
)
METHOD = (
    "One more pass, in the blocks that read each sink. A head reads a token if later queries pay "
    "it on average at least twice their even share and twice the median of its neighbours. The "
    "score of a head on a sink is split into parts that add up: the key's bias, the component of "
    "the token along the primary, the rest of the token, and rotary positions. Verdicts, per "
    "level: most attention beyond the even share comes from heads that also read the primary, and "
    "more of it than from as many heads drawn at random; heads that attend more to the primary "
    "attend more to the sinks (rank correlation, beyond that at control tokens). Exact intervals "
    "over texts, two for each verdict."
)
REFUTATION = (
    "Other heads than those of the primary pay most of it, or as many heads drawn at random pay as "
    "much; or attention to the primary says nothing of attention to the sinks. Where all heads "
    "read the primary, the first claim could not fail and is not decided."
)
CLAIM = "most attention to secondary sinks comes from heads that also read the primary"
SERIES = {
    "share": "heads that read the primary",
    "chance": "as many random heads",
    "control_share": "the same heads, at control tokens",
}
PARTS = {
    "score": "score",
    "score_bias": "bias of the key",
    "score_primary": "component along the primary",
    "score_rest": "rest of the token",
    "score_position": "position",
    "score_length": "length of the key, compared with the control's",
}
COLUMNS = {
    "row": "level of the sinks",
    "series": "whose attention: heads that read the primary; what as many heads drawn at random "
    "have on average; the same heads at the sinks' control tokens",
    "value": "share of the attention beyond the even share, in [0, 1], mean over texts",
    "low": "lower end of its approximate 95 % interval over texts",
    "high": "upper end of it",
    "n_texts": "number of texts",
}
CAPTIONS = {
    "figure": (
        "Share of the attention to sinks beyond the even share that comes from heads which read "
        "the primary in the same block. Means over texts, t intervals. Dotted: one half."
    ),
    "scores": (
        "Mean score of later queries on a sink, before the softmax, and its parts, in the heads "
        "that read it most; the same at the control token, in the same heads. Means over texts."
    ),
}


def run(observed: Observed) -> Finding:
    """Attention and scores of every head on each secondary sink."""
    return find_part(NAME, QUESTION, CLAIM, observed, reader_heads, _draw, COLUMNS, CAPTIONS)


def _draw(part: Part) -> tuple[pd.DataFrame, Mapping[str, go.Figure]]:
    frame = pd.DataFrame(_shares(part), columns=list(COLUMNS))
    if frame["value"].isna().all():
        shares = message_figure("no head pays a sink more than its even share")
    else:
        shares = interval_dots(frame, "share of attention, mean over texts")
    return frame, {"figure": shares, "scores": _scores(part.edges)}


def _shares(part: Part) -> Iterator[dict[str, Any]]:
    for level, rows in levels_in(part.tables["sinks"]):
        for column, words in SERIES.items():
            yield dot(level, words, over_texts(rows, column))


def _scores(edges: pd.DataFrame) -> go.Figure:
    rows = [
        dot(words, series, over_texts(edges[edges["measure"] == measure], column))
        for measure, words in PARTS.items()
        for series, column in (("sinks", "effect"), ("control tokens", "control"))
    ]
    frame = pd.DataFrame(rows)
    if frame["value"].isna().all():
        return message_figure("no head reads a sink")
    return interval_dots(frame, "attention score, mean over texts", line=None)


main = main_of(run)

if __name__ == "__main__":
    main()
