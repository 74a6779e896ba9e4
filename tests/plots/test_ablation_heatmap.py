import numpy as np
import pandas as pd
import pytest

from secondary_sinks.errors import SinkError
from secondary_sinks.plots import ablation_heatmap
from secondary_sinks.plots.ablation import MOST_ROWS
from tests.plots.frames import HOSTILE, cell, effects, no_effects


def grid(figure):
    return np.asarray(figure.data[0].z, dtype=float)


def head(figure):
    return figure.layout.annotations[0].text


def test_colour_is_the_share_of_the_sinks_own_mass_that_is_lost():
    frame = pd.DataFrame(
        [cell(0, mass_edited=0.05), cell(1, mass_edited=0.2), cell(2, mass_edited=0.3)]
    )
    np.testing.assert_allclose(grid(ablation_heatmap(frame)), [[0.75, 0.0, -0.5]])


def test_controls_are_in_units_of_their_sinks_mass():
    figure = ablation_heatmap(effects(), role="control")
    np.testing.assert_allclose(grid(figure), [[(0.01 - 0.05) / 0.2, 0.0]])
    assert figure.layout.coloraxis == ablation_heatmap(effects()).layout.coloraxis
    assert (figure.data[0].zmin, figure.data[0].zmax) == (-1, 1)


def test_cells_that_could_not_have_lost_anything_are_grey_and_in_the_legend():
    late = {0: "none", 1: "end", 2: "loss", 3: "loss"}
    frame = pd.DataFrame(
        [cell(layer, mass_edited=0.1, impossible=what) for layer, what in late.items()]
    )
    figure = ablation_heatmap(frame)
    np.testing.assert_array_equal(np.isnan(grid(figure)), [[False, False, True, True]])
    cover, key, marks = figure.data[1:]
    np.testing.assert_array_equal(np.asarray(cover.z, float), [[np.nan, np.nan, 1.0, 1.0]])
    assert (key.name, figure.layout.showlegend) == ("impossible by construction", True)
    assert (marks.name, list(marks.x)) == ("creation layer", [1.5])
    hover = figure.data[0].hovertext[0]
    assert "too late" not in hover[0]
    assert hover[1].endswith("too late to end the sink, which already exists at these layers")
    assert hover[2].endswith("too late to take any attention: after the sink's last layer")
    assert cover.hoverinfo != "skip"
    assert cover.hovertext[0][2].endswith(
        "layer 2: impossible, too late to take any attention: after the sink's last layer"
    )


@pytest.mark.parametrize("n_sinks", [1, 2, 30])
def test_the_legend_is_below_the_layers_however_few_the_rows(n_sinks):
    rows = [cell(0, sink_pos=pos, pos=pos, impossible="loss") for pos in range(n_sinks)]
    rows += [cell(1, sink_pos=pos, pos=pos) for pos in range(n_sinks)]
    figure = ablation_heatmap(pd.DataFrame(rows))
    legend = figure.layout.legend
    assert (legend.y, legend.yref, legend.yanchor) == (0, "container", "bottom")
    assert figure.layout.margin.b >= 48 + 2 * 19, "ticks, a title, and two lines of legend"


def test_tables_that_do_not_say_what_was_impossible_are_drawn_as_before():
    assert len(ablation_heatmap(effects()).data) == 1
    unknown = effects().assign(impossible="unknown")
    assert not np.isnan(grid(ablation_heatmap(unknown))).any()


def test_colour_is_clipped_and_the_hover_text_is_not():
    figure = ablation_heatmap(pd.DataFrame([cell(0, mass_edited=0.9)]))
    assert grid(figure) == [[-1.0]]
    assert "-350.0% lost" in figure.data[0].hovertext[0][0]


def test_hover_text_tells_clean_from_edited():
    text = ablation_heatmap(effects()).data[0].hovertext[0][0]
    for part in ("␣the at 1 in one", "lifetime 2 → 0", "mass 0.2 → 0", "norm 50 → 10"):
        assert part in text
    assert "alignment 0.98 → 0.25" in text
    control = ablation_heatmap(effects(), role="control").data[0].hovertext[0][0]
    assert "control (twin) of the sink at 1" in control


