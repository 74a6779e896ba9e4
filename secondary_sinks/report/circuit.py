"""The section of the circuit: graphs of what triggers, writes and reads the sinks."""

from collections.abc import Iterator, Mapping

import pandas as pd

from secondary_sinks.display import make_visible
from secondary_sinks.plots import circuit_graph
from secondary_sinks.questions import Answer
from secondary_sinks.questions.circuit import circuits_of_levels, join_edges
from secondary_sinks.report.figures import Panel, panel
from secondary_sinks.report.section import Section
from secondary_sinks.types import SinkCircuit

MOST = 4
"""Most levels with a graph of their own."""
CAPTION = (
    "Layers from left to right. Lines from above: attention without which the sink ends, taken "
    "away with what a token twin has there (trigger). Squares: MLPs that write the sink, or enable "
    "the writer. Lines to the bottom: the heads by which later tokens attend to it. Widths follow "
    "the effects; the data have every edge with its control."
)


def circuit_section(
    answers: Mapping[str, Answer], sinks: pd.DataFrame, n_layers: int
) -> list[Section]:
    """The section, as a list; empty if no part of the circuit was asked or none has an edge."""
    edges = join_edges(answers)
    parts = edges[edges["part"].isin(["trigger", "writer", "reader"])]
    if parts.empty:
        return []
    shown = [*_strongest(parts, sinks, n_layers)]
    if not shown or len(parts[["text_id", "pos"]].drop_duplicates()) > 1:
        shown += circuits_of_levels(parts, n_layers)[:MOST]
    says = "What a sink read, which MLPs wrote it, and which heads read it: each part with its "
    says += "controls and verdicts in a section of its own below."
    panels = tuple(_panel(number, one) for number, one in enumerate(shown))
    return [Section(name="circuit", title="Circuit", says=(says,), panels=panels)]


def _strongest(edges: pd.DataFrame, sinks: pd.DataFrame, n_layers: int) -> Iterator[SinkCircuit]:
    """The secondary sink with an edge that draws most attention."""
    tested = edges[["text_id", "pos"]].drop_duplicates()
    able = sinks[sinks["kind"] == "secondary"].merge(tested, on=["text_id", "pos"])
    for _, one in able.sort_values("mass_max", ascending=False).head(1).iterrows():
        mine = (edges["text_id"] == one["text_id"]) & (edges["pos"] == one["pos"])
        place = f"the strongest sink, {make_visible(one['token'])} at position {one['pos']}"
        life = int(one["l_start"]), int(one["l_end"])
        yield SinkCircuit(name=place, edges=edges[mine], n_layers=n_layers, life=life)


def _panel(number: int, shown: SinkCircuit) -> Panel:
    figure = circuit_graph(shown.edges, shown.n_layers, shown.life)
    title = f"Circuit of {shown.name}"
    return panel(f"circuit-{number}", title, figure, shown.edges, CAPTION)
