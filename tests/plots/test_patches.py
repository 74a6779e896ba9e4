import numpy as np
import pandas as pd
import pytest

from secondary_sinks.errors import SinkError
from secondary_sinks.plots import patch_heatmap, patch_table
from tests.plots import frames

LAYERS = 2


def row(patch, where, layers, lifetime, donor="sink", sink_pos=1, mass=0.2):
    """One cell of sufficiency. Sinks live for 4 layers."""
    clean = 4 if patch == "noising" else 0
    return {
        "text_id": frames.PLAIN,
        "sink_pos": sink_pos,
        "pos": sink_pos if patch == "noising" else 7,
        "patch": patch,
        "where": where,
        "layers": layers,
        "donor": donor,
        "lifetime_clean": clean,
        "lifetime_edited": lifetime,
        "mass_clean": mass,
        "mass_edited": 0.1,
    }


CELLS = pd.DataFrame(
    [
        row("noising", "forming", "0", 0, donor="control"),
        row("noising", "other", "1", 4, donor="control"),
        row("noising", "layer", "0", 1, donor="control"),
        row("noising", "layer", "1", 4, donor="control"),
        row("denoising", "forming", "0", 4),
        row("denoising", "layer", "0", 3),
        row("denoising", "layer", "1", 0),
        row("denoising", "forming", "0", 2, donor="ordinary"),
        row("denoising", "forming", "0", 0, donor="ordinary"),
        row("noising", "forming", "0", 4, donor="control", sink_pos=2, mass=0.5),
    ]
)


def shares(patch):
    table = patch_table(CELLS, frames.sinks(frames.sink(pos=1), frames.sink(pos=2)), patch)
    return {(cell["sink_pos"], cell["column"]): cell["share"] for cell in table.to_dict("records")}


@pytest.mark.parametrize("patch", ["denoising", "noising"])
def test_layers_may_be_tuples_as_measured_or_words_as_read(patch):
    tuples = CELLS.assign(layers=[(int(words),) for words in CELLS["layers"]])
    sinks = frames.sinks(frames.sink(pos=1), frames.sink(pos=2))
    pd.testing.assert_frame_equal(
        patch_table(tuples, sinks, patch), patch_table(CELLS, sinks, patch)
    )


def test_shares_are_of_the_sinks_lifetime():
    assert shares("noising") == {
        (1, "forming"): 1.0,
        (1, "other"): 0.0,
        (1, "0"): 0.75,
        (1, "1"): 0.0,
        (2, "forming"): 0.0,
    }
    assert shares("denoising") == {
        (1, "forming"): 1.0,
        (1, "0"): 0.75,
        (1, "1"): 0.0,
        (1, "ordinary"): 0.25,
    }


def drawn(patch):
    sinks = frames.sinks(frames.sink(pos=1), frames.sink(pos=2))
    return patch_heatmap(patch_table(CELLS, sinks, patch), patch, LAYERS)


def test_rows_are_sinks_strongest_first_and_controls_stand_beside_the_layers():
    figure = drawn("noising")
    layers, beside = (np.asarray(trace.z, dtype=float) for trace in figure.data)
    np.testing.assert_array_equal(layers, [[np.nan, np.nan], [0.75, 0.0]])
    np.testing.assert_array_equal(beside, [[0.0, np.nan], [1.0, 0.0]])
    assert list(figure.data[1].x) == ["all forming MLPs", "other MLPs"]
    assert figure.layout.yaxis.ticktext[0].startswith("⏎ 2 ")


def test_patches_after_the_sinks_last_layer_could_not_take_its_life_and_are_grey():
    cells = CELLS.assign(
        impossible=["loss" if layers == "1" else "none" for layers in CELLS["layers"]]
    )
    cells.loc[cells["patch"] == "denoising", "impossible"] = "none"
    sinks = frames.sinks(frames.sink(pos=1), frames.sink(pos=2))
    table = patch_table(cells, sinks, "noising")
    assert table.loc[table["column"] == "1", "impossible"].tolist() == [True]
    figure = patch_heatmap(table, "noising", LAYERS)
    grey = next(trace for trace in figure.data[1:] if trace.type == "heatmap")
    np.testing.assert_array_equal(np.asarray(grey.z, float)[1], [np.nan, 1.0])
    assert np.isnan(np.asarray(figure.data[0].z, float)[1, 1])
    assert grey.hoverinfo != "skip"
    assert "layer 1: impossible, too late to shorten the life" in grey.hovertext[1][1]
    assert "impossible by construction" in {trace.name for trace in figure.data}
    assert not patch_table(cells, sinks, "denoising")["impossible"].any()


def test_a_cell_says_what_was_done_to_which_token():
    hover = drawn("denoising").data[0].hovertext[0][0]
    assert hover == (
        "␣the 1 · one<br>edited token at 7; layer 0<br>gets 75% of the lifetime (now 3 layers)<br>"
        "mass 0.1"
    )


def test_nothing_to_draw_is_an_error():
    table = patch_table(CELLS.iloc[:0], frames.sinks(), "noising")
    with pytest.raises(SinkError, match="no map"):
        patch_heatmap(table, "noising", LAYERS)


@pytest.mark.parametrize("text", frames.HOSTILE)
def test_labels_and_notes_are_inert(text):
    sinks = frames.sinks(*(frames.sink(text, pos, token=text) for pos in (1, 2)))
    table = patch_table(CELLS.assign(text_id=text), sinks, "noising")
    figure = patch_heatmap(table, "noising", LAYERS)
    words = [*figure.layout.yaxis.ticktext, *np.ravel(figure.data[0].hovertext)]
    assert len(words) > 2
    assert not any(set("<>$") & set(word.replace("<br>", "")) for word in words)
    assert not any("%{" in word for word in words)
