"""What must a token have read to become a sink, unlike the same token elsewhere?"""

import pandas as pd
import plotly.graph_objects as go

from experiments.command import main_of
from experiments.shared import Finding, Observed, unanswered, why_no_sinks
from secondary_sinks.plots import count_bars, message_figure
from secondary_sinks.questions import (
    FEW_HEADS,
    Cost,
    levels_in,
    trigger,
    trigger_cost,
    verdicts_on,
)
from secondary_sinks.statistics import HALF

NAME = "triggers"
QUESTION = "Do few attention heads trigger a secondary sink, and which layer, head and token?"
PAPER = (
    "Wong et al. 2025 (arXiv 2512.22213) say that an MLP writes a secondary sink, and not why it "
    "does so at this token and not at the same token elsewhere."
)
METHOD = (
    "Trigger (`secondary_sinks.questions.trigger`). Attention outputs up to the creation layer "
    "are exchanged between a sink and its token twins: the same token elsewhere, where it is not "
    "a sink. They *trigger* the sink if a twin's end it (by their mean, and by most single twins) "
    "and if the sink's make most twins sinks. First all of them, then layer by layer, then the "
    "heads of the layers that are needed. Then the sink's attention to single tokens is cut: for "
    "each needed head, to the 16 tokens with the largest attention. Sets are taken by effect "
    "until they suffice (16 at most), then every member that can be left out is. Controls: "
    "attention outputs of random ordinary tokens, put into the twin; all other layers up to the "
    "creation layer, replaced together; as many random other heads or tokens. Verdicts are about "
    "all secondary sinks: means over texts with exact intervals, corrected for all claims of this "
    "page; the layer and the head are named by the same sinks, which counts twice. Without "
    "learned positions a sink and its twin enter the first layer alike, so that attention as a "
    "whole is the trigger by construction: then only its parts are asked for."
)
REFUTATION = (
    "With a twin's outputs at few heads (a fourth of those up to its layer, 16 at most) the sink "
    "stays, or it ends with those of random heads too: then many heads trigger it together, or "
    "none. A sink whose token occurs as an ordinary one neither in its own text nor in a free one "
    "(which no other text is tested with) cannot be tested: it is left out, and counted."
)
CLAIM = f"secondary sinks end with what a twin has at {FEW_HEADS}"
COLUMNS = {
    "level": "level of the sinks",
    "layer": "layer of the attention output, 0-based",
    "n_needed": "sinks that end with the attention output of this layer of most of their twins",
    "n_enough": "sinks whose output of this layer makes most of their twins sinks",
    "n_sinks": "secondary sinks with a twin",
    "n_texts": "texts with such a sink",
}
CAPTIONS = {
    "figure": (
        "Secondary sinks by layer of the attention output that is exchanged with that of their "
        "token twins: needed, if the twin's ends the sink; enough, if the sink's makes twins sinks."
    )
}


def run(observed: Observed) -> Finding:
    """The trigger of each secondary sink, and the verdicts on all of them together."""
    if why := why_no_sinks(observed):
        return unanswered(NAME, QUESTION, CLAIM, why, COLUMNS)
    given = (observed.model, observed.traces, observed.sinks)
    answer = trigger(*given, progress=observed.progress(NAME))
    table = answer.tables["triggers"]
    table = table[table["kind"] == "secondary"].reset_index(drop=True)
    as_a_whole, few, *named = verdicts_on("secondary sinks", table)
    edges = answer.cells[answer.cells["kind"] == "secondary"].reset_index(drop=True)
    frame = _by_layer(edges)
    return Finding(
        name=NAME,
        question=QUESTION,
        frame=frame,
        columns=COLUMNS,
        captions=CAPTIONS,
        figure=_figure(frame),
        verdict=few,
        further=(*named, as_a_whole),
        tables={"sinks": table, "edges": edges, "sizes": answer.tables["sizes"]},
    )


def _by_layer(edges: pd.DataFrame) -> pd.DataFrame:
    """Number of sinks by level and layer whose outputs there are needed, and are enough."""
    at = edges[(edges["site"] == "attn_out") & edges["layer"].notna()]
    rows = [
        {
            "level": name,
            "layer": int(float(str(layer))),
            "n_needed": int((mine.loc[mine["measure"] == "ended", "effect"] > HALF).sum()),
            "n_enough": int((mine.loc[mine["measure"] == "created", "effect"] > HALF).sum()),
            "n_sinks": len(mine[["text_id", "pos"]].drop_duplicates()),
            "n_texts": mine["text_id"].nunique(),
        }
        for name, part in levels_in(at)
        for layer, mine in part.groupby("layer")
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _figure(frame: pd.DataFrame) -> go.Figure:
    """Sinks by layer, as bars; layers without any are left out."""
    names = {"n_needed": "needed", "n_enough": "enough"}
    rows = frame.melt(["layer"], list(names), var_name="group", value_name="count")
    summed = rows.groupby(["layer", "group"], as_index=False)["count"].sum()
    drawn = summed[summed["count"] > 0].replace({"group": names})
    if drawn.empty:
        return message_figure("the attention output of no single layer is needed or enough")
    return count_bars(drawn.assign(what="layer " + drawn["layer"].astype(str)), "secondary sinks")


def cost(observed: Observed) -> Cost:
    """The tests of layers; those of heads and source tokens depend on what they show."""
    return trigger_cost(observed.traces, observed.sinks)


main = main_of(run)

if __name__ == "__main__":
    main()
