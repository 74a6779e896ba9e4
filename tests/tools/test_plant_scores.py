"""Over hundreds of random plants, what is planted is found, and nothing else is."""

import random
import sys
from dataclasses import replace

import pytest

from tests.marks import thinned
from tools import plant_scores as plants
from tools.plant_scores import (
    BRIEF,
    CONDITIONS,
    CRITERIA,
    Score,
    measure,
    random_plants,
    table,
)

TYPICAL = ("by attention or together", "several primaries", "episodes and turns")


@pytest.mark.parametrize("condition", thinned(CONDITIONS, TYPICAL))
def test_the_joint_criterion_finds_all_that_is_planted_and_nothing_else(condition):
    score = measure(condition, n_plants=28, seed=7)
    assert score.expected > 50
    assert (score.precision, score.recall, score.exact) == (1.0, 1.0, score.expected)


def test_the_paper_criterion_is_measured_on_the_same_plants():
    """Where tokens share a direction it calls most of them sinks."""
    joint, paper = (measure("anisotropic", 4, criterion=by) for by in CRITERIA)
    assert (joint.criterion, paper.criterion) == ("joint", "paper")
    assert joint.expected == paper.expected
    assert joint.precision == 1.0
    assert paper.precision < 0.2


def test_brief_decoys_are_no_sinks_unless_length_is_of_no_account():
    """Four of seven tokens are aligned, outlying and attended for one or two layers."""
    joint, naive = (
        measure("anisotropic, brief decoys", 6, criterion=by) for by in ("joint", BRIEF)
    )
    assert (joint.precision, joint.recall, joint.exact) == (1.0, 1.0, joint.expected)
    assert naive.recall == 1.0
    assert naive.precision < 0.5


def test_scores_count_what_is_missed_and_what_is_too_much(monkeypatch):
    honest = plants._find

    def two_wrong(planted, criterion):
        sinks = honest(planted, criterion)
        other = next(pos for pos in range(64) if pos not in {sink.pos for sink in sinks})
        return [replace(sinks[0], pos=other), *sinks[1:]]

    monkeypatch.setattr(plants, "_find", two_wrong)
    score = measure("several primaries", n_plants=3)
    assert score.right == score.found - 3 == score.expected - 3
    assert score.precision == score.recall == pytest.approx(1 - 3 / score.expected)


def test_the_same_seed_gives_the_same_plants():
    one, same = (random_plants("decoys", random.Random(3)) for _ in range(2))
    assert one.plants == same.plants
    assert one.tokens.tolist() == same.tokens.tolist()
    other = random_plants("decoys", random.Random(4))
    assert other.plants != one.plants


def test_decoys_and_sinks_are_both_there():
    chance = random.Random(0)
    for _ in range(5):
        planted = random_plants("decoys", chance)
        assert len(planted.plants) - len(planted.expected_sinks()) == 5


def test_the_command_prints_the_table(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["plants", "--plants", "1"])
    monkeypatch.setattr(plants, "CONDITIONS", {"plain": CONDITIONS["plain"]})
    plants.main()
    printed = capsys.readouterr().out
    assert "| plain | joint | 1 |" in printed
    assert "| plain | paper | 1 |" in printed


def test_the_table_says_nan_where_nothing_was_found():
    none = Score(
        condition="plain", criterion="joint", plants=1, expected=2, found=0, right=0, exact=0
    )
    assert "| nan | 0.000 | nan |" in table([none])
