"""Choices on earlier texts, and controls that could have failed, by hand and on null models."""

import random
from itertools import chain

from secondary_sinks.questions.forming import Forming
from secondary_sinks.questions.held_out import TOO_FEW, control_words, held_out, other_layers
from secondary_sinks.questions.matched_pairs import MatchedPair, TextPairs
from secondary_sinks.types import Sink, Trace

NOTHING = object.__new__(Trace)
"""A trace that says nothing: the choice hangs on what was found at sinks alone."""


def sink(text_id, pos, start):
    numbers = ("alignment_max", "alignment_centred_max", "norm_max", "norm_ratio_max")
    return Sink(
        **{"text_id": text_id, "pos": pos, "token_id": 1, "token": "a", "kind": "secondary"},
        **{"criterion": "joint", "l_start": start, "l_end": 9, "lifetime": 10 - start},
        **{"layers": tuple(range(start, 10)), "level": 0.0, "censored": "none"},
        **dict.fromkeys((*numbers, "mass_max", "mass_excess_max"), 0.5),
    )


def asked(groups, start=4):
    """Texts and what was found: one list of forming groups per text; () for none."""
    texts, found = [], {}
    for number, own in enumerate(groups):
        name = f"t{number}"
        cases = [
            MatchedPair(sink=sink(name, pos, start), control=50 + pos, kind="twin")
            for pos in range(len(own))
        ]
        texts.append(TextPairs(trace=NOTHING, begin=0, cases=tuple(cases), left_out={}))
        for pos, layers in enumerate(own):
            found[name, pos] = Forming(
                **{"text_id": name, "pos": pos, "layers": layers or (start,)},
                **{"how": "one" if layers else "none", "mass_lost": 0.9, "alignment_lost": 0.5},
                **{"written": 1.0, "by_layer": tuple(float(layer) for layer in range(20))},
            )
    return texts, found


def layers_of(groups):
    texts, found = asked(groups)
    held = held_out(texts, found)
    return [[held[one.sink.text_id, one.sink.pos].layers for one in t.cases] for t in texts]


def test_the_first_text_has_a_rule_and_the_others_the_choice_of_those_before():
    assert layers_of([[(2,), (1, 2)], [(1, 2)], [(9,)], [(3,)]]) == [
        [(4,), (4,)],
        [(2,)],
        [(1, 2)],
        [(1, 2)],
    ]
    assert layers_of([[()], [()], [(2,)], [()]]) == [[(4,)], [(4,)], [(4,)], [(2,)]]


def test_what_a_sink_was_found_with_has_no_part_in_what_it_is_asked_with():
    before = layers_of([[(2,)], [(3,), (1,)]])[1]
    assert before == layers_of([[(2,)], [(5,), (6,)]])[1] == [(2,), (2,)]


def test_sinks_of_other_creation_layers_choose_for_themselves():
    texts, found = asked([[(2,)], [(2,)]])
    late = [MatchedPair(sink=sink("t1", 7, 6), control=60, kind="twin")]
    texts[1] = TextPairs(trace=NOTHING, begin=0, cases=(*texts[1].cases, *late), left_out={})
    found["t1", 7] = Forming(
        **{"text_id": "t1", "pos": 7, "layers": (6,), "how": "one"},
        **{"mass_lost": 0.9, "alignment_lost": 0.5, "written": 6.0},
    )
    held = held_out(texts, found)
    assert (held["t1", 0].layers, held["t1", 7].layers) == ((2,), (6,))


def test_numbers_of_other_mlps_are_not_those_of_the_sinks_own():
    texts, found = asked([[(2,)], [(3,)]])
    held = held_out(texts, found)["t1", 0]
    assert (held.layers, held.written, held.mass_lost != held.mass_lost) == ((2,), 2.0, True)
    assert held_out(texts, {**found, ("t1", 0): found["t0", 0]})["t1", 0].written == 1.0


def test_groups_that_end_a_sink_by_chance_are_found_at_every_sink_and_held_out_at_few():
    """A null: each sink ends without one of 20 groups, whichever; none forms sinks.

    Judged on the sinks that chose it, a group ends every one of them. Chosen before, it ends about
    one in 20.
    """
    chance = random.Random(0)
    every = [(layer,) for layer in range(20)]
    groups = [[chance.choice(every) for _ in range(10)] for _ in range(40)]
    held = layers_of(groups)
    own, kept = ([*chain.from_iterable(one)] for one in (groups, held))
    ended = sum(one == other for one, other in zip(own, kept, strict=True)) / len(own)
    assert ended < 0.1


def test_controls_are_as_many_layers_that_could_have_ended_the_sink_or_none():
    own = sink("t", 1, 3)
    assert [other_layers(own, one) for one in ((3,), (0, 3), (1, 2, 3), (3, 7))] == [
        (2,),
        (1, 2),
        (),
        (1, 2),
    ]
    assert other_layers(sink("t", 1, 0), (0,)) == ()


def test_where_no_control_is_possible_it_is_said():
    assert control_words(7, 7) == (
        "the same number of other MLPs up to the creation layer, at the same sink"
    )
    assert control_words(0, 7).startswith("no control with other MLPs")
    assert f"at the 3 of 7 sinks that have that many; {TOO_FEW}" in control_words(3, 7)
