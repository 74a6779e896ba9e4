"""Why is this token (not) a sink? Every test by itself; and what thresholds do to the counts."""

import inspect
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from secondary_sinks import detect, observe
from secondary_sinks.detection import criteria_frame, explain, threshold_sweep
from secondary_sinks.errors import DetectionError
from secondary_sinks.testing.planted import Plant, plant
from secondary_sinks.types import Thresholds

PLANTS = [
    Plant(pos=0, forming=(1,), strength=400.0, dies=7),
    Plant(pos=20, forming=(3,), dies=6),
    Plant(pos=25, forming=(3,), sideways=True),
    Plant(pos=28, forming=(3,), strength=12.0, content=0.02, attended=True),
    Plant(pos=35, attended=True),
    Plant(pos=60, forming=(3,)),
]


@pytest.fixture(scope="module")
def trace():
    planted = plant(PLANTS, n_layers=9)
    return observe(planted.model, planted.tokens)


@pytest.mark.parametrize("criterion", ["joint", "paper"])
def test_the_frame_says_what_detect_counts(trace, criterion):
    frame = criteria_frame(trace)
    assert len(frame) == trace.norm.numel()
    layers = frame[frame[criterion]].groupby("pos")["layer"].apply(tuple).to_dict()
    assert layers == {s.pos: s.layers for s in detect(trace, criterion=criterion).sinks}


def test_each_test_judges_the_value_beside_it(trace):
    frame, limits = criteria_frame(trace), Thresholds()
    inner = frame[frame["layer"] < 8]
    assert (frame["aligned"] == (frame["alignment_centred"] >= limits.aligned)).all()
    assert (frame["outlying"] == (frame["deviation_ratio"] >= limits.outlying)).all()
    attended = (inner["mass_ratio"] >= limits.attended) & (inner["seen_by"] >= limits.min_queries)
    assert (inner["attended"] == attended).all()
    assert frame[frame["layer"] == 8]["mass_ratio"].isna().all()
    paper = frame["in_clip"] & (frame["alignment_paper"].abs() > 0.9) & (frame["pos"] > 0)
    assert (frame["paper"] == paper | (frame["in_clip"] & (frame["pos"] == 0))).all()


WHY = [
    (0, 0, ["not outlying", "not attended"]),
    (0, 3, ["primary sink, active"]),
    (20, 4, ["sink"]),
    (20, 2, ["not aligned", "not outlying", "not attended"]),
    (25, 4, ["not aligned", "not attended"]),
    (28, 4, ["not outlying"]),
    (35, 4, ["not aligned", "not outlying"]),
    (60, 4, ["seen by too few queries (4 < 8)"]),
    (60, 7, ["the primary is not active"]),
    (60, 8, ["the primary is not active"]),
]


@pytest.mark.parametrize(("pos", "layer", "told"), WHY)
def test_why(trace, pos, layer, told):
    words = explain(trace, pos)["why"].iloc[layer].split("; ")
    assert len(words) == len(told) or pos == 60
    for word, expected in zip(words, told, strict=pos != 60):
        assert word.startswith(expected)


def test_why_names_the_numbers(trace):
    row = explain(trace, 20).iloc[2]
    assert f"not aligned ({row['alignment_centred']:.2f} < 0.9)" in row["why"]
    assert f"not outlying ({row['deviation_ratio']:.1f} x < 3 x)" in row["why"]
    assert f"not attended ({row['mass_ratio']:.1f} x < 2 x)" in row["why"]


def test_nothing_starts_at_the_last_layer():
    late = [Plant(pos=20, attended=True), Plant(pos=20, forming=(7,))]
    planted = plant([Plant(pos=0, forming=(1,), strength=400.0), *late])
    row = explain(observe(planted.model, planted.tokens), 20).iloc[7]
    assert row["why"] == "no block reads the last layer, and it was not a sink at the layer before"


