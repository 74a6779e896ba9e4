"""Several primaries, companions of a primary, and sinks whose start or end is hidden."""

from dataclasses import replace

import pytest

from secondary_sinks import detect, observe
from secondary_sinks.testing.plant_spec import Plant
from secondary_sinks.testing.planted import plant

PRIMARY = Plant(pos=0, forming=(1,), strength=400.0)


def found(*plants, **options):
    planted = plant(plants, **options)
    return detect(observe(planted.model, planted.tokens)).sinks


def kinds(*plants):
    return [(sink.pos, sink.kind) for sink in found(*plants)]


def test_a_second_primary_that_arises_one_layer_later_is_primary_like():
    later = Plant(pos=1, forming=(2,), strength=300.0)
    assert kinds(PRIMARY, later) == [(0, "primary"), (1, "primary_like")]


def test_one_that_is_less_massive_and_arises_later_is_secondary():
    assert kinds(PRIMARY, Plant(pos=1, forming=(2,), strength=120.0))[1] == (1, "secondary")


def test_one_that_is_as_massive_but_arises_late_is_secondary():
    assert kinds(PRIMARY, Plant(pos=1, forming=(4,), strength=350.0))[1] == (1, "secondary")


def test_of_several_first_tokens_the_most_massive_is_the_primary():
    first = [replace(PRIMARY, pos=pos, strength=300.0 + 60 * pos) for pos in range(3)]
    assert kinds(*first, Plant(pos=30, forming=(4,))) == [
        (2, "primary"),
        (0, "primary_like"),
        (1, "primary_like"),
        (30, "secondary"),
    ]


def test_tokens_that_take_turns_are_both_primary_and_each_has_its_own_sinks():
    first, second = replace(PRIMARY, dies=5), Plant(pos=9, forming=(6,), strength=350.0)
    early, late = Plant(pos=20, forming=(2,), dies=5), Plant(pos=30, forming=(7,))
    sinks = found(first, second, early, late, n_layers=9)
    assert {sink.pos: (sink.kind, sink.segments) for sink in sinks} == {
        0: ("primary", "1-4"),
        9: ("primary", "6-8"),
        20: ("secondary", "2-4"),
        30: ("secondary", "7-8"),
    }


def test_a_primary_hands_over_to_another_that_is_as_massive():
    first, second = replace(PRIMARY, dies=4), Plant(pos=9, forming=(3,), strength=350.0)
    got = {sink.pos: (sink.kind, sink.segments) for sink in found(first, second)}
    assert got == {0: ("primary", "1-3"), 9: ("primary", "3-7")}


def test_a_massive_attended_token_elsewhere_is_no_sink_beside_the_primary():
    elsewhere = Plant(pos=20, forming=(2,), strength=150.0, sideways=True, attended=True)
    assert kinds(PRIMARY, elsewhere) == [(0, "primary")]


@pytest.mark.parametrize(
    ("one", "layers", "censored"),
    [
        (Plant(pos=20, forming=(3,)), (3, 4), "right"),
        (Plant(pos=20, forming=(3,), dies=5), (3, 4), "none"),
        (Plant(pos=20, forming=(3,), dies=4), (3,), "none"),
        (Plant(pos=20, forming=(1,), dies=4), (2, 3), "left"),
        (Plant(pos=20, forming=(1,)), (2, 3, 4), "both"),
        (Plant(pos=20, forming=(2,), dies=4), (2, 3), "none"),
    ],
)
def test_a_sink_is_censored_where_only_the_primary_begins_or_ends(one, layers, censored):
    primary = Plant(pos=0, forming=(2,), dies=5, strength=400.0)
    sink = found(primary, one)[1]
    assert (sink.layers, sink.censored) == (layers, censored)


def test_a_gap_of_the_primary_inside_a_sinks_life_censors_nothing():
    first, again = replace(PRIMARY, dies=3), Plant(pos=0, forming=(5,), strength=400.0)
    sink = found(first, again, Plant(pos=20, forming=(2,), dies=7))[1]
    assert (sink.segments, sink.censored) == ("2, 5-6", "none")


def test_a_text_without_a_special_first_token_has_its_primary_where_it_is():
    ordinary_first = [replace(PRIMARY, pos=17), Plant(pos=40, forming=(3,))]
    assert kinds(*ordinary_first) == [(17, "primary"), (40, "secondary")]
