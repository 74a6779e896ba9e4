import math
from dataclasses import replace

import pytest

from secondary_sinks.errors import SinkError
from secondary_sinks.plots import layer_effect_bars
from secondary_sinks.plots.theme import layer_axis
from secondary_sinks.types import LayerEffect


def effect(layer, lost, low, high):
    return LayerEffect(
        layer=layer,
        lost=lost,
        low=low,
        high=high,
        sinks_lost=lost + 0.1,
        controls_lost=0.1,
        removed=0.5,
        removed_low=0.25,
        removed_high=0.75,
        prolonged=0.25,
        n_sinks=7,
        n_unmatched=0,
        n_texts=3,
    )


def test_bars_and_whiskers_are_the_effects():
    (bars,) = layer_effect_bars([effect(0, 0.75, 0.5, 1.0), effect(2, -0.25, -0.5, 0.0)]).data
    assert list(bars.x) == [0, 2]
    assert list(bars.y) == [0.75, -0.25]
    assert list(bars.error_y.array) == [0.25, 0.25]
    assert list(bars.error_y.arrayminus) == [0.25, 0.25]
    assert bars.customdata[0] == (
        "layer 0: 75.0% lost<br>interval 50% to 100%<br>"
        "sinks lose 85.0%, controls 10.0%<br>"
        "ends 50% of the sinks, prolongs 25%<br>7 sinks in 3 texts"
    )


def test_layers_at_which_nothing_was_possible_are_hatched_and_later_ones_drawn_apart():
    able, late = effect(0, 0.75, 0.5, 1.0), effect(1, 0.25, 0.1, 0.5)
    gone = [
        replace(effect(layer, math.nan, math.nan, math.nan), n_sinks=0) for layer in (0, 1, 2, 3)
    ]
    figure = layer_effect_bars([able, *gone[1:]], [gone[0], late, *gone[2:]], line=0.1)
    assert [shape.y0 for shape in figure.layout.shapes] == [0.1]
    names = {trace.name: list(trace.x) for trace in figure.data}
    assert names == {
        "can end the sink": [0],
        "can only weaken it": [1],
        "impossible by construction": [2, 3],
    }
    assert figure.data[-1].marker.pattern.shape == "/"
    assert figure.layout.showlegend


def test_without_an_interval_there_is_a_bar_and_no_whisker():
    (bars,) = layer_effect_bars([effect(0, 0.75, math.nan, math.nan)]).data
    assert list(bars.y) == [0.75]
    assert math.isnan(bars.error_y.array[0])
    assert "interval \u2013 to \u2013" in bars.customdata[0]


def test_nothing_to_draw_is_an_error():
    with pytest.raises(SinkError, match="no bars"):
        layer_effect_bars([])


@pytest.mark.parametrize("n_layers", [1, 12, 30, 64, 128, 700])
def test_a_layer_axis_has_few_whole_ticks(n_layers):
    axis = layer_axis(n_layers)
    assert isinstance(axis["dtick"], int)
    assert n_layers / axis["dtick"] <= 14