def test_one_row_per_layer_and_chosen_position(trace):
    frame = criteria_frame(trace, positions=[20, 3])
    assert frame["pos"].tolist() == [20, 3] * 9
    assert frame["layer"].tolist() == [layer for layer in range(9) for _ in range(2)]
    assert frame["token"].iloc[0] == trace.token_strings[20]
    whole = criteria_frame(trace)
    at = whole[whole["pos"] == 20]["alignment_centred"].to_numpy()
    np.testing.assert_array_equal(frame[frame["pos"] == 20]["alignment_centred"].to_numpy(), at)


@pytest.mark.parametrize("pos", [-1, 64, "the", True])
def test_a_position_outside_the_text_is_refused(trace, pos):
    with pytest.raises(DetectionError, match=f"positions 0 to 63, got {pos!r}; trace.token_str"):
        inspect.unwrap(explain)(trace, pos)


def test_only_a_trace_and_thresholds_are_explained(trace):
    with pytest.raises(DetectionError, match="got a list; expected the Trace of one text"):
        inspect.unwrap(explain)([trace], 3)
    with pytest.raises(DetectionError, match=r"thresholds is \{\}; expected Thresholds"):
        inspect.unwrap(explain)(trace, 3, {})


GRID = {"aligned": (0.2, 0.9, 0.999), "outlying": (1.0, 3.0, 9.0), "attended": (0.5, 2.0, 8.0)}


def test_a_stricter_test_never_adds_a_sink_or_a_cell(trace):
    frame = threshold_sweep(trace, GRID)
    assert len(frame) == 27
    for name in GRID:
        others = [other for other in GRID if other != name]
        for _, line in frame.sort_values(name).groupby(others):
            for counted in ("sinks", "cells", "texts"):
                values = line[counted].tolist()
                assert all(mild >= strict for mild, strict in pairwise(values)), (name, counted)
    assert frame["sinks"].nunique() > 3


def test_a_sweep_counts_what_detect_finds(trace):
    other = replace(trace, text_id="other", tokens=trace.tokens.flip(0))
    frame = threshold_sweep([trace, other], {"outlying": (2.0, 5.0), "min_queries": (4, 8)})
    assert frame[["outlying", "min_queries"]].to_numpy().tolist() == [
        [2, 4],
        [2, 8],
        [5, 4],
        [5, 8],
    ]
    for row in frame.to_dict("records"):
        limits = Thresholds(outlying=row["outlying"], min_queries=int(row["min_queries"]))
        table = detect([trace, other], limits)
        assert row["secondary"] == len(table.of_kind("secondary").sinks)
        assert row["cells"] == sum(s.lifetime for s in table.sinks if s.kind != "primary")
        assert row["texts"] == 2


def test_a_sweep_of_the_paper_criterion(trace):
    frame = threshold_sweep(trace, {"paper_aligned": (0.5, 0.9, 0.999)}, criterion="paper")
    assert frame["criterion"].unique().tolist() == ["paper"]
    assert frame["cells"].is_monotonic_decreasing


@pytest.mark.parametrize(
    ("grid", "named"),
    [
        ({"algned": (1.0,)}, "'algned'"),
        ({"aligned": ()}, "'aligned'"),
        ({"aligned": (0.5, 0.5)}, "list of threshold 'aligned' has 0.5 twice"),
        ({"aligned": 0.5}, "threshold 'aligned' is 0.5; expected a list"),
        ({"aligned": "0.5"}, "threshold 'aligned' is '0.5'; expected a list"),
    ],
)
def test_a_bad_grid_is_refused(trace, grid, named):
    with pytest.raises(DetectionError, match=named):
        inspect.unwrap(threshold_sweep)(trace, grid)


def test_thresholds_are_one_frozen_config():
    with pytest.raises(AttributeError):
        Thresholds().aligned = 0.5
    assert torch.tensor(
        [Thresholds().aligned, Thresholds().paper_aligned]
    ).tolist() == pytest.approx([0.9, 0.9])
