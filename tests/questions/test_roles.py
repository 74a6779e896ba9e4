"""Roles: who writes a sink and who only enables it, where zeroing would have named another."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from secondary_sinks import Edit, detect, observe, replay, roles
from secondary_sinks.questions.roles import Role, decide, decide_all, null_cosine
from secondary_sinks.questions.writers import NO_TWIN, levels_in, writer_verdicts
from secondary_sinks.questions.written_together import written_together
from secondary_sinks.testing.plant_layout import GIVER, MARK, SINK_DIM
from secondary_sinks.testing.planted import Plant
from tests.marks import thinned
from tests.questions.gardens import Garden, three

ONE = "secondary sinks of level 0 are written by the MLP of"
ATTENTION = [
    Plant(pos=pos, forming=(layer,), by="attention") for pos, layer in ((12, 2), (24, 3), (36, 4))
]
TRUTHS = {
    "one MLP": (three(forming=(3,)), {3: "writer"}, {3: "supported"}, {3}),
    "a chain": (
        three(forming=(2, 4), chain=True),
        {2: "enabler", 4: "writer"},
        {4: "supported"},
        {2, 4},
    ),
    "identity": (three(forming=(3,), identity=1), {3: "writer"}, {3: "supported"}, {1, 3}),
    "two that each keep the attention": (
        three(forming=(2, 3), strength=24.0),
        {2: "undecided", 3: "undecided"},
        {None: "inconclusive"},
        set(),
    ),
    "two that are needed each": (
        three(forming=(2, 3), strength=24.0),
        {2: "writer", 3: "writer"},
        {2: "supported", 3: "supported"},
        {2, 3},
    ),
    "two of which one is enough": (
        three(forming=(2, 4), strength=90.0),
        {2: "undecided"},
        {None: "inconclusive"},
        set(),
    ),
    "attention": (ATTENTION, {}, {None: "contradicted"}, set()),
}
"""Plants, roles other than neither, outcome by layer of the verdict, and what zeroing names."""
OPTIONS = {"two that are needed each": {"anisotropy": 10.0}}
"""Without the common direction, half of a state's norm draws most of the attention of all of it."""


@pytest.mark.parametrize(
    "name", thinned(list(TRUTHS), ["two that are needed each", "a chain", "identity"])
)
def test_roles_and_verdicts_are_what_was_planted(name):
    plants, truth, outcomes, named_by_zero = TRUTHS[name]
    answer = roles(*Garden(*plants, twins=2, **OPTIONS.get(name, {})).asked)
    table = answer.to_frame()
    assert len(table.groupby(["text_id", "pos"])) == 24
    for (_, _), rows in table.groupby(["text_id", "pos"]):
        assert rows["layer"].tolist() == list(range(int(rows["l_start"].iloc[0]) + 1))
        found = dict(zip(rows["layer"], rows["role"], strict=True))
        assert found == dict.fromkeys(found, "neither") | truth
        assert set(rows.loc[rows["ended_zero"], "layer"]) == named_by_zero
    assert {verdict.layer: verdict.outcome for verdict in answer.verdicts} == outcomes
    assert all(verdict.claim.startswith(ONE) for verdict in answer.verdicts)


def attended_for_their_place(model):
    """Heads read a mark of sinks and their twins alike; none reads what the MLPs write."""
    places = [pos + step for pos in (12, 24, 36) for step in (-1, 1)]
    model.pos_embed.W_pos.data[places, GIVER] = MARK
    for block in model.blocks:
        block.attn.W_K.data[:, GIVER, SINK_DIM] = 4.5 / MARK


def test_no_mlp_writes_sinks_that_are_attended_for_another_reason():
    """Naively, the MLP whose output the criterion asks for wrote all of them."""
    options = {"twins": 2, "by_marks": True, "change": attended_for_their_place}
    garden = Garden(*three(forming=(3,)), n_texts=7, **options)
    trace = garden.traces[0]
    without = replay(garden.model, trace, Edit(pos=12, layer=3))
    assert torch.allclose(without.mass[:, 0], trace.mass[:, 12], atol=1e-3)
    answer = roles(*garden.asked)
    writes = answer.cells[answer.cells["layer"] == 3]
    assert set(writes["role"]) == {"undecided"}
    assert set(writes["why"]) == {
        "replacing its output ends the sink's norm, but not its attention"
    }
    tests = ["ended_zero", "ended_twin", "ended_each", "created_in_twin", "lives_without"]
    assert writes[tests].drop_duplicates().to_numpy().tolist() == [[False, 0, 0, 0, True]]
    (verdict,) = answer.verdicts
    assert (verdict.outcome, verdict.layer, verdict.n_sinks) == ("inconclusive", None, 21)


def test_what_a_verdict_says():
    (verdict,) = roles(*Garden(*three(forming=(2, 4), chain=True), n_texts=2).asked).verdicts
    said, few = verdict.why.rsplit("; ", 2)[0], verdict.why.partition("MLP 2; ")[2]
    assert said == "writer: MLP 4 (6 of 6 sinks in 2 texts); enabler: MLP 2"
    assert few.startswith("6 sinks in only 2 texts with controls")
    assert (verdict.value, verdict.n_sinks, verdict.n_texts) == (1.0, 6, 2)


