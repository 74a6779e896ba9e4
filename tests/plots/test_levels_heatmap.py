import math

import numpy as np
import pandas as pd
import pytest

from secondary_sinks.errors import SinkError
from secondary_sinks.plots import level_heatmap
from secondary_sinks.types import LevelCell, Levels


def frame(*cells):
    """Cells of (l_start, lifetime, count, level)."""
    made = tuple(
        LevelCell(l_start=a, lifetime=b, count=count, n_texts=1, level=level)
        for a, b, count, level in cells
    )
    empty = {"levels": (), "n_sinks": 0, "low": 0.0, "high": 0.0, "n_unassigned": 0}
    empty |= {"n_copies": 0, "n_texts": 0, "same_number": 1.0, "resamples": 0, "confidence": 0.95}
    return Levels(cells=made, **empty).cells_frame()


CELLS = frame((22, 23, 99, 0.0), (22, 22, 40, 0.0), (30, 4, 9, 1.0), (5, 2, 1, math.nan))


def test_colour_is_the_logarithm_of_one_plus_the_count():
    heat = np.asarray(level_heatmap(CELLS).data[0].z, dtype=float)
    assert heat[23, 22] == pytest.approx(math.log(100))
    assert heat[4, 30] == pytest.approx(math.log(10))
    assert np.isfinite(heat).sum() == len(CELLS)


def test_axes_show_the_cells_with_a_margin_within_the_model():
    figure = level_heatmap(CELLS, n_layers=32)
    assert np.asarray(figure.data[0].z).shape == (33, 32)
    assert figure.layout.xaxis.range == (2.5, 31.5)
    assert figure.layout.yaxis.range == (-0.5, 25.5)


def test_each_cell_tells_its_count():
    heat = level_heatmap(CELLS).data[0]
    assert (heat.text[23][22], heat.text[0][0], heat.texttemplate) == ("99", "", "%{text}")


def test_each_level_has_its_number_at_its_most_frequent_pair():
    places = {(a.x, a.y): a.text for a in level_heatmap(CELLS).layout.annotations}
    assert places == {(21.5, 23): "level 0", (29.5, 4): "level 1"}


def test_hover_text_tells_counts_and_level():
    hover = level_heatmap(CELLS).data[0].hovertext
    assert hover[23][22] == ("created at layer 22, lifetime 23<br>99 sinks in 1 text<br>level 0")
    assert hover[2][5].endswith("no level")


def test_the_colour_bar_counts_sinks():
    bar = level_heatmap(CELLS).data[0].colorbar
    assert bar.ticktext == ("1", "3", "10", "30")
    assert bar.tickvals[2] == pytest.approx(math.log(11))


def test_nothing_to_draw_is_an_error():
    with pytest.raises(SinkError, match="no levels to draw"):
        level_heatmap(frame())
    assert isinstance(frame(), pd.DataFrame)