def test_hover_text_tells_what_the_edit_does_to_the_prediction_where_it_was_measured():
    frame = pd.DataFrame([cell(0, kl_at_token=3.184), cell(1, kl_at_token=np.nan)])
    measured, missing = ablation_heatmap(frame).data[0].hovertext[0]
    assert measured.endswith("prediction at the token: KL 3.2 nats")
    assert "KL" not in missing


def test_rows_run_from_the_strongest_sink_down_in_both_maps():
    rows = []
    for pos, mass in ((1, 0.1), (2, 0.4), (3, 0.2)):
        rows.append(cell(0, pos=pos, sink_pos=pos, mass_clean=mass, mass_edited=0.0))
        rows.append(cell(0, "control", pos=pos + 5, sink_pos=pos))
    sinks, controls = (ablation_heatmap(pd.DataFrame(rows), role) for role in ("sink", "control"))
    positions = [
        [int(label.split(" ")[1]) for label in figure.layout.yaxis.ticktext]
        for figure in (sinks, controls)
    ]
    assert positions == [[2, 3, 1], [7, 8, 6]]
    assert head(sinks) == "3 sinks"
    assert sinks.layout.yaxis.range[0] > sinks.layout.yaxis.range[1]


def test_rows_beyond_the_cap_are_left_out_and_that_is_said():
    rows = []
    for pos in range(MOST_ROWS + 5):
        rows.append(cell(0, pos=pos, sink_pos=pos, mass_clean=0.1 + pos / 1000))
        rows.append(cell(0, "control", pos=pos + 100, sink_pos=pos))
    frame = pd.DataFrame(rows)
    sinks, controls = (ablation_heatmap(frame, role) for role in ("sink", "control"))
    assert len(grid(sinks)) == len(grid(controls)) == MOST_ROWS
    assert head(sinks) == "the 30 strongest of 35 sinks"
    assert head(controls) == "30 of 35 controls: those of the strongest sinks"
    assert sinks.layout.yaxis.ticktext[-1].split(" ")[1] == "5"


def test_a_cell_that_was_not_run_is_a_gap():
    frame = pd.DataFrame(
        [cell(0), cell(2), cell(1, pos=2, sink_pos=2, mass_clean=0.1, mass_edited=0)]
    )
    found = grid(ablation_heatmap(frame))
    np.testing.assert_array_equal(np.isnan(found), [[False, True, False], [True, False, True]])


def test_a_sink_without_mass_is_a_gap_and_not_a_zero():
    lost = {"mass_clean": np.nan, "mass_edited": np.nan}
    frame = pd.DataFrame([cell(0), cell(0, pos=2, sink_pos=2, **lost)])
    figure = ablation_heatmap(frame)
    assert np.isnan(grid(figure)[1, 0])
    assert "mass \u2013 → \u2013" in figure.data[0].hovertext[1][0]


def test_the_same_position_in_two_texts_makes_two_rows():
    assert len(grid(ablation_heatmap(effects("one", "two")))) == 2


@pytest.mark.parametrize("token", HOSTILE)
def test_tokens_are_literal(token):
    figure = ablation_heatmap(pd.DataFrame([cell(0, token=token, text_id=token)]))
    hover, label = figure.data[0].hovertext[0][0], figure.layout.yaxis.ticktext[0]
    assert "<" not in hover.replace("<br>", "")
    assert hover.count("<br>") == 5
    assert "<" not in label


@pytest.mark.parametrize("frame", [no_effects(), pd.DataFrame([cell(0, "control", pos=5)])])
def test_nothing_to_draw_is_an_error(frame):
    with pytest.raises(SinkError, match="expected cells with role 'sink'"):
        ablation_heatmap(frame)


@pytest.mark.parametrize("change", [{"edit": "mean"}, {"effect": "total"}])
def test_a_mix_of_edits_or_effects_is_an_error(change):
    with pytest.raises(SinkError, match=next(iter(change))):
        ablation_heatmap(pd.DataFrame([cell(0), cell(0) | change]))
