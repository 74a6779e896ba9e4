"""Which tokens attend to a chosen sink: what `reader_heads` kept, small enough for one page."""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from secondary_sinks.questions import Answer
from secondary_sinks.questions.circuit.reading import MOST_QUERIES
from secondary_sinks.report.embed import json_text
from secondary_sinks.report.strips import in_text, sink_key
from secondary_sinks.report.words import count, quoted

MOST_VALUES = 600_000
"""Numbers on the page, one byte each; further sinks, the weakest, are left out."""


SAYS = (
    "Each token is the more coloured, the more of its attention it pays to the chosen sink; full "
    "colour is the highest share shown. Point at a token, or use the arrow keys, for its number. "
    "There are numbers for {} (of those tested, the ones that draw most attention), for at most "
    f"{MOST_QUERIES:,} tokens after each, at the layers whose heads read it. They are rounded to "
    "half a percentage point, small ones finer; as measured they are in "
    "reader_heads.queries.parquet."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attended:
    """The sinks that can be chosen, for the script of the page."""

    says: str
    data: Markup
    """A list of sinks as JSON: name, key, position, its token and the later ones, and by layer the
    attention that these pay, as base64 of bytes 255 sqrt(a)."""


def attended(
    answers: Mapping[str, Answer], trace: pd.DataFrame, sinks: pd.DataFrame
) -> Attended | None:
    """What the answer to `reader_heads` holds of single queries; None if it was not asked."""
    answer = answers.get("reader_heads")
    table = pd.DataFrame() if answer is None else answer.tables.get("queries", pd.DataFrame())
    if table.empty:
        return None
    found = list(_within_budget(table, trace, sinks))
    return Attended(says=SAYS.format(count(len(found), "sink")), data=json_text(found))


def _within_budget(
    table: pd.DataFrame, trace: pd.DataFrame, sinks: pd.DataFrame
) -> Iterator[dict[str, Any]]:
    """The strongest sinks, as long as their numbers fit."""
    first, left = trace[trace["layer"] == trace["layer"].min()], MOST_VALUES
    ranked = sinks.sort_values("mass_max", ascending=False)
    parts = dict(iter(table.groupby(["text_id", "pos"])))
    for place in zip(ranked["text_id"], ranked["pos"], strict=True):
        if place not in parts:
            continue
        left -= 2 * len(parts[place])
        if left < 0:
            return
        tokens = first[first["text_id"] == place[0]].sort_values("pos")["token"]
        yield _sink(parts[place], *place, tokens.tolist())


def _sink(own: pd.DataFrame, text_id: str, pos: int, tokens: list[str]) -> dict[str, Any]:
    return {
        "key": sink_key(text_id, pos),
        "name": f"{quoted(tokens[pos])} at position {pos} of {quoted(text_id)}",
        "pos": pos,
        "tokens": [*map(in_text, tokens[pos : int(own["query"].max()) + 1])],
        "left": len(tokens) - 1 - int(own["query"].max()),
        "layers": [
            {
                "layer": int(str(layer)),
                "head": int(part["head"].iloc[0]),
                "mean": _as_bytes(part["attention"]),
                "top": _as_bytes(part["attention_head"]),
            }
            for layer, part in own.groupby("layer")
        ],
    }


def _as_bytes(attention: "pd.Series[float]") -> str:
    """Shares as one byte each: 255 sqrt(a), finest where they are small."""
    steps = np.rint(255 * np.sqrt(attention.to_numpy().clip(0, 1)))
    return base64.b64encode(steps.astype(np.uint8).tobytes()).decode()
