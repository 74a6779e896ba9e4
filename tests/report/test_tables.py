from secondary_sinks.report.tables import SINK_COLUMNS, sink_rows, threshold_rows
from secondary_sinks.report.words import MISSING
from tests.plots import frames


def test_a_level_is_a_whole_number_or_missing():
    column = SINK_COLUMNS.index("level")
    assert [row[column] for row in sink_rows(frames.sinks())] == [MISSING, "0"]


def test_thresholds_of_the_paper_criterion_judged_nothing_in_a_run():
    rows = threshold_rows({"thresholds": {"aligned": 0.9, "paper_aligned": 0.9}})
    assert [row[:2] for row in rows] == [("aligned", "0.9")]
