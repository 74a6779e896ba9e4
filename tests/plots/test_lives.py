"""What a sink draws before its creation and after its end, in multiples of its expected share."""

import math

import pandas as pd
import pytest

from secondary_sinks import detect
from secondary_sinks.plots import attention_around_life, life_lines, life_of_sink_lines
from secondary_sinks.testing.planted import Plant
from tests.questions.gardens import PRIMARY, Garden


def table_of(garden):
    trace = pd.concat([one.to_frame() for one in garden.traces])
    return attention_around_life(trace, detect(garden.traces).to_frame())


def test_attention_keeps_to_the_life_of_a_sink_that_is_attended_for_its_direction():
    table = table_of(Garden(Plant(pos=20, forming=(3,), dies=6), n_texts=2))
    born, ended = (table[table["panel"] == name].set_index("x") for name in ("l_start", "l_end"))
    assert (born.loc[[-2, -1], "value"] < 1.5).all()
    assert (born.loc[[0, 1, 2], "value"] > 2).all()
    assert ended.loc[1, "value"] < 1.5 < 2 < ended.loc[0, "value"]
    assert born["n_sinks"].tolist() == [2] * len(born)
    assert {"x", "y"} <= set(life_lines(table).data[0].to_plotly_json())


def test_attention_before_and_after_the_life_is_shown_where_it_is_of_another_cause():
    """Heads attend to the token for its mark: a layer before and after it draws what it does."""
    table = table_of(Garden(Plant(pos=20, forming=(3,), dies=6), n_texts=2, by_marks=True))
    assert table["value"].to_numpy() == pytest.approx(table["value"].iloc[0], rel=0.2)
    assert (table["value"] > 2).all()


def test_a_hidden_end_is_no_end():
    table = table_of(Garden(Plant(pos=20, forming=(3,)), n_texts=1))
    assert set(table["panel"]) == {"l_start"}
    assert len(life_lines(table).layout.annotations) == 0


@pytest.mark.parametrize("layer", [1, 3, 4, 6])
def test_the_words_at_the_creation_layer_stand_below_the_legend(layer):
    table = pd.DataFrame({"panel": "mass", "group": "secondary", "x": range(8), "value": 0.1})
    table = pd.concat([table, table.assign(panel="norm_ratio", value=[0.4, 3.0] * 4)])
    figure = life_of_sink_lines(table.assign(low=math.nan, high=math.nan), layer, "created at")
    (words,) = [one for one in figure.layout.annotations if one.text == "created at"]
    inside = figure.layout.height - figure.layout.margin.t - figure.layout.margin.b
    assert (figure.layout.legend.y - words.y) * inside > 15, "pixels: one line of words"
    assert figure.layout.legend.y * inside + 20 < inside + figure.layout.margin.t, "not cut off"


def test_ticks_of_a_logarithmic_axis_are_whole_numbers_that_one_can_read():
    table = pd.DataFrame({"panel": "l_start", "group": "secondary", "x": range(2)})
    figure = life_lines(table.assign(value=[0.4, 3.0], low=[0.3, 2.0], high=[0.5, 8.0]))
    assert [*figure.layout.yaxis.ticktext] == ["0.1", "0.2", "0.5", "1", "2", "5"]


def test_without_secondary_sinks_the_table_is_empty():
    table = table_of(Garden(primary=PRIMARY, n_texts=1))
    assert table.empty
    assert "value" in table
