"""Triggers: every planted edge is recovered, none is invented, and a plain pass agrees."""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch

from secondary_sinks import detect, observe
from secondary_sinks.questions.circuit import trigger_verdicts
from secondary_sinks.questions.circuit.trigger import trigger, trigger_claims, trigger_cost
from secondary_sinks.questions.circuit.trigger_rows import Trigger, format_group
from secondary_sinks.questions.circuit.trigger_search import enter_alike
from secondary_sinks.questions.circuit.trigger_tests import ends
from secondary_sinks.questions.role_tests import SinkWithTwins, run_rows, sinks_with_twins
from secondary_sinks.questions.writers import NO_TWIN
from secondary_sinks.testing.planted import Plant, plant
from secondary_sinks.types.frames import tidy
from tests.marks import thinned
from tests.questions.gardens import PRIMARY, Garden

SOURCE, HEAD, WRITER = 7, 3, 5
YES, NO, OPEN = "supported", "contradicted", "inconclusive"


def read(layers, **more):
    """One sink, whose MLP writes only if the last head of these layers read the token at 7."""
    return [Plant(pos=20, forming=(WRITER,), trigger=layers, source=SOURCE, **more)]


TRUTHS = {
    "one head": (read((3,)), "3", "3.3", "3.3<7", (1, 1, 1), (YES,) * 4),
    "two, each needed": (
        read((2, 4), strength=24.0),
        *("2 4", "2.3 4.3", "2.3<7", (1, 2, 1), (YES, YES, NO, NO)),
    ),
    "two, one is enough": (
        read((2, 4)),
        *("2 4", "2.3 4.3", "2.3<7 4.3<7", (2, 1, 2), (YES, YES, NO, NO)),
    ),
    "a head that writes": (
        [Plant(pos=20, forming=(3,), by="attention", source=SOURCE)],
        *("3", "3.3", "3.3<7", (1, 1, 1), (YES,) * 4),
    ),
    "no attention": ([Plant(pos=20, forming=(3,))], "", "", "", None, (NO,) * 4),
    "the token's identity": (
        [Plant(pos=20, forming=(3,), identity=1)],
        *("", "", "", None, (NO,) * 4),
    ),
    "a chain of MLPs": (
        [Plant(pos=20, forming=(2, 4), chain=True)],
        *("", "", "", None, (NO,) * 4),
    ),
}
"""Plants; layers, heads and edges that are needed; sizes of the smallest sets (heads that end,
heads that create, edges); outcomes."""
OPTIONS = {"two, each needed": {"anisotropy": 10.0}}
"""So that half of what the two make the MLP write draws less than half of the attention."""
KEPT = ["one head", "two, each needed", "two, one is enough", "the token's identity"]


@cache
def garden(name):
    n_texts = 8 if name == "one head" else 1
    return Garden(*TRUTHS[name][0], twins=2, n_texts=n_texts, **OPTIONS.get(name, {}))


@cache
def answer_of(name):
    return trigger(*garden(name).asked)


@pytest.mark.parametrize("name", thinned(TRUTHS, KEPT))
def test_what_was_planted_is_found_at_every_sink(name):
    _, layers, heads, sources, sizes, outcomes = TRUTHS[name]
    answer = answer_of(name)
    table = answer.tables["triggers"]
    assert len(table) == len(garden(name).traces)
    assert set(table["layers"]) == {layers}
    assert set(table["heads"]) == {heads}
    if name != "two, each needed":  # either of the two edges alone then ends it
        assert set(table["sources"]) == {sources}
    numbers = table[["n_heads_end", "n_heads_create", "n_sources"]]
    assert numbers.drop_duplicates().to_numpy().tolist() == [
        pytest.approx(sizes or [np.nan] * 3, nan_ok=True)
    ]
    eight = pd.concat([table[:1].assign(text_id=f"t{number}") for number in range(8)])
    assert outcomes_of(eight) == outcomes
    assert {verdict.n_claims for verdict in answer.verdicts} == {6}