def test_no_sinks_and_too_few_are_inconclusive_and_say_so():
    (none,) = roles(*Garden(n_texts=3).asked).verdicts
    assert (none.outcome, none.layer) == ("inconclusive", None)
    (few,) = roles(*Garden(*three(forming=(3,)), n_texts=2).asked).verdicts
    assert (few.outcome, few.layer) == ("inconclusive", 3)
    assert "at least 5 sinks in 7 texts are needed" in few.why


def test_a_layer_that_writes_one_of_several_sinks_is_not_the_writer_of_the_level():
    plants = [Plant(pos=12, forming=(3,)), Plant(pos=24, forming=(3,)), Plant(pos=36, forming=(5,))]
    table = roles(*Garden(*plants).asked).to_frame().assign(level=0.0)
    (verdict,) = writer_verdicts(table)
    assert (verdict.layer, verdict.why) == (3, "writer: MLP 3 (16 of 24 sinks in 8 texts)")


def test_without_a_twin_nothing_is_said_and_the_sinks_are_counted():
    answer = roles(*Garden(*three(forming=(3,)), twins=0, n_texts=2).asked)
    table = answer.to_frame()
    assert set(table["n_donors"]) == {0}
    assert set(table["role"]) == {"undecided"}
    assert table["ended_twin"].isna().all()
    (verdict,) = answer.verdicts
    assert (verdict.outcome, verdict.n_sinks) == ("inconclusive", 0)
    assert f"6 {NO_TWIN}" in verdict.why


def test_twins_come_from_another_text_where_the_own_has_none():
    garden = Garden(*three(forming=(3,)), twins=0, n_texts=1)
    tokens = garden.traces[0].tokens[:14].clone().roll(1)  # without a sink
    tokens[[5, 6]] = int(garden.traces[0].tokens[12])
    traces = [garden.traces[0], observe(garden.model, tokens, text_id="with twins")]
    table = roles(garden.model, traces, detect(traces)).to_frame()
    asked = table[(table["text_id"] == "t0") & (table["layer"] == 3)].set_index("pos")
    assert asked["n_donors"].to_dict() == {12: 2, 24: 0, 36: 0}
    assert asked["role"].to_dict() == {12: "writer", 24: "undecided", 36: "undecided"}
    assert asked.loc[12, "created_in_twin"] == 1


def test_a_token_of_the_same_id_that_is_a_sink_is_no_twin():
    garden = Garden(*three(forming=(3,)), twins=1, n_texts=1)
    tokens = garden.traces[0].tokens.clone()
    tokens[24] = int(tokens[12])
    trace = observe(garden.model, tokens, text_id="same id twice")
    sinks = detect(trace)
    assert {12, 24} < {sink.pos for sink in sinks.sinks}
    table = roles(garden.model, trace, sinks).to_frame()
    assert table.groupby("pos")["n_donors"].first().to_dict() == {12: 1, 24: 1, 36: 1}


def test_strong_primary_like_sinks_are_asked_and_told_apart():
    garden = Garden(*three(forming=(3,)), Plant(pos=2, forming=(1,), strength=350.0), n_texts=3)
    assert {s.kind for s in garden.sinks.sinks} >= {"primary_like"}
    answer = roles(*garden.asked)
    names = [name for name, _ in levels_in(answer.to_frame())]
    assert names[-1] == "primary-like sinks"
    assert [verdict.layer for verdict in answer.verdicts] == [3, 1]


def test_the_numbers_are_those_of_the_engine():
    garden = Garden(*three(forming=(2, 4), chain=True), n_texts=1)
    trace, table = garden.traces[0], roles(*garden.asked).to_frame()
    row = table[(table["pos"] == 12) & (table["layer"] == 4)].iloc[0]
    kept = [Edit(pos=12, layer=(0, 1, 2, 3)), Edit(pos=12, layer=4, kind="patch", donor=12)]
    alone, without = replay(garden.model, trace, [kept, Edit(pos=12, layer=(0, 1, 2, 3, 4))]).norm[
        5
    ]
    assert float(alone) > 50 > 10 > float(without)
    assert (row["rescued_alone"], row["lives_without"]) == (True, False)
    assert row["write_alignment"] == pytest.approx(float(trace.mlp_alignment[4, 12]))


def row(layer, **tests):
    passed = {
        "ended_zero": True,
        "ended_twin": 1.0,
        "ended_each": 1.0,
        "created_in_twin": 1.0,
        "rescued_alone": True,
        "lives_without": False,
        "write_alignment": 0.9,
        "n_donors": 2,
    }
    where = {"text_id": "t", "pos": 3, "token_id": 1, "token": "a", "kind": "secondary"}
    state = {"level": 0.0, "l_start": 2, "role": "", "why": "", "write_null": 0.1}
    return Role(**where, **state, layer=layer, **(passed | tests))


