"""Edges as rows, and their means over the texts of a level."""

import math

import pytest

from secondary_sinks.questions.circuit import Edge, by_level, edges_frame


def edge(text_id, pos, effect, level=1.0, control=0.0):
    return Edge(
        text_id=text_id,
        pos=pos,
        token="x",
        kind="secondary",
        level=level,
        part="trigger",
        measure="ended",
        site="attn_out",
        layer=3.0,
        effect=effect,
        control=control,
        unit="share",
    )


def test_a_text_weighs_the_same_however_many_sinks_it_has():
    rows = [edge("a", 1, 1.0), edge("a", 2, 1.0), edge("a", 3, 0.0), edge("b", 1, 0.0)]
    (row,) = by_level(edges_frame(rows)).to_dict("records")
    assert row["effect"] == pytest.approx(1 / 3)
    assert (row["n_sinks"], row["n_texts"]) == (4, 2)
    assert row["low"] < row["effect"] < row["high"]


def test_levels_and_sinks_without_a_level_are_kept_apart():
    rows = [edge("a", 1, 1.0), edge("a", 2, 0.5, level=2.0), edge("a", 3, 0.25, level=math.nan)]
    assert by_level(edges_frame(rows))["effect"].tolist() == [1.0, 0.5, 0.25]


def test_frames_without_rows_have_their_columns():
    frame = edges_frame([])
    assert list(frame)[:5] == ["text_id", "pos", "token", "kind", "level"]
    assert list(by_level(frame))[-2:] == ["n_sinks", "n_texts"]