@pytest.mark.parametrize("name", thinned(TRUTHS, KEPT))
def test_no_edge_is_invented(name):
    """Edges with an effect: those of the planted layers and heads, and of the planted source."""
    plants, cells = TRUTHS[name][0], answer_of(name).cells
    (sink,) = (s for s in garden(name).planted.expected_sinks() if s.pos == plants[0].pos)
    at = cells[cells["layer"].notna() & (cells["effect"] > 0)]
    heads = {(one.layer, one.head) for one in sink.triggered_by}
    assert set(at["layer"]) == {layer for layer, _ in heads}
    assert (
        set(at.loc[at["site"] == "z", ["layer", "head"]].itertuples(index=False, name=None))
        == heads
    )
    assert set(at["source_pos"].dropna()) == {one.source for one in sink.triggered_by}
    assert cells["layer"].max() <= sink.l_start


def test_the_token_that_the_head_attends_to_most_is_not_its_trigger():
    made, answer = garden("one head"), answer_of("one head")
    _, run = made.model.run_with_cache(made.traces[0].tokens[None])
    paid = run["blocks.3.attn.hook_pattern"][0, HEAD, 20]
    assert int(paid.argmax()) == 0
    edges = answer.cells[
        (answer.cells["site"] == "attn_scores") & (answer.cells["text_id"] == "t0")
    ]
    tried = edges[edges["measure"] == "ended"].set_index("source_pos")["effect"]
    assert (tried[0], tried[SOURCE]) == (0, 1)
    assert len(tried) == 16
    (source,) = edges.loc[edges["measure"] == "ended_in_set", "source_token"]
    assert source == made.traces[0].token_strings[SOURCE]


def test_a_plain_hooked_pass_agrees_on_an_edge():
    """The sink ends without one edge; a twin becomes one with the output of one head."""
    made = garden("one head")
    model, trace = made.model, made.traces[0]
    same = (trace.tokens == trace.tokens[20]).nonzero()[:, 0].tolist()
    (twin,) = (pos for pos in same[:2] if pos != 20)

    def without_edge(scores, hook):
        scores[0, HEAD, 20, SOURCE] = -torch.inf

    def into_twin(z, hook):
        z[0, twin, HEAD] = z[0, 20, HEAD]

    def lasting(name, hook):
        with model.hooks(fwd_hooks=[(f"blocks.3.attn.{name}", hook)]):
            _, run = model.run_with_cache(trace.tokens)
        return {sink.pos for sink in detect(run, trace.tokens).of_kind("secondary").sinks}

    assert lasting("hook_attn_scores", without_edge) == set()
    assert lasting("hook_z", into_twin) == {20, twin}


def test_what_a_verdict_says():
    by_attention, by_few, by_layer, by_head = answer_of("one head").verdicts
    assert by_attention.claim == "secondary sinks of level 0 are triggered by what attention reads"
    assert by_attention.why == (
        "with a twin's attention outputs up to the creation layer 8 of 8 sinks end; with the "
        "sink's own 8 of 8 sinks make most twins sinks; those of random tokens make 0% of them "
        "sinks"
    )
    assert by_few.why == (
        "8 of 8 sinks end, with 1 head in the median; with random heads instead, 0% of these"
    )
    assert by_layer.claim.endswith("are triggered by the attention of layer 3")
    assert by_layer.layer is None  # that of a verdict is of an MLP
    assert by_head.general == "secondary sinks of level 0 are triggered by one attention head"
    assert by_head.why == "needed and enough, of 8 sinks in 8 texts: head 3.3 at 8"


def test_the_sizes_have_intervals_over_texts():
    of_eight = answer_of("one head").tables["sizes"]
    assert of_eight[["size", "low", "high"]].to_numpy().tolist() == [[1, 1, 1]] * 3
    sizes = answer_of("two, one is enough").tables["sizes"]
    assert sizes["size"].tolist() == [2, 1, 2]
    assert sizes["share"].tolist() == [1, 1, 1]
    assert sizes["control"].tolist() == [0, 0, 0]


def test_without_a_twin_nothing_is_said_and_the_sinks_are_counted():
    made = Garden(*read((3,)), twins=0)
    answer = trigger(*made.asked)
    assert answer.cells.empty
    assert answer.tables["triggers"]["n_donors"].tolist() == [0] * 8
    assert {verdict.outcome for verdict in answer.verdicts} == {OPEN}
    assert all(f"8 {NO_TWIN}" in verdict.why for verdict in answer.verdicts)


def test_without_sinks_nothing_is_claimed():
    answer = trigger(*Garden(n_texts=2).asked)
    assert [verdict.outcome for verdict in answer.verdicts] == [OPEN] * 4
    assert answer.cells.empty
    assert answer.effects.empty


