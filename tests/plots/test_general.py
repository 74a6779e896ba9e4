"""Lines with intervals, clouds of points, counts, and a figure of nothing."""

import itertools

import numpy as np
import pandas as pd
import pytest

from secondary_sinks.errors import SinkError
from secondary_sinks.plots import (
    Look,
    count_bars,
    interval_lines,
    level_heatmaps,
    message_figure,
    scatter_panels,
)
from secondary_sinks.plots.theme import KINDS, ramp
from tests.plots.frames import HOSTILE
from tests.plots.test_levels_heatmap import CELLS, frame

NAN = float("nan")
PANELS = {"norm": ("length", "log"), "cosine": ("cosine", "linear")}


def lines_frame(*groups, x=(0, 1, 2), low=0.5):
    rows = [
        {"panel": panel, "group": group, "x": at, "value": n + 1.0, "low": low, "high": 9.0}
        for panel in PANELS
        for group in groups
        for n, at in enumerate(x)
    ]
    return pd.DataFrame(rows)


def points_frame(*groups, rows=("a",), cols=("b",)):
    return pd.DataFrame(
        [
            {"row": row, "col": col, "group": group, "x": 1.0 + n, "y": 2.0, "label": f"{row}{col}"}
            for row in rows
            for col in cols
            for n, group in enumerate(groups)
        ]
    )


def test_every_panel_has_a_line_and_a_band_for_every_group():
    figure = interval_lines(lines_frame("sink", "control"), PANELS, "layer", marks=[1.5])
    lines = [trace for trace in figure.data if trace.mode == "lines+markers"]
    assert [(line.name, line.showlegend) for line in lines] == [
        ("sink", True),
        ("control", True),
        ("sink", False),
        ("control", False),
    ]
    assert list(lines[0].y) == [1.0, 2.0, 3.0]
    assert (figure.layout.yaxis.type, figure.layout.yaxis2.type) == ("log", "linear")
    assert figure.layout.yaxis2.title.text == "cosine"
    assert len(figure.data) == 3 * len(lines)
    assert [shape.x0 for shape in figure.layout.shapes] == [1.5, 1.5]
    assert lines[0].line.color == KINDS["secondary"]


def test_where_no_interval_is_known_there_is_no_band():
    figure = interval_lines(lines_frame("sink", low=NAN), PANELS, "layer")
    assert len(figure.data) == len(PANELS)


def test_words_on_the_axis_keep_their_order():
    figure = interval_lines(lines_frame("sink", x=("up", "act", "down")), PANELS, "stage")
    assert figure.layout.xaxis.type == "category"
    assert list(figure.data[-1].x) == ["up", "act", "down"]


def test_groups_in_order_have_colours_in_order():
    names = [f"layer {n}" for n in range(9)]
    figure = interval_lines(lines_frame(*names, low=NAN), PANELS, "tokens", ordered=True)
    assert [line.line.color for line in figure.data[:9]] == ramp(9)
    assert len(set(ramp(9))) == 9


def test_a_grid_of_points_has_a_panel_for_every_pair():
    drawn = points_frame("sink", "control", rows=("one", "two"), cols=("x", "y", "z"))
    figure = scatter_panels(drawn, x_title=["p", "q", "r"], ticks=False)
    assert len(figure.data) == 12
    heads = [note.text for note in figure.layout.annotations]
    assert heads == [f"{row}, {col}" for row in ("one", "two") for col in "xyz"]
    assert [trace.showlegend for trace in figure.data] == [True] * 2 + [False] * 10
    assert figure.layout.xaxis5.title.text == "q"
    assert figure.layout.xaxis.showticklabels is False
    assert figure.data[8].customdata == ("twoy",)


def test_titles_of_panels_may_be_given():
    figure = scatter_panels(points_frame("sink"), titles={("a", "b"): "mine: 97%"})
    assert figure.layout.annotations[0].text == "mine: 97&#37;"


def test_the_longest_bar_is_on_top_and_groups_are_stacked():
    counts = pd.DataFrame(
        [
            {"what": "few", "group": "joint", "count": 2},
            {"what": "many", "group": "joint", "count": 5},
            {"what": "many", "group": "paper", "count": 4},
        ]
    )
    figure = count_bars(counts, "tokens")
    assert figure.layout.yaxis.ticktext == ("many", "few")
    assert figure.layout.yaxis.range == (1.5, -0.5)
    assert [(bar.name, list(bar.x), list(bar.y)) for bar in figure.data] == [
        ("joint", [2, 5], [1, 0]),
        ("paper", [4], [0]),
    ]
    assert figure.layout.barmode == "stack"


def test_white_space_is_drawn_in_tokens_alone():
    counts = pd.DataFrame([{"what": " the end", "group": "x", "count": 1}])
    assert count_bars(counts, "x").layout.yaxis.ticktext == (" the end",)
    assert count_bars(counts, "x", tokens=True).layout.yaxis.ticktext == ("'␣the␣end'",)


@pytest.mark.parametrize(
    ("x", "ticks"),
    [((1, 2, 5000), ["1", "10", "100", "1000"]), ((0.0625, 4.0), ["0.5", "1", "2"])],
)
def test_ticks_of_a_logarithmic_axis_are_whole_numbers(x, ticks):
    lines = interval_lines(lines_frame("sink", x=x), PANELS, "x", x_scale="log").layout.xaxis
    points = scatter_panels(points_frame("sink").assign(x=x[-1]), x_scale="log").layout.xaxis
    assert set(ticks) <= set(lines.ticktext)
    assert [float(words) for words in lines.ticktext] == pytest.approx(list(lines.tickvals))
    assert points.type == lines.type == "log"
    assert points.tickvals


