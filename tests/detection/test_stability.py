"""Levels with counts, intervals that hold, and stability under resampling of texts."""

import inspect
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from secondary_sinks.detection import find_levels
from secondary_sinks.errors import DetectionError
from secondary_sinks.types import SinkTable, Thresholds
from tests.detection.test_levels import THREE, deepseek, drawn
from tests.detection.traces import sink
from tests.marks import exhaustive


def table(points, texts, **changes):
    named = enumerate(zip(points, texts, strict=True))
    return SinkTable(
        sinks=tuple(sink(text, 10 + i, *point, **changes) for i, (point, text) in named)
    )


@pytest.fixture(scope="module")
def three():
    points, texts = drawn(np.random.default_rng(0), THREE, (80, 30, 7), 0.3, 5)
    return table(points, texts)


@pytest.fixture(scope="module")
def levels(three):
    return find_levels(three, n_texts=100)


def test_levels_say_where_they_are_and_what_they_hold(levels):
    assert [(level.l_start, level.lifetime) for level in levels.levels] == list(THREE)
    assert [level.n_sinks for level in levels.levels] == [80, 30, 7]
    assert (levels.n_sinks, levels.n_unassigned, levels.n_texts) == (122, 5, 100)
    for level in levels.levels:
        assert (level.l_start_low, level.l_start_high) == (level.l_start - 1, level.l_start + 1)
        assert level.low < level.n_sinks < level.high
        assert level.n_texts <= level.n_sinks


def test_cells_add_up_to_the_sinks(three):
    cells = find_levels(three, resamples=0).cells_frame()
    assert cells["count"].sum() == len(three.sinks)
    assert (cells["n_texts"] <= cells["count"]).all()
    by_level = cells.groupby("level")["count"].sum()
    assert by_level.to_dict() == {0: 80, 1: 30, 2: 7}
    assert cells[cells["level"].isna()]["count"].sum() == 5


def test_stable_levels_come_again_and_a_chance_one_does_not(levels):
    assert [level.jaccard > 0.75 for level in levels.levels] == [True, True, True]
    points = [(22, 23)] * 40 + [(10, 4)] * 5
    shaky = find_levels(table(points, [str(number) for number in range(45)]))
    assert [level.jaccard > 0.75 for level in shaky.levels] == [False, True]
    assert shaky.same_number < 0.8 < levels.same_number


def test_the_deepseek_table():
    points, texts = deepseek(0)
    levels = find_levels(table(points, texts), n_texts=300)
    assert [(level.l_start, level.lifetime) for level in levels.levels] == [(22, 23)]
    assert levels.levels[0].jaccard > 0.95
    assert levels.low < 270 < levels.high
    assert (levels.high - levels.low) / 2 == pytest.approx(1.96 * math.sqrt(270), rel=0.15)


def test_without_resamples_stability_is_missing(three):
    levels = find_levels(three, resamples=0)
    assert math.isnan(levels.same_number)
    assert all(math.isnan(level.jaccard) for level in levels.levels)


@exhaustive
def test_the_generator_decides_and_the_default_is_fixed(three, levels):
    assert levels.levels == find_levels(three, n_texts=100).levels
    other = find_levels(three, n_texts=100, generator=torch.Generator().manual_seed(7))
    assert other.levels[2].jaccard != levels.levels[2].jaccard


def test_one_sink_twice_or_in_a_copied_text_counts_once(three):
    once = find_levels(three, n_texts=100, resamples=0)
    twice = SinkTable(sinks=three.sinks + three.sinks[:50])
    again = find_levels(twice, n_texts=100, resamples=0)
    pd.testing.assert_frame_equal(again.cells_frame(), once.cells_frame())
    pd.testing.assert_frame_equal(again.to_frame(), once.to_frame())
    copies = tuple(sink("z", s.pos, s.l_start, s.lifetime, copy_of="a") for s in three.sinks)
    found = find_levels(SinkTable(sinks=three.sinks + copies), n_texts=101, resamples=0)
    assert (found.n_sinks, found.n_copies) == (once.n_sinks, len(copies))
    pd.testing.assert_frame_equal(found.cells_frame(), once.cells_frame())


