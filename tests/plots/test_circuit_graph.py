"""The graph of a circuit draws each edge once, in the finest detail that was tested."""

import math

import pandas as pd
import pytest

from secondary_sinks.errors import SinkError
from secondary_sinks.plots import circuit_graph
from tests.plots.frames import HOSTILE

NAN = math.nan


def edge(part, measure, layer, effect, head=NAN, source=NAN, token="", control=NAN):
    row = {"part": part, "measure": measure, "layer": layer, "head": head, "effect": effect}
    return row | {"source_pos": source, "source_token": token, "control": control}


WRITES = edge("writer", "writes", 5.0, 1.0)
ENABLES = edge("writer", "enables", 3.0, 0.6)
READS = [
    edge("reader", "attention", 7.0, 0.9 - 0.02 * head, head=float(head)) for head in range(20)
]
LAYER = edge("trigger", "ended", 3.0, 0.8)
HEAD = edge("trigger", "ended", 3.0, 0.7, head=11.0)
SOURCES = [
    edge("trigger", "ended", 3.0, 1.0, 11.0, 4.0, "a", control=0.25),
    edge("trigger", "ended_in_set", 3.0, 1.0, 11.0, 4.0, "a"),
    edge("trigger", "ended", 3.0, 0.5, 11.0, 2.0, "b"),
    edge("trigger", "ended", 3.0, 0.0, 11.0, 9.0, "c"),
]


def drawn(*edges, **options):
    names = ("trigger", "reader", "writer", "enabler", "a sink at these layers")
    figure = circuit_graph(pd.DataFrame(edges), 12, **options)
    return figure, {name: [one for one in figure.data if one.name == name] for name in names}


def test_source_tokens_are_rows_in_their_order_and_what_does_nothing_is_left_out():
    figure, parts = drawn(LAYER, HEAD, *SOURCES, WRITES, life=(5, 9))
    assert list(figure.layout.yaxis.ticktext) == ["later tokens", "the sink", "a 4", "b 2"]
    assert [one.y for one in parts["trigger"]] == [(2.0, 1.0), (3.0, 1.0)]
    assert "ends 1.00<br>control 0.25" in parts["trigger"][0].hovertext
    assert [one.line.width for one in parts["trigger"]] == [7.0, 4.0]
    assert parts["a sink at these layers"][0].x == (5, 9)


def test_without_source_tokens_heads_are_drawn_and_without_heads_layers():
    figure, parts = drawn(LAYER, HEAD)
    assert list(figure.layout.yaxis.ticktext) == ["later tokens", "the sink", "earlier tokens"]
    assert [one.hovertext for one in parts["trigger"]] == [
        "layer 3, head 11<br>reads earlier tokens: ends 0.70"
    ]
    assert len(drawn(LAYER)[1]["trigger"]) == 1


def test_writers_and_enablers_are_marks_and_the_strongest_readers_are_lines():
    _, parts = drawn(WRITES, ENABLES, *READS)
    assert (list(parts["writer"][0].x), list(parts["enabler"][0].x)) == ([5.0], [3.0])
    assert len(parts["reader"]) == 16
    places = [one.x[0] for one in parts["reader"]]
    assert len(set(places)) == 16
    assert max(abs(x - 7.0) for x in places) < 0.5


def test_means_of_a_level_have_no_source_tokens():
    frame = pd.DataFrame([LAYER, WRITES]).drop(columns=["source_pos", "source_token"])
    assert len(circuit_graph(frame, 12).data) == 2


@pytest.mark.parametrize("token", HOSTILE[:3])
def test_hostile_tokens_are_drawn_as_they_are(token):
    figure, parts = drawn(edge("trigger", "ended", 3.0, 1.0, 1.0, 4.0, token))
    assert "<" not in figure.layout.yaxis.ticktext[2]
    assert "<" not in parts["trigger"][0].hovertext.replace("<br>", "")


def test_nothing_to_draw_is_said():
    with pytest.raises(SinkError, match="has no row"):
        circuit_graph(pd.DataFrame([WRITES]).iloc[:0], 12)
    with pytest.raises(SinkError, match="no column 'head'"):
        circuit_graph(pd.DataFrame([WRITES]).drop(columns="head"), 12)