def test_at_most_thirty_bars():
    counts = pd.DataFrame({"what": [f"w{n}" for n in range(50)], "group": "x", "count": range(50)})
    figure = count_bars(counts, "tokens")
    assert len(figure.data[0].x) == 30
    assert min(figure.data[0].x) == 20


def test_a_notice_says_it_and_wraps():
    words = "no secondary sink with a control was found, " * 3
    figure = message_figure(words)
    assert figure.layout.annotations[0].text.replace("<br>", " ") == words.strip()
    assert not figure.data
    assert figure.layout.xaxis.visible is False


def test_models_side_by_side_share_their_colours():
    figure = level_heatmaps({"a": (CELLS, 48), "none": (frame(), 12), "b": (CELLS, None)})
    assert [heat.showscale for heat in figure.data] == [True, False, False]
    assert len({heat.zmax for heat in figure.data}) == 1
    assert np.asarray(figure.data[1].z).shape == (13, 12)
    texts = [note.text for note in figure.layout.annotations]
    assert texts[:3] == ["a", "none", "b"]
    assert "no secondary sink" in texts
    assert figure.layout.xaxis.range == (-0.5, 47.5)
    with pytest.raises(SinkError, match="no levels to draw"):
        level_heatmaps({"none": (frame(), 12)})


@pytest.mark.parametrize(
    "draw",
    [
        lambda table: interval_lines(table, PANELS, "x"),
        scatter_panels,
        lambda table: count_bars(table, "x"),
    ],
    ids=["lines", "clouds", "counts"],
)
def test_a_frame_without_rows_or_columns_is_refused(draw):
    with pytest.raises(SinkError, match="no column"):
        draw(pd.DataFrame({"x": [1]}))
    names = ["panel", "group", "x", "value", "low", "high", "row", "col", "y", "label"]
    with pytest.raises(SinkError, match="no row"):
        draw(pd.DataFrame(columns=[*names, "what", "count"]))


@pytest.mark.parametrize("text", HOSTILE)
def test_text_is_drawn_literally(text):
    counts = pd.DataFrame([{"what": text, "group": text, "count": 1}])
    figures = [
        message_figure(text),
        count_bars(counts, "x"),
        scatter_panels(points_frame(text, rows=(text,)).assign(label=text)),
        interval_lines(lines_frame(text, x=(text,)), PANELS, "x"),
        level_heatmaps({text: (CELLS, None)}),
    ]
    for figure in figures:
        written = figure.to_json().replace("<br>", "").replace("<extra></extra>", "")
        for sign in ("<script", "<img", "<b>", "<a ", "<!--"):
            assert sign not in written
            assert sign.replace("<", "\\u003c") not in written


def bands_of(figure):
    return [one for one in figure.data if one.fill == "tonexty"]


def test_bands_of_several_groups_have_outlines_so_that_none_hides_another():
    alone = interval_lines(lines_frame("sink"), PANELS, "layer")
    both = interval_lines(lines_frame("sink", "control"), PANELS, "layer")
    assert {one.line.width for one in bands_of(alone)} == {0}
    assert {one.line.width for one in bands_of(both)} == {1}
    assert len({one.line.color for one in bands_of(both)}) == 2


def test_intervals_of_three_groups_are_whiskers_side_by_side():
    figure = interval_lines(lines_frame("a", "b", "c"), PANELS, "layer")
    assert bands_of(figure) == []
    first = figure.data[:3]
    assert len({line.x[0] for line in first}) == 3
    assert abs(first[1].x[0] - lines_frame("b")["x"].iloc[0]) < 1e-9
    assert all(line.error_y.symmetric is False for line in first)
    words = interval_lines(lines_frame("a", "b", "c", x=("up", "act", "down")), PANELS, "stage")
    assert len(bands_of(words)) == 3 * len(PANELS), "words cannot stand side by side"


def test_groups_may_be_drawn_alike_but_dashed_under_other_names():
    looks = {"two": Look("the second", 0, "dash")}
    figure = interval_lines(lines_frame("one", "two", low=NAN), PANELS, "layer", looks=looks)
    one, two = figure.data[:2]
    assert (one.name, two.name) == ("one", "the second")
    assert one.line.color == two.line.color
    assert (one.line.dash, two.line.dash) == ("solid", "dash")


def test_neighbours_of_a_ramp_can_be_told_apart():
    """Eight layers, in steps of more than a tenth of the way from black to white."""
    colours = [[int(one[i : i + 2], 16) for i in (1, 3, 5)] for one in ramp(8)]
    apart = [
        sum(abs(a - b) for a, b in zip(*pair, strict=True)) for pair in itertools.pairwise(colours)
    ]
    assert min(apart) > 0.1 * 3 * 255


def test_ticks_of_few_layers_are_whole_numbers():
    assert interval_lines(lines_frame("sink"), PANELS, "layer").layout.xaxis.dtick == 1


def test_bars_of_tokens_are_in_quotes_and_the_legend_has_given_names():
    counts = pd.DataFrame([{"what": what, "group": what, "count": 2} for what in (" ", ".")])
    figure = count_bars(counts, "tokens", tokens=True, names={".": "a full stop"})
    assert figure.layout.yaxis.ticktext == ("'␣'", "'.'")
    assert [bar.name for bar in figure.data] == [" ", "a full stop"]
