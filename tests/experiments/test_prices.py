"""Prices: every causal experiment has one, in cells and seconds; none where nothing is computed."""

import re

import pytest

from experiments import prices
from experiments.table import EXPERIMENTS
from tests.experiments.observed import planted
from tests.questions.gardens import three

NAMES = [one.name for one in EXPERIMENTS if one.asks]
QUICK = {one.name: dict(one.quick) for one in EXPERIMENTS if one.quick}


@pytest.fixture(scope="module")
def sinks():
    return planted(*three(forming=(3,)))


def test_every_causal_experiment_is_priced(sinks):
    lines = prices.prices({"norms": {}} | {name: {} for name in NAMES}, sinks)
    words = r"to come: (\w+), [\d,]+ (replayed tokens|recomputed texts), about \d+ s"
    assert [re.fullmatch(words, line)[1] for line in lines] == NAMES
    assert "recomputed texts" in lines[0]


def test_what_quick_leaves_out_has_no_price(sinks):
    lines = prices.prices(QUICK | {"neurons": {}}, sinks)
    assert [line.split(",")[0] for line in lines] == ["to come: neurons"]


def test_seconds_are_cells_times_those_of_the_trial(sinks, monkeypatch):
    said = re.search(r"([\d,]+) replayed", prices.prices({"neurons": {}}, sinks)[0])[1]
    cells = int(said.replace(",", ""))
    monkeypatch.setattr(prices, "trial", lambda observed: (2.0, 5.0))
    assert prices.prices({"neurons": {}}, sinks)[0].endswith(f"about {2 * cells} s")


def test_a_trial_is_shared_among_its_cells(sinks, monkeypatch):
    clock = iter((1.0, 5.0, 11.0))
    monkeypatch.setattr(prices.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(prices, "observe", lambda model, tokens: None)
    monkeypatch.setattr(prices, "replay", lambda model, trace, cells: None)
    n_pos = len(sinks.traces[0].tokens)
    assert prices.trial(sinks) == (6.0 / (3 * sinks.n_layers), 4.0 / n_pos)


def test_without_sinks_there_is_nothing_to_price():
    assert prices.prices({name: {} for name in NAMES}, planted()) == []
