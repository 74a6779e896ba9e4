import numpy as np
import pandas as pd
import pytest

from secondary_sinks.plots import layer_profiles
from secondary_sinks.plots.profiles import FEW, PANELS
from tests.plots.frames import LAYERS, PLAIN, no_sinks, sink, sinks, trace


def lines(figure, group, name):
    """The traces of a group in one panel: median last."""
    axis = "y" + str(list(PANELS).index(name) + 1).replace("1", "")
    return [t for t in figure.data if t.legendgroup == group and (t.yaxis or "y") == axis]


@pytest.mark.parametrize("name", PANELS)
def test_ordinary_tokens_are_a_median_with_a_band_from_the_frame(name):
    frame = trace("one", "two")
    low, high, median = lines(layer_profiles(frame, sinks_of("one", "two")), "ordinary", name)
    ordinary = frame[frame["pos"] > 1].groupby("layer")[name]
    for line, share in ((low, 0.1), (median, 0.5), (high, 0.9)):
        np.testing.assert_allclose(line.y, ordinary.quantile(share))
        np.testing.assert_array_equal(line.x, np.arange(LAYERS))
    assert high.fill == "tonexty"


def test_few_sinks_are_drawn_one_by_one_under_their_median():
    each, median = lines(
        layer_profiles(trace("one", "two"), sinks_of("one", "two")), "secondary", "mass"
    )
    assert list(each.y) == [*[0.25] * LAYERS, None, *[0.25] * LAYERS, None]
    assert each.customdata[0] == "␣the at 1 in one"
    np.testing.assert_allclose(median.y, 0.25)
    assert median.name == "secondary (2)"


def test_many_sinks_are_drawn_as_a_band():
    ids = [f"t{i}" for i in range(FEW + 1)]
    drawn = lines(layer_profiles(trace(*ids), sinks_of(*ids)), "secondary", "norm_ratio")
    assert [line.fill for line in drawn] == [None, "tonexty", None]


def test_one_sink_is_its_own_median():
    assert len(lines(layer_profiles(trace(), sinks()), "primary", "mass")) == 1


def test_primary_like_sinks_are_a_group_of_their_own():
    table = sinks(sink(pos=0, kind="primary"), sink(kind="primary_like"))
    (line,) = lines(layer_profiles(trace(), table), "primary_like", "mass")
    assert line.name == "primary-like (1)"
    assert not lines(layer_profiles(trace(), table), "secondary", "mass")


def test_without_sinks_ordinary_tokens_are_drawn():
    figure = layer_profiles(trace(), no_sinks())
    assert {line.legendgroup for line in figure.data} == {"ordinary"}
    assert sum(bool(line.showlegend) for line in figure.data) == 1


def test_a_sink_of_another_text_marks_nothing():
    figure = layer_profiles(trace(), sinks(sink(text_id="other")))
    assert {line.legendgroup for line in figure.data} == {"ordinary"}


def test_missing_values_leave_gaps():
    frame = trace()
    frame.loc[(frame["pos"] == 1) & (frame["layer"] == 0), "alignment_centred"] = np.nan
    (line,) = lines(layer_profiles(frame, sinks()), "secondary", "alignment_centred")
    assert np.isnan(line.y[0])
    np.testing.assert_allclose(line.y[1:], 0.99)


def test_axes_say_what_they_show():
    layout = layer_profiles(trace(), sinks()).layout
    assert [layout[axis].title.text for axis in ("yaxis", "yaxis2", "yaxis3")] == [
        title for title, _ in PANELS.values()
    ]
    assert (layout.yaxis.type, layout.yaxis3.type) == ("log", "log")
    assert layout.xaxis3.title.text == "layer"


def test_the_frames_stay_as_they_were():
    frame, table = trace(), sinks()
    before = frame.copy(), table.copy()
    layer_profiles(frame, table)
    pd.testing.assert_frame_equal(frame, before[0])
    pd.testing.assert_frame_equal(table, before[1])


def sinks_of(*text_ids):
    """A primary and a secondary sink in each text."""
    rows = [
        sink(text_id=text_id, pos=pos, kind=kind)
        for text_id in text_ids or (PLAIN,)
        for pos, kind in ((0, "primary"), (1, "secondary"))
    ]
    return sinks(*rows)