CRITERIA = {
    "all": ({}, "writer", "alone"),
    "zeroing does not matter": ({"ended_zero": False}, "writer", "alone"),
    "no replacement ends it": ({"ended_twin": 0.0, "ended_each": 0.0}, "undecided", "not need it"),
    "zero only": (
        {"ended_twin": 0.0, "ended_each": 0.0, "created_in_twin": 0.0},
        "neither",
        "only zeroing",
    ),
    "no sink in the twins": (
        {"created_in_twin": 0.5},
        "undecided",
        "does not turn twins into sinks",
    ),
    "not rescued": ({"rescued_alone": False}, "undecided", "not bring the sink back"),
    "never lost": ({"lives_without": True}, "undecided", "not bring the sink back"),
    "not along": ({"write_alignment": 0.05}, "undecided", "is not aligned with the primary"),
    "no primary": (
        {"write_alignment": float("nan")},
        "undecided",
        "is not aligned with the primary",
    ),
    "twins disagree": ({"ended_each": 0.5}, "undecided", "twins disagree"),
    "no twin": ({"n_donors": 0}, "undecided", "no token twin"),
}


@pytest.mark.parametrize("name", CRITERIA)
def test_each_criterion_can_fail(name):
    changes, role, why = CRITERIA[name]
    found = decide(one := row(2, **changes), [one])
    assert found[0] == role
    assert why in found[1]


def test_an_mlp_before_one_that_mediates_is_an_enabler_whatever_else_it_does():
    rows = [row(0), row(1, write_alignment=0.0), row(2)]
    assert [one.role for one in decide_all(rows)] == ["enabler", "enabler", "writer"]
    rows[2] = replace(rows[2], lives_without=True)
    assert [one.role for one in decide_all(rows)] == ["enabler", "undecided", "undecided"]


GROUPS = {
    "all are needed": ((1, 2), {(1, 2)}, (1, 2)),
    "one can be spared": ((1, 2, 3), {(1, 2, 3), (1, 2)}, (1, 2)),
    "two can be spared": ((1, 2, 3, 4), {(1, 2, 3, 4), (1, 2, 3), (1, 2, 4), (1, 2)}, (1, 2)),
    "one is needed, with either of two": ((1, 2, 3), {(1, 2, 3), (1, 2), (1, 3)}, ()),
    "two, with either of two": ((1, 2, 3, 4), {(1, 2, 3, 4), (1, 2, 3), (1, 2, 4)}, ()),
    "any two of three": ((1, 2, 3), {(1, 2, 3), (1, 2), (1, 3), (2, 3)}, ()),
    "even all are too few": ((1, 2), set(), ()),
}
"""MLPs that may write a sink, the sets that make it a sink, and those that write it together."""


@pytest.mark.parametrize("name", GROUPS)
def test_mlps_write_together_if_they_are_needed_and_enough_without_others(name, monkeypatch):
    """Naively, the one that is needed with either of two others wrote the sink alone."""
    group, enough, expected = GROUPS[name]
    tried = []

    def tested(model, parts, sinks, kept):
        tried.extend(part for _, part in parts)
        found = {}
        for one, part in parts:
            made = float(part in enough)
            results = {"rescue": made, "floor": 0.0, "create": made}
            found.setdefault(one.place, {}).update(
                {(part, test): results[test] for test in results}
            )
        return found

    monkeypatch.setattr(sys.modules[written_together.__module__], "_tested", tested)
    one = SimpleNamespace(place=("t0", 12))
    found = written_together(None, [(one, group)], None, {})
    assert found.get(one.place, ()) == expected
    assert len(tried) == len(set(tried)), "no set is tested twice"


def test_members_of_a_group_are_named_with_the_others():
    alone = row(1, rescued_alone=False)
    rows = [alone, replace(alone, layer=2), replace(alone, layer=3)]
    found = decide_all(rows, (2, 3))
    assert [one.why for one in found] == [
        "through MLPs 2-3",
        "together with MLP 3",
        "together with MLP 2",
    ]


def test_the_null_is_that_of_random_directions():
    chance = torch.Generator().manual_seed(0)
    drawn = torch.nn.functional.normalize(torch.randn(40_000, 24, generator=chance), dim=1)[:, 0]
    share = float((drawn > null_cosine(24)).float().mean())
    assert share == pytest.approx(0.01, abs=0.003)


def test_twins_may_stand_in_a_text_that_ends_before_the_sink():
    garden = Garden(*three(forming=(3,)), twins=0, n_texts=1)
    tokens = garden.traces[0].tokens[:30].clone()
    tokens[[5, 6]] = int(garden.traces[0].tokens[36])
    traces = [garden.traces[0], observe(garden.model, tokens, text_id="short")]
    table = roles(garden.model, traces, detect(traces)).to_frame()
    made = table[(table["pos"] == 36) & (table["layer"] == 3)]
    assert made[["n_donors", "created_in_twin", "role"]].to_numpy().tolist() == [[2, 1, "writer"]]
