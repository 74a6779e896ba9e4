import math

from secondary_sinks.report.section import Table, without_constants
from secondary_sinks.report.tables import sink_table, threshold_table
from secondary_sinks.report.words import MISSING
from tests.plots import frames


def levels(*values):
    """The column of levels of a primary and of secondary sinks with these levels."""
    rows = [frames.sink(pos=2 + at, level=value) for at, value in enumerate(values)]
    table = sink_table(frames.sinks(frames.sink(pos=0, kind="primary"), *rows))
    if "level" not in table.head:
        return table.same
    return [row[table.head.index("level")] for row in table.rows]


def test_a_level_is_a_whole_number_or_missing_and_hidden_where_there_is_one():
    assert levels(0.0, 1.0) == [MISSING, "0", "1"]
    assert levels(0.0, math.nan) == [MISSING, "0", "none"]
    assert "level (0)" in levels(0.0, 0.0)


def test_columns_that_are_the_same_in_all_rows_are_told_once():
    rows = (("a", "1", "x"), ("b", "1", "x"))
    table = without_constants(Table(head=("one", "two", "three"), rows=rows, numeric=(0, 1)))
    assert (table.head, table.rows, table.numeric) == (("one",), (("a",), ("b",)), (0,))
    assert table.same == "The same in all rows: two (1) and three (x)."


def test_a_table_of_one_row_or_of_equal_rows_stays_as_it_is():
    for rows in ((("a", "1"),), (("a", "1"), ("a", "1"))):
        table = Table(head=("one", "two"), rows=rows)
        assert without_constants(table) is table


def test_rounding_marks_are_hidden_where_there_are_none():
    assert "within rounding" not in sink_table(frames.sinks()).head
    one = frames.sinks(frames.sink(pos=0, kind="primary"), frames.sink(within_rounding=True))
    assert "within rounding" in sink_table(one).head


def test_thresholds_of_the_paper_criterion_judged_nothing_in_a_run():
    table = threshold_table({"thresholds": {"aligned": 0.9, "paper_aligned": 0.9}})
    assert [row[:2] for row in table.rows] == [("aligned", "0.9")]
