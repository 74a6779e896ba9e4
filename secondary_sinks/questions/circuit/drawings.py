"""Figures of readers, function and eviction, as data."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pandas as pd

from secondary_sinks.questions.answer import Answer
from secondary_sinks.questions.question import Drawing, Shown, one_drawing
from secondary_sinks.questions.writers import levels_in
from secondary_sinks.statistics import Interval, mean_over_texts

DOTS = ("row", "series", "value", "low", "high", "n_texts")
LINES = ("panel", "group", "x", "value", "low", "high", "loss_rise", "n_texts")
SHARES = {
    "share": "heads that read the primary",
    "chance": "as many random heads",
    "control_share": "the same heads, at control tokens",
}
SCORES = {
    "score": "score",
    "score_bias": "bias of the key",
    "score_primary": "component along the primary",
    "score_rest": "rest of the token",
    "score_position": "position",
    "score_length": "length of the key, compared with the control's",
}
PANELS = {
    "attention": ("KL without<br>the attention", "linear"),
    "value": ("KL without<br>the value", "linear"),
    "mean_value": ("KL with the<br>mean value", "linear"),
}
KEYS = {
    ("secondary", "sink"): "secondary sinks",
    ("secondary", "ordinary"): "ordinary keys of equal attention",
    ("primary", "sink"): "the primary",
}


def reader_figures(answer: Answer, shown: Shown) -> list[Drawing]:
    """Whose attention the sinks get, and what makes the scores of the heads that read them."""
    shares = [
        _dot(level, words, _over_texts(rows, column))
        for level, rows in levels_in(answer.tables["sinks"])
        for column, words in SHARES.items()
    ]
    edges = answer.cells
    scores = [
        _dot(words, series, _over_texts(edges[edges["measure"] == measure], column))
        for measure, words in SCORES.items()
        for series, column in (("sinks", "effect"), ("control tokens", "control"))
    ]
    return [
        *_dots(
            "readers",
            "Heads of the primary",
            "Share of the attention to sinks beyond the even share that comes from heads which "
            "read the primary in the same block. Means over texts, t intervals. Dotted: one half.",
            shares,
            {"axis": "share of attention, mean over texts"},
        ),
        *_dots(
            "scores",
            "What makes the score",
            "Mean score of later queries on a sink, before the softmax, and its parts, in the "
            "heads that read it most; the same at the control token, in the same heads. Means over "
            "texts, t intervals.",
            scores,
            {"axis": "attention score, mean over texts", "line": None},
        ),
    ]


def function_figures(answer: Answer, shown: Shown) -> list[Drawing]:
    """How much later predictions change, by distance from the sink."""
    frame = pd.DataFrame(_by_distance(answer.tables["distance"]), columns=list(LINES))
    if frame.empty:
        return []
    caption = (
        "How much later predictions change (KL, nats) when later queries get no attention or no "
        "value from a token, by distance from it. Means over texts, bands t intervals."
    )
    options = {"panels": PANELS, "x_title": "distance from the sink, in tokens", "height": 130}
    title = "What later tokens lose"
    return one_drawing("lines", "function", title, caption, frame, options=options)


def eviction_figures(answer: Answer, shown: Shown) -> list[Drawing]:
    """Rise of the loss for each cache."""
    effects = answer.effects
    rows = effects.assign(
        row=effects["cache"] + ": " + effects["keys"],
        series=effects["cache"],
        value=effects["rise"],
    )
    caption = (
        "Rise of the loss as a share of the clean loss when keys are dropped from the cache, and "
        "when only these and a recent window are kept. Medians over texts, exact intervals that "
        "are not corrected for several rows."
    )
    options = {"axis": "rise of the loss, as a share of it", "line": 0.0}
    return _dots("eviction", "Keys dropped and kept", caption, rows.to_dict("records"), options)


def _dots(
    name: str, title: str, caption: str, rows: list[dict[Any, Any]], options: dict[str, Any]
) -> list[Drawing]:
    """A drawing of dots; none without a value."""
    frame = pd.DataFrame(rows, columns=list(DOTS))
    if frame["value"].isna().all():
        return []
    return one_drawing("dots", name, title, caption, frame, options=options)


def _over_texts(table: pd.DataFrame, column: str) -> Interval:
    return mean_over_texts(table[column].astype(float), table["text_id"].tolist())


def _dot(row: str, series: str, found: Interval) -> dict[str, Any]:
    return {"row": row, "series": series, **asdict(found)}


def _by_distance(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    longest = table.groupby("nearest")["farthest"].max()
    for taken in PANELS:
        for (kind, keys), group in KEYS.items():
            rows = table[(table["taken"] == taken) & (table["keys"] == keys)]
            for nearest, part in rows[rows["kind"] == kind].groupby("nearest"):
                found = _over_texts(part, "kl")
                yield {
                    "panel": taken,
                    "group": group,
                    "x": f"{nearest} to {longest[nearest]}",
                    **asdict(found),
                    "loss_rise": _over_texts(part, "loss_rise").value,
                }
