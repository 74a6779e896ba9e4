"""Searches side by side, and the smallest set that they find."""

from itertools import combinations

import pytest

from secondary_sinks.questions.circuit.search import side_by_side, smallest

MEMBERS = tuple((number,) for number in range(8))


def run(search, answer=lambda pair: pair):
    """What a search finds if `answer` gives the row of each pair, and the sizes of its steps."""
    steps = []
    try:
        pairs = next(search)
        while True:
            steps.append(len(pairs))
            pairs = search.send([answer(pair) for pair in pairs])
    except StopIteration as stop:
        return stop.value, steps


def asking(rule, asked=None):
    """A test of sets by a rule, as a search."""

    def passes(groups):
        if asked is not None:
            asked.extend(groups)
        return (yield [rule({member[0] for member in group}) for group in groups])

    return passes


RULES = {
    "one of two": lambda group: len(group) > 1 and bool(group & {2, 6}),
    "two together": lambda group: group >= {1, 4},
    "three of five": lambda group: len(group & {0, 2, 3, 5, 7}) >= 3,
    "not with the first": lambda group: 6 in group and 0 not in group,
}


@pytest.mark.parametrize("name", RULES)
def test_no_member_of_what_is_found_can_be_left_out(name):
    rule, asked = RULES[name], []
    found, _ = run(smallest(MEMBERS, asking(rule, asked)))
    members = {member[0] for member in found}
    if name == "not with the first":  # no set of first members passes
        assert found == ()
        return
    assert rule(members)
    assert not any(rule(members - {member}) for member in members if len(members) > 2)
    least = min(n for n in range(1, 9) for group in combinations(range(8), n) if rule({*group}))
    assert len(found) == least  # which the rules above allow, though not every rule does
    assert () not in asked


def test_sets_are_searched_for_up_to_a_size_only():
    assert run(smallest(MEMBERS, asking(lambda group: len(group) > 4), most=4))[0] == ()
    assert len(run(smallest(MEMBERS, asking(lambda group: len(group) > 3), most=4))[0]) == 4
    assert run(smallest((), asking(lambda group: True))) == ((), [])


def test_nothing_is_tried_if_the_first_member_is_known_to_pass():
    assert run(smallest(MEMBERS, asking(lambda group: True), alone=True)) == (((0,),), [])


def test_searches_that_run_side_by_side_share_their_steps():
    def counting(number):
        total = 0
        for step in range(number):
            total += sum((yield [step + 1] * number))
        return total

    found, steps = run(side_by_side([counting(number) for number in (3, 0, 1, 2)]))
    alone = [run(counting(number))[0] for number in (3, 0, 1, 2)]
    assert found == alone
    assert steps == [3 + 1 + 2, 3 + 2, 3]
    assert run(side_by_side([])) == ([], [])
