"""The figure of verdicts draws their own fields, and nothing else."""

import math

import pytest

from secondary_sinks.errors import SinkError
from secondary_sinks.plots import verdict_dots, verdict_table
from secondary_sinks.types import Verdict

NAN = math.nan


def verdict(**changes):
    fields = {
        "claim": "sinks need the MLP of layer 3", "outcome": "supported", "why": "",
        "statistic": "share of sinks that end", "value": 0.9, "low": 0.7, "high": 1.0,
        "confidence": 0.95, "controls": "twins", "n_sinks": 9, "n_texts": 8,
    } | changes  # fmt: skip
    return Verdict(**fields)


ALL = [
    verdict(),
    verdict(claim="<b>harm</b>", value=-0.02, low=-0.1, high=0.03, line=0.01),
    verdict(claim="too few texts", value=0.4, low=NAN, high=NAN),
    verdict(claim="nothing measured", value=NAN, low=NAN, high=NAN),
]


def test_value_interval_and_line_are_those_of_each_verdict():
    dots, lines = verdict_dots(ALL).data
    assert list(dots.x) == [0.9, -0.02, 0.4]
    highs = [x + up for x, up in zip(dots.x, dots.error_x.array, strict=True)]
    lows = [x - down for x, down in zip(dots.x, dots.error_x.arrayminus, strict=True)]
    assert highs[:2] == pytest.approx([1.0, 0.03])
    assert lows[:2] == pytest.approx([0.7, -0.1])
    assert math.isnan(highs[2])
    assert math.isnan(lows[2])
    assert list(lines.x) == [0.5, 0.01, 0.5]
    assert list(lines.y) == list(dots.y) == [0, 1, 2]


def test_claims_stand_beside_their_numbers_and_are_drawn_literally():
    labels = verdict_dots([*ALL, ALL[0]]).layout.yaxis.ticktext
    assert labels[0] == "1. sinks need the MLP of layer 3"
    assert labels[1] == "2. &lt;b&gt;harm&lt;/b&gt;"
    assert labels[3] == "4. sinks need the MLP of layer 3"  # the same claim again has its own row


def test_without_any_number_there_is_nothing_to_draw():
    assert verdict_table([ALL[-1]]).empty
    with pytest.raises(SinkError, match="no value"):
        verdict_dots([ALL[-1]])


def test_rows_are_as_high_as_the_longest_label():
    claims = ["short", "a claim of more words than one line holds " * 4]
    figure = verdict_dots([verdict(claim=claim) for claim in claims])
    most = max(label.count("<br>") + 1 for label in figure.layout.yaxis.ticktext)
    assert most >= 4
    assert (figure.layout.height - 70) / len(claims) > 1.3 * 13 * most  # lines of 13 px