def test_twins_may_stand_in_a_shorter_text():
    made = Garden(*read((3,)), twins=0, n_texts=1)
    tokens = made.traces[0].tokens[:18].clone()
    tokens[[3, 6]] = int(made.traces[0].tokens[20])
    traces = [made.traces[0], observe(made.model, tokens, text_id="short")]
    (row,) = trigger(made.model, traces, detect(traces)).tables["triggers"].to_dict("records")
    assert (row["n_donors"], row["heads"], row["sources"]) == (2, "3.3", "3.3<7")
    assert row["created"] == row["heads_created"] == 1


@pytest.mark.parametrize("name", ["the token's identity", "no attention"])
def test_the_price_is_that_of_the_tests_of_layers(name, monkeypatch):
    made, counted = garden(name), []
    from secondary_sinks.questions.circuit import search

    plain = search.run_rows
    monkeypatch.setattr(
        search, "run_rows", lambda *given: counted.append(len(given[1])) or plain(*given)
    )
    trigger(*made.asked)
    assert trigger_cost(*made.asked[1:]).replayed == sum(counted)
    assert trigger_claims(made.sinks) == 6


def rows(n_texts=10, **same):
    """One sink per text, triggered by head 3 of layer 3, with other values in some columns."""
    values = {
        "token": "x", "kind": "secondary", "level": 0.0, "l_start": 5, "n_donors": 4, "n_heads": 24,
        **dict.fromkeys(("ended", "ended_mean", "created"), 1.0), "created_by_others": 0.0,
        "layers": "3", "layers_ended": 1.0, "layers_created": 1.0, "other_layers_ended": 0.0,
        "alike": False, "n_heads_end": 1.0, "set_ended": 1.0, "random_set_ended": 0.0,
        "heads": "3.3", "heads_ended": 1.0, "heads_created": 1.0, "random_heads_ended": 0.0,
    }  # fmt: skip
    return tidy([{"text_id": f"t{n}", "pos": 1, **values, **same} for n in range(n_texts)], Trigger)


def outcomes_of(table):
    return tuple(v.outcome for v in trigger_verdicts.trigger_verdicts(table))


def test_a_claim_needs_both_directions_and_a_control_that_fails():
    assert outcomes_of(rows()) == (YES,) * 4
    assert outcomes_of(rows(created=0.25))[0] == OPEN  # needed, but not enough
    assert outcomes_of(rows(ended=0.25))[0] == OPEN  # the mean ends it, single twins do not
    assert outcomes_of(rows(created_by_others=1.0))[0] == OPEN  # so do random tokens
    assert outcomes_of(rows(alike=True)) == (OPEN, YES, YES, YES)  # true by construction
    assert outcomes_of(rows(set_ended=0.5))[1] == OPEN  # found by the mean, which single twins miss
    assert outcomes_of(rows(n_heads_end=np.nan))[1] == OPEN  # a search that fails proves nothing
    assert outcomes_of(rows(random_set_ended=1.0))[1] == OPEN
    assert outcomes_of(rows(n_donors=1))[1] == OPEN  # found by this twin, and tested on it alone
    assert outcomes_of(rows(other_layers_ended=1.0))[2:] == (OPEN, YES)
    assert outcomes_of(rows(random_heads_ended=0.9))[3] == OPEN
    assert outcomes_of(rows(random_heads_ended=np.nan))[3] == OPEN
    none = {"ended": 0.0, "ended_mean": 0.0, "created": 0.0, "layers": "", "heads": ""}
    assert outcomes_of(rows(**none, n_heads_end=np.nan)) == (NO,) * 4
    assert outcomes_of(rows(n_texts=5)) == (OPEN,) * 4


def test_few_heads_are_few_among_those_that_could_have_a_part():
    """All heads together always end a sink that has its twin's state: so would 16, of 16."""
    assert outcomes_of(rows(n_heads_end=6.0))[1] == YES  # a fourth of 24
    assert outcomes_of(rows(n_heads_end=7.0))[1] == OPEN
    assert outcomes_of(rows(n_heads=400, n_heads_end=16.0))[1] == YES
    assert outcomes_of(rows(n_heads=400, n_heads_end=17.0))[1] == OPEN
    (_, by_few, *_) = trigger_verdicts.trigger_verdicts(rows(n_heads=3))
    assert (by_few.outcome, by_few.n_sinks) == (OPEN, 0)
    assert f"10 {trigger_verdicts.NO_FEW}" in by_few.why


