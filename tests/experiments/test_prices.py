"""Prices: every experiment has one, before it starts; none where nothing is computed."""

import re

import pytest

from experiments import prices, primary_weakening
from experiments.prices import Seconds
from experiments.shared import Loaded
from experiments.table import BY_NAME, EXPERIMENTS
from secondary_sinks import forming_mlps, roles
from secondary_sinks.questions import forming_cost, roles_cost
from tests.experiments.observed import planted
from tests.questions.gardens import Garden, three

NAMES = [one.name for one in EXPERIMENTS]
QUICK = {one.name: dict(one.quick) for one in EXPERIMENTS if one.quick}
FORMING = "forming MLPs, once for all that edit them"


@pytest.fixture(scope="module")
def sinks():
    return planted(*three(forming=(3,)))


def test_every_experiment_is_priced_and_so_are_all_together(sinks):
    lines = prices.prices({name: {} for name in NAMES}, sinks)
    work = r"[\d,]+ (replayed tokens|recomputed texts)|(no|1|3) further pass(es)?"
    words = rf"to come: ({FORMING}|\w+), ({work})(, and [a-z ]+)?(, about \d+ s)?"
    assert [re.fullmatch(words, line)[1] for line in lines[:-1]] == [FORMING, *NAMES]
    assert re.fullmatch(r"to come: in all about \d+ s", lines[-1])
    assert "recomputed texts" in lines[1 + NAMES.index(primary_weakening.NAME)]
    assert "about" not in lines[1]  # norms computes on what was observed


def test_what_quick_leaves_out_has_no_price(sinks):
    (line, _) = prices.prices(QUICK, sinks)
    assert line == "to come: primary_weakening, no further pass"
    edits = prices.prices(QUICK | {"neurons": {}}, sinks)
    assert [line.split(",")[0] for line in edits[:-1]] == [
        "to come: forming MLPs", "to come: primary_weakening", "to come: neurons"
    ]  # fmt: skip


def test_seconds_are_cells_times_those_of_the_trial(sinks, monkeypatch):
    monkeypatch.setattr(prices, "trial", lambda observed: Seconds(2.0, 5.0))
    forming, neurons, whole = prices.prices({"neurons": {}}, sinks)
    cells = [
        int(re.search(r"([\d,]+) replayed", line)[1].replace(",", ""))
        for line in (forming, neurons)
    ]
    assert neurons.endswith(f"about {2 * cells[1]} s")
    assert whole.endswith(f"about {2 * sum(cells)} s")


def test_a_further_pass_costs_each_token_of_texts_with_sinks(sinks, monkeypatch):
    monkeypatch.setattr(prices, "trial", lambda observed: Seconds(2.0, 5.0))
    n_tokens = sum(len(trace.tokens) for trace in sinks.traces)
    line, _ = prices.prices({"mlp_anatomy": {}}, sinks)
    assert line == f"to come: mlp_anatomy, 3 further passes, about {3 * 5 * n_tokens} s"
    assert BY_NAME["mlp_anatomy"].passes == 3


def test_the_observation_is_priced_from_the_shortest_text(sinks, monkeypatch):
    clock = iter((1.0, 5.0))
    monkeypatch.setattr(prices.time, "perf_counter", lambda: next(clock))
    loaded = Loaded(model=sinks.model, texts=sinks.texts, name="m", asked={})
    n_pos = len(sinks.texts[0].tokens)
    told = prices.price_of_pass(loaded)
    assert told.startswith(f"to come: observing {8 * n_pos} tokens of 8 texts, about 32 s; then")


REDUNDANT, CHAIN = {"forming": (2, 4), "strength": 90.0}, {"forming": (2, 4), "chain": True}


@pytest.mark.parametrize(
    ("cost", "ask", "plants"),
    [(forming_cost, forming_mlps, REDUNDANT), (roles_cost, roles, CHAIN)],
    ids=["forming", "roles"],
)
def test_the_price_is_the_number_of_cells_that_are_run(cost, ask, plants, monkeypatch):
    garden, ran = Garden(*three(**plants), n_texts=2), count_cells(monkeypatch)
    ask(*garden.asked)
    assert cost(garden.traces, garden.sinks).replayed == sum(ran)


def test_groups_are_tried_only_where_no_single_mlp_ends_the_sink(monkeypatch):
    garden, ran = Garden(*three(**CHAIN), n_texts=2), count_cells(monkeypatch)
    assert {one.how for one in forming_mlps(*garden.asked)} == {"each"}
    sinks = garden.sinks.of_kind("secondary").sinks
    assert sum(ran) == sum(sink.l_start + 1 + 1 for sink in sinks)  # each MLP, then both


def count_cells(monkeypatch):
    """The numbers of cells that questions replay from now on."""
    ran = []

    def count(real):
        def run(model, trace, thresholds, trials, *more):
            ran.append(len(trials))
            return real(model, trace, thresholds, trials, *more)

        return run

    for module in ("forming", "role_tests"):
        name = f"secondary_sinks.questions.{module}"
        place = __import__(name, fromlist=["run_trials"])
        monkeypatch.setattr(place, "run_trials", count(place.run_trials))
    return ran


def test_a_trial_is_shared_among_its_cells(sinks, monkeypatch):
    clock = iter((1.0, 5.0, 11.0))
    monkeypatch.setattr(prices.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(prices, "observe", lambda model, tokens: None)
    monkeypatch.setattr(prices, "replay", lambda model, trace, cells: None)
    n_pos = len(sinks.traces[0].tokens)
    assert prices.trial(sinks) == (6.0 / (3 * sinks.n_layers), 4.0 / n_pos)


def test_without_sinks_there_is_nothing_to_price():
    assert prices.prices({name: {} for name in NAMES}, planted()) == []
