"""Are secondary sinks no-ops, or do their values tell later tokens something?"""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from experiments.command import main_of
from experiments.parts import find_part, over_texts
from experiments.shared import Finding, Observed
from secondary_sinks.circuit import Part, function_cost
from secondary_sinks.circuit import function as ask
from secondary_sinks.plots import interval_lines, message_figure
from secondary_sinks.questions import Cost

NAME = "function"
QUESTION = "Are secondary sinks no-ops, or do their values tell later tokens something?"
PAPER = (
    "Wong et al. 2025 (arXiv 2512.22213) call these tokens sinks, as others call tokens that take "
    "attention and give nothing; their scripts do not measure what their values give."
)
METHOD = (
    "One sink at a time, in the blocks that read it, for all later queries: they do not see the "
    "sink; or they attend to it and get nothing; or they get the mean value of ordinary tokens "
    "instead. Everything after the sink is run again. The same is done with ordinary keys drawn at "
    "random until later queries pay them as much attention, and with the primary. A sink is a "
    "no-op if a head writes less for it, per unit of attention, than for the ordinary keys, and "
    "later predictions (KL) change less without its value than without theirs; a broadcast if "
    "both are more. Verdict, per level, with exact intervals over texts."
)
REFUTATION = (
    "Most sinks deliver more than ordinary keys of equal attention, or predictions depend more on "
    "their values. A sink with more attention than all ordinary keys together has no control: it "
    "is left out, and counted."
)
CLAIM = "secondary sinks are no-ops: they take attention and tell less than ordinary keys would"
KEYS = {
    ("secondary", "sink"): "secondary sinks",
    ("secondary", "ordinary"): "ordinary keys of equal attention",
    ("primary", "sink"): "the primary",
}
PANELS = {
    "attention": ("KL without the attention", "linear"),
    "value": ("KL without the value", "linear"),
    "mean_value": ("KL with the mean value", "linear"),
}
COLUMNS = {
    "panel": "what later queries do not get: attention, value, or mean_value (they get the mean "
    "value of ordinary tokens instead of it)",
    "group": "whose: secondary sinks, ordinary keys of equal attention, or the primary",
    "x": "distance of the position that predicts from the sink, in tokens",
    "value": "KL(clean || cut) in nats, mean over positions, then over texts",
    "low": "lower end of its approximate 95 % interval over texts",
    "high": "upper end of it",
    "loss_rise": "rise of the loss in nats, mean over texts",
    "n_texts": "number of texts",
}
CAPTIONS = {
    "figure": (
        "How much later predictions change (KL, nats) when later queries get no attention or no "
        "value from a token, by distance from it. Means over texts, bands t intervals."
    )
}


def run(observed: Observed) -> Finding:
    """Cut off the attention to one sink at a time, or its value, and run the rest again."""
    return find_part(NAME, QUESTION, CLAIM, observed, ask, _draw, COLUMNS, CAPTIONS)


def _draw(part: Part) -> tuple[pd.DataFrame, Mapping[str, go.Figure]]:
    frame = pd.DataFrame(_by_distance(part.tables["distance"]), columns=list(COLUMNS))
    if frame.empty:
        return frame, {"figure": message_figure("no position comes after a sink")}
    return frame, {"figure": interval_lines(frame, PANELS, "distance from the sink, in tokens")}


def _by_distance(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    longest = table.groupby("nearest")["farthest"].max()
    for taken in PANELS:
        for (kind, keys), group in KEYS.items():
            rows = table[(table["taken"] == taken) & (table["keys"] == keys)]
            rows = rows[rows["kind"] == kind]
            for nearest, part in rows.groupby("nearest"):
                found = over_texts(part, "kl")
                yield {
                    "panel": taken,
                    "group": group,
                    "x": f"{nearest} to {longest[nearest]}",
                    "value": found.value,
                    "low": found.low,
                    "high": found.high,
                    "loss_rise": over_texts(part, "loss_rise").value,
                    "n_texts": found.n_texts,
                }


def cost(observed: Observed) -> Cost:
    """What the cuts cost, at most."""
    return function_cost(observed.traces, observed.sinks)


main = main_of(run)

if __name__ == "__main__":
    main()