def test_the_layer_of_most_texts_is_named_not_that_of_one_long_text():
    long = rows(n_texts=30, layers="4").assign(text_id="long", pos=range(30))
    table = pd.concat([rows(n_texts=19), long], ignore_index=True)
    by_layer = trigger_verdicts.trigger_verdicts(table)[2]
    assert "layer 3" in by_layer.claim
    assert (by_layer.outcome, by_layer.value) == (YES, 0.95)


def test_a_control_that_was_never_run_is_no_control_that_fails():
    untried = rows(created_by_others=np.nan)
    (by_attention, *others) = trigger_verdicts.trigger_verdicts(untried)
    assert (by_attention.outcome, by_attention.n_sinks) == (OPEN, 0)
    assert f"10 {trigger_verdicts.NO_RANDOM}" in by_attention.why
    assert "random tokens make" not in by_attention.why
    assert [one.outcome for one in others] == [YES] * 3, "these have other controls"
    both = pd.concat([rows(), untried.assign(text_id=[f"u{n}" for n in range(10)])])
    (tried, *_) = trigger_verdicts.trigger_verdicts(both)
    assert (tried.outcome, tried.n_sinks, tried.n_texts) == (YES, 10, 10)
    assert f"left out: 10 {trigger_verdicts.NO_RANDOM}" in tried.controls


def test_a_set_without_a_control_supports_nothing_and_is_not_dropped():
    """If such sinks were left out, those at which nothing was found would decide alone."""
    untried = dict.fromkeys(
        ("random_set_ended", "other_layers_ended", "random_heads_ended"), np.nan
    )
    found = rows(**untried).assign(text_id=[f"u{n}" for n in range(10)])
    assert outcomes_of(found)[1:] == (OPEN,) * 3
    none = {"ended": 0.0, "ended_mean": 0.0, "created": 0.0, "layers": "", "heads": ""}
    both = pd.concat([rows(**none, n_heads_end=np.nan), found])
    _, *verdicts = trigger_verdicts.trigger_verdicts(both)
    assert [one.outcome for one in verdicts] == [OPEN] * 3
    assert [one.n_sinks for one in verdicts] == [20] * 3
    for one, what in zip(verdicts, ("heads", "layers", "heads"), strict=True):
        assert trigger_verdicts.NO_CONTROL.format(what=what, n=10) in one.why


def test_without_learned_positions_a_sink_and_its_twin_enter_alike():
    """Then the exchange of all attention outputs makes one the other, whatever triggers it."""
    for positions, alike in (("rotary", True), ("learned", False)):
        made = plant([PRIMARY, Plant(pos=12, forming=(3,))], positions=positions)
        tokens = made.tokens.clone()
        tokens[[20, 30]] = int(tokens[12])
        text = observe(made.model, tokens)
        sink = replace(detect(text).sinks[0], pos=12)
        one = SinkWithTwins(sink=sink, trace=text, home=text, twins=(20, 30))
        assert enter_alike(made.model, one) == alike


def test_heads_that_differ_from_text_to_text_are_not_named():
    table = rows(12).assign(heads=[f"3.{n % 4}" for n in range(12)])
    (*_, by_layer, by_head) = trigger_verdicts.trigger_verdicts(table)
    assert by_layer.outcome == YES
    assert by_head.outcome == OPEN
    assert by_head.value == pytest.approx(0.25)


def test_a_group_is_written_in_order():
    assert format_group(((3, 11, 2), (3, 2, 40))) == "3.2<40 3.11<2"
    assert isinstance(answer_of("one head").effects, pd.DataFrame)


def test_sinks_that_are_attended_anyway_do_not_end_with_what_a_twin_has():
    """Heads read a mark of the place: what attention read decides norm and direction, no more."""
    made = Garden(*read((3,)), twins=2, n_texts=8, by_marks=True)
    (one,) = sinks_with_twins(made.traces[:1], made.sinks)[0]
    steps = ends(one, [((3,),)])
    (row,) = run_rows(made.model, next(steps), made.sinks)
    assert not row["is_sink"], "by the criterion alone it would have ended"
    answer = trigger(*made.asked)
    assert (answer.tables["triggers"]["ended_mean"] == 0).all()
    assert outcomes_of(answer.tables["triggers"])[1] == NO
