"""Controls: never a sink, never twice, a twin wherever one is left, and the nearest one."""

import inspect
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secondary_sinks.errors import DetectionError
from secondary_sinks.texts import match_controls


@st.composite
def texts_with_sinks(draw):
    tokens = draw(st.lists(st.integers(0, 4), min_size=2, max_size=30))
    positions = st.integers(0, len(tokens) - 1)
    sinks = sorted(draw(st.sets(positions, max_size=5)))
    others = draw(st.sets(positions, max_size=3))
    last = draw(st.integers(-1, len(tokens) + 3))
    return tokens, sinks, set(sinks) | others, last


@given(texts_with_sinks())
def test_controls_are_what_they_promise(case):
    tokens, sinks, excluded, last = case
    controls = match_controls(tokens, sinks, excluded, last)
    positions = [control.pos for control in controls]
    assert len(set(positions)) == len(positions)
    assert not excluded & set(positions)
    assert all(1 <= pos <= last and pos < len(tokens) for pos in positions)
    assert [c.sink_pos for c in controls] == sinks[: len(controls)]
    n_free = len([pos for pos in range(1, min(last + 1, len(tokens))) if pos not in excluded])
    assert len(controls) == min(len(sinks), n_free)
    taken = set(excluded)
    for control in controls:
        assert_nearest_of_the_best_kind(control, tokens, taken, last)
        taken.add(control.pos)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sinks": [-1]}, "a sink is at position -1 of 5 tokens"),
        ({"sinks": [5]}, "a sink is at position 5 of 5 tokens"),
        ({"sinks": [True]}, "position of a sink is True"),
        ({"excluded": "1"}, "excluded position is '1'"),
        ({"last": True}, "last is True"),
        ({"last": math.inf}, "last is inf"),
    ],
)
def test_positions_are_whole_numbers_in_the_text(changes, said):
    given = {"tokens": [9, 5, 7, 5, 7], "sinks": [1], "excluded": {0, 1}, "last": 4} | changes
    with pytest.raises(DetectionError, match=said):
        inspect.unwrap(match_controls)(**given)


def test_excluded_positions_of_another_library_are_excluded():
    found = inspect.unwrap(match_controls)([9, 5, 7, 5, 7], [1], torch.tensor([0, 1, 3]), 4)
    assert [control.pos for control in found] == [2]


def assert_nearest_of_the_best_kind(control, tokens, taken, last):
    """By brute force over every position that was still free."""
    free = [pos for pos in range(1, len(tokens)) if pos <= last and pos not in taken]
    twins = [pos for pos in free if tokens[pos] == tokens[control.sink_pos]]
    assert control.kind == ("twin" if twins else "neighbour")
    distance = abs(control.pos - control.sink_pos)
    assert control.pos in (twins or free)
    assert distance == min(abs(pos - control.sink_pos) for pos in twins or free)


def test_worked_by_hand():
    #         0  1  2  3  4  5  6
    tokens = [9, 5, 7, 8, 5, 5, 7]
    found = match_controls(tokens, sinks=[1, 2], excluded={0, 1, 2}, last=5)
    assert [(c.pos, c.kind, c.sink_pos) for c in found] == [(4, "twin", 1), (3, "neighbour", 2)]


def test_the_first_position_is_no_control():
    assert match_controls([5, 5], sinks=[1], excluded={1}, last=1) == []