def test_only_secondary_sinks_count():
    points = [(22, 23)] * 6
    primaries = table(points, range(6), kind="primary").sinks
    found = find_levels(SinkTable(sinks=primaries + table(points[:2], range(2)).sinks))
    assert (found.n_sinks, found.n_texts, found.levels) == (2, 6, ())


def test_no_sinks():
    none = find_levels(SinkTable(sinks=()))
    assert (none.levels, none.cells, none.n_sinks, none.n_texts) == ((), (), 0, 0)
    assert list(none.to_frame().columns)[:3] == ["level", "l_start", "lifetime"]
    assert find_levels(SinkTable(sinks=()), n_texts=9).same_number == 1.0


def test_fewer_texts_than_have_sinks_are_refused(three):
    with pytest.raises(DetectionError, match="n_texts is 3"):
        find_levels(three, n_texts=3)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n_texts": 2.5}, "n_texts is 2.5"),
        ({"n_texts": True}, "n_texts is True"),
        ({"n_texts": "3"}, "n_texts is '3'"),
        ({"n_texts": 10**12}, "at most 10,000,000"),
        ({"resamples": 2.5}, "resamples is 2.5"),
        ({"resamples": -1}, "resamples is -1"),
        ({"generator": 3}, "generator is 3; expected a torch.Generator"),
    ],
)
def test_levels_of_other_numbers_are_refused(three, options, match):
    with pytest.raises(DetectionError, match=match):
        inspect.unwrap(find_levels)(three, **options)


def test_a_table_survives_its_frame(three):
    again = SinkTable.from_frame(three.to_frame())
    pd.testing.assert_frame_equal(again.to_frame(), three.to_frame())
    assert again.sinks[0].layers == three.sinks[0].layers
    other = replace(three, thresholds=Thresholds(aligned=0.5))
    assert SinkTable.from_frame(other.to_frame()).thresholds == other.thresholds


def test_a_table_survives_a_file_that_keeps_attrs_and_needs_thresholds_without(three, tmp_path):
    table = replace(three, near=three.sinks[:2], thresholds=Thresholds(aligned=0.5))
    table.to_frame().to_parquet(tmp_path / "sinks.parquet")
    again = SinkTable.from_frame(pd.read_parquet(tmp_path / "sinks.parquet"))
    assert (again.thresholds, len(again.near)) == (table.thresholds, 2)
    table.to_frame().to_csv(tmp_path / "sinks.csv", index=False)
    types = dict.fromkeys(("text_id", "copy_of", "segments"), str)
    bare = pd.read_csv(tmp_path / "sinks.csv", dtype=types, keep_default_na=False)
    bare = bare.replace("", math.nan).fillna({"copy_of": ""}).astype(table.to_frame().dtypes)
    with pytest.raises(DetectionError, match="not say all thresholds in its attrs"):
        SinkTable.from_frame(bare)
    assert SinkTable.from_frame(bare, table.thresholds).sinks[0].layers == three.sinks[0].layers
    with pytest.raises(DetectionError, match="thresholds is 0; expected Thresholds"):
        SinkTable.from_frame(bare, 0)


def with_attrs(frame, **attrs):
    frame.attrs |= attrs
    return frame


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda frame: frame.drop(columns="copy_of"), "no column 'copy_of'"),
        (lambda frame: frame.assign(segments="2-x"), "'x' is not a whole number"),
        (lambda frame: pd.concat([frame, frame["pos"]], axis=1), "it has 2 columns 'pos'"),
        (lambda frame: with_attrs(frame, near=[{"pos": 3}]), "not a table of sinks: 'kind'"),
        (lambda frame: with_attrs(frame, thresholds={"aligned": 0.5}), "not say all thresholds"),
        (lambda frame: frame.to_dict(), "expected a data frame, got dict"),
        (lambda frame: frame.assign(kind="bogus"), "kind is 'bogus'; expected some of"),
        (lambda frame: frame.iloc[[0, 0]], "has two rows; expected one row per sink"),
    ],
)
def test_a_foreign_frame_is_refused(three, change, named):
    with pytest.raises(DetectionError, match=named):
        SinkTable.from_frame(change(three.to_frame()))
