import math

import pandas as pd
import pytest

from secondary_sinks.errors import SinkError
from secondary_sinks.plots import interval_dots

FRAME = pd.DataFrame(
    [
        ("primary", "zero", 0.25, 0.125, 0.5),
        ("primary", "mean", 0.5, math.nan, math.nan),
        ("<b>rest</b>", "zero", 0.75, 0.5, 1.0),
    ],
    columns=["row", "series", "value", "low", "high"],
)


def test_dots_and_whiskers_are_the_values():
    zero, mean = interval_dots(FRAME, "share").data
    assert list(zero.x) == [0.25, 0.75]
    assert list(zero.error_x.array) == [0.25, 0.25]
    assert list(zero.error_x.arrayminus) == [0.125, 0.25]
    assert zero.customdata[0] == "primary, zero<br>0.25, interval 0.125 to 0.5"
    assert math.isnan(mean.error_x.array[0])
    assert mean.customdata[0].endswith("interval \u2013 to \u2013")


def test_rows_keep_their_order_and_say_what_they_are_literally():
    figure = interval_dots(FRAME, "share")
    assert list(figure.layout.yaxis.ticktext) == ["primary", "&lt;b&gt;rest&lt;/b&gt;"]
    assert figure.data[0].y[0] < figure.data[1].y[0] < figure.data[0].y[1]


def test_the_line_of_the_verdict_is_drawn_where_it_lies():
    (line,) = interval_dots(FRAME, "share", line=0.25).layout.shapes
    assert (line.x0, line.x1) == (0.25, 0.25)
    assert not interval_dots(FRAME, "share", line=None).layout.shapes


def test_nothing_to_draw_is_an_error():
    with pytest.raises(SinkError, match="no dots"):
        interval_dots(FRAME.assign(value=math.nan), "share")
