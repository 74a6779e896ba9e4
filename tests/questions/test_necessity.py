"""Necessity: the MLPs that were planted are named, by whatever way they work together."""

from dataclasses import replace
from functools import partial

import pandas as pd
import pytest
import torch

from secondary_sinks import Edit, ablate, detect, forming_mlps, necessity, observe, replay, runs
from secondary_sinks.errors import DetectionError
from secondary_sinks.questions.held_out import TOO_FEW
from secondary_sinks.questions.matched_pairs import match_pairs
from secondary_sinks.questions.necessity import _formed_verdict
from secondary_sinks.sweeps import ModelSpec, SweepConfig, sweep
from secondary_sinks.testing.planted import Plant, plant
from secondary_sinks.texts import TokenizedText
from secondary_sinks.types import SinkTable, Thresholds
from tests.marks import exhaustive, thinned
from tests.questions.gardens import PRIMARY, Garden, outcomes, three

FORMED = "sinks other than the primary need one MLP, or several MLPs together"


def needs(layer):
    return f"secondary sinks need the MLP of layer {layer}"


ATTENTION = [
    Plant(pos=pos, forming=(layer,), by="attention") for pos, layer in ((12, 2), (24, 3), (36, 4))
]
TRUTHS = {
    "one MLP": (three(forming=(3,)), {needs(3): "supported", FORMED: "supported"}, "one"),
    "two that are needed each": (
        three(forming=(2, 3), strength=24.0),
        {needs(2): "supported", needs(3): "supported", FORMED: "supported"},
        "each",
    ),
    "two of which one is enough": (
        three(forming=(2, 4), strength=90.0),
        {"secondary sinks need the MLP of layer": "contradicted", FORMED: "supported"},
        "redundant",
    ),
    "a chain": (
        three(forming=(2, 4), chain=True),
        {needs(2): "supported", needs(4): "supported", FORMED: "supported"},
        "each",
    ),
    "attention": (
        ATTENTION,
        {"secondary sinks need the MLP of layer": "contradicted", FORMED: "contradicted"},
        "none",
    ),
    "nothing": (
        [],
        {"secondary sinks need the MLP of a single layer": "inconclusive", FORMED: "inconclusive"},
        None,
    ),
    "norm without direction": (
        three(forming=(3,), sideways=True, strength=90.0),
        {"secondary sinks need the MLP of a single layer": "inconclusive", FORMED: "inconclusive"},
        None,
    ),
}


N_TEXTS = {name: 12 for name in TRUTHS if name.startswith(("two", "a chain"))}
"""The first text is asked with the MLP of the creation layer; where that is not all that forms the
sinks, so many texts are needed for one that says another thing."""


def garden_of(name):
    """Texts of a truth."""
    return Garden(*TRUTHS[name][0], n_texts=N_TEXTS.get(name, 8))


@pytest.mark.parametrize("name", thinned(list(TRUTHS), ["a chain", "nothing"]))
def test_the_verdicts_are_what_was_planted(name):
    plants, truth, how = TRUTHS[name]
    answer = necessity(*garden_of(name).asked)
    got = outcomes(answer)
    assert len(got) == len(truth)
    for claim, outcome in truth.items():
        assert {found for name, found in got.items() if name.startswith(claim)} == {outcome}
    forming = answer.tables["forming"]
    assert set(forming["how"]) == ({how} if how else set())
    if how in {"one", "each", "redundant"}:
        planted = ", ".join(map(str, plants[0].forming)).replace("2, 3", "2-3")
        assert set(forming["layers"]) == {planted}


@exhaustive
def test_each_sink_has_its_own_forming_mlps():
    plants = [Plant(pos=12, forming=(2,)), Plant(pos=24, forming=(4,)), Plant(pos=36, forming=(3,))]
    answer = necessity(*Garden(*plants).asked)
    forming = answer.tables["forming"].groupby("pos")["layers"].unique()
    assert forming.map(list).to_dict() == {12: ["2"], 24: ["4"], 36: ["3"]}
    assert outcomes(answer)[FORMED] == "supported"
    # Of all sinks no layer is needed; of those that it could have ended, the last creation layer.
    supported = {v.claim for v in answer.verdicts if v.outcome == "supported"} - {FORMED}
    assert supported == {"secondary sinks created at layer 4 or later need the MLP of layer 4"}


def test_three_redundant_mlps_are_found_together():
    garden = Garden(*three(forming=(2, 3, 4), strength=120.0), n_texts=1)
    found = forming_mlps(*garden.asked)
    assert {(one.layers, one.how) for one in found} == {((2, 3, 4), "redundant")}
    assert all(one.mass_lost > 0.9 for one in found)


def test_the_output_at_the_same_token_elsewhere_is_among_the_default_edits():
    """An MLP that carries the token's identity is needed by zero alone, so none says it is."""
    answer = necessity(*Garden(*three(forming=(3,), identity=1), twins=2).asked)
    shares = answer.effects.set_index(["edit", "layer"])["removed"]
    assert (shares["zero", 1], shares["mean:twins", 1]) == (1.0, 0.0)
    assert (shares["zero", 3], shares["mean:twins", 3]) == (1.0, 1.0)
    got = outcomes(answer)
    assert got[needs(3)] == "supported"
    assert needs(1) not in got


def with_a_twin_in_both():
    """A planted model, and traces of two texts that begin with the same ten tokens, a twin too."""
    planted = plant([PRIMARY, Plant(pos=20, forming=(3,))])
    first, sink = planted.tokens.clone(), planted.tokens[20]
    first[first == sink] = 31 - (sink == 31).long()
    first[[5, 20]] = sink
    second = first.clone()
    second[10:20] = first[10:20].flip(0)
    texts = enumerate((first, second))
    return planted.model, [observe(planted.model, one, text_id=f"t{n}") for n, one in texts]


def test_a_token_that_an_earlier_text_begins_with_too_is_no_control():
    """The twin at 5 is one observation, though both texts hold it; so it serves the first alone."""
    _, traces = with_a_twin_in_both()
    texts = match_pairs(traces, detect(traces))
    (twin,), (neighbour,) = (text.cases for text in texts)
    assert (twin.control, twin.kind) == (5, "twin")
    assert (neighbour.control, neighbour.kind) == (19, "neighbour")


@pytest.mark.parametrize("ask", [necessity, partial(ablate, ordinary=2)])
def test_nor_are_its_effects_compared_with(ask):
    model, traces = with_a_twin_in_both()
    cells = ask(model, traces, detect(traces)).to_frame()
    controls = cells[cells["role"] == "control"]
    assert controls.loc[controls["text_id"] == "t0", "pos"].min() == 5
    assert controls.loc[controls["text_id"] == "t1", "pos"].min() >= 10


def test_nor_does_a_sweep_compare_with_it_whose_tasks_know_one_text_each(tmp_path):
    model, traces = with_a_twin_in_both()
    texts = [
        TokenizedText(text_id=trace.text_id, tokens=trace.tokens, feed="raw", fed="as planted")
        for trace in traces
    ]
    config = SweepConfig(models=(ModelSpec(name="planted"),), edits=("zero",))
    sweep(config, tmp_path / "out", texts=texts, models={"planted": model})
    effects = runs.open(tmp_path / "out").record["layer_effects"]
    assert {(row["n_texts"], row["n_unmatched"]) for row in effects if row["n_sinks"]} == {(1, 1)}


def test_a_token_without_a_twin_is_left_out_of_that_edit_alone():
    cells = necessity(*Garden(*three(forming=(3,)), twins=0, n_texts=1).asked).cells
    sinks = cells[cells["role"] == "sink"]
    assert "mean:twins" not in set(sinks["edit"])
    assert len(sinks[sinks["edit"] == "zero"]) == 3 * 8


def test_controls_are_twins_and_ordinary_tokens_and_lose_nothing():
    answer = necessity(*Garden(*three(forming=(3,)), n_texts=2).asked)
    cells = answer.to_frame()
    controls = cells[cells["role"] == "control"]
    assert set(controls["kind"]) == {"twin", "ordinary"}
    assert (controls["lifetime_edited"] == 0).all()
    at = controls[(controls["layer"] == 3) & (controls["edit"] == "zero")]
    assert at["mass_edited"].to_numpy() == pytest.approx(at["mass_clean"].to_numpy())


def test_a_control_that_could_have_failed_or_none():
    """MLPs 1 and 2 are both needed, so as controls of each other they fail.

    The first text is asked with 2 alone: 1 ends the sinks too, where any later layer would have
    passed. The others are asked with both: one more MLP could have ended the sinks, too few.
    """
    answer = necessity(*Garden(*three(forming=(1, 2), strength=24.0), n_texts=3).asked)
    formed = answer.tables["formed"]
    others = formed[formed["where"] == "other"]
    assert set(others["text_id"]) == {"t0"}
    assert set(others["layers"]) == {(1,)}
    assert not others["is_sink"].any()
    assert set(formed.loc[formed["text_id"] != "t0", "layers"]) == {(1, 2)}
    verdict = answer.verdicts[-1]
    assert (verdict.n_controls, verdict.n_sinks) == (3, 9)
    assert "at the 3 of 9 sinks that have that many" in verdict.controls


@exhaustive
def test_sinks_that_need_every_mlp_are_not_shown_to_be_formed_by_these():
    """MLPs 1 and 2 are needed each: MLP 0 is the only other one, too few for a control."""
    answer = necessity(*Garden(*three(forming=(1, 2), strength=24.0), n_texts=12).asked)
    verdict = answer.verdicts[-1]
    assert verdict.outcome == "inconclusive", verdict.why
    assert (
        "92% of the sinks end" in verdict.why
    )  # in the first text MLP 2 alone, half of it, is tried
    assert TOO_FEW in verdict.controls


def test_sinks_that_keep_their_attention_are_not_ended():
    """Heads attend to marks, whatever the MLP writes: it makes the norm, and no attention."""
    answer = necessity(*Garden(*three(forming=(3,)), n_texts=10, by_marks=True).asked)
    formed = answer.tables["formed"]
    assert not formed.loc[formed["where"] == "forming", "is_sink"].any()
    assert answer.verdicts[-1].outcome == "contradicted"


def test_what_is_marked_impossible_never_happened():
    """Sinks that stand in layers 3 to 6, and every layer ablated in every way."""
    cells = necessity(*Garden(*three(forming=(3,), dies=7), n_texts=1).asked).cells
    sinks = cells[cells["role"] == "sink"]
    by_layer = sinks.groupby("layer")["impossible"].unique().map(list).to_dict()
    assert by_layer == {
        la: ["none" if la <= 5 else "end" if la <= 6 else "loss"] for la in range(8)
    }
    late, over = (sinks[sinks["impossible"].isin(what)] for what in (["end", "loss"], ["loss"]))
    assert (late["lifetime_edited"] > 0).all()
    assert over["mass_edited"].to_numpy() == pytest.approx(over["mass_clean"].to_numpy(), rel=1e-5)
    controls = cells[cells["role"] == "control"]
    assert set(controls.loc[controls["layer"] == 7, "impossible"]) == {"loss"}


def test_no_op_edits_end_nothing():
    garden = Garden(*three(forming=(3,)), n_texts=3)
    answer = necessity(*garden.asked, edits=["scale:1"])
    cells = answer.cells[answer.cells["role"] == "sink"]
    assert (cells["lifetime_edited"] == cells["lifetime_clean"]).all()
    removed = answer.effects.set_index("layer")["removed"]
    assert (removed.dropna() == 0).all()
    assert removed.index[removed.isna()].tolist() == [4, 5, 6, 7]  # no sink could have ended there


@exhaustive
def test_too_few_texts_and_sinks_are_inconclusive_and_say_so():
    for plants, n_texts in ((three(forming=(3,)), 2), ([Plant(pos=20, forming=(3,))], 2)):
        answer = necessity(*Garden(*plants, n_texts=n_texts).asked)
        assert set(outcomes(answer).values()) == {"inconclusive"}
        # Five claims: that the MLP of layer 0, 1, 2 or 3 is needed, and that MLPs form sinks.
        words = "at least 5 sinks in 8 texts are needed to decide 5 claims together"
        assert all(words in verdict.why for verdict in answer.verdicts)
        assert {verdict.n_claims for verdict in answer.verdicts} == {5}


def test_copies_and_sinks_without_mass_are_left_out_and_counted():
    garden = Garden(*three(forming=(3,)), n_texts=3)
    twice = observe(garden.model, garden.traces[0].tokens, text_id="again")
    sinks = detect([*garden.traces, twice])
    first = next(sink for sink in sinks.sinks if sink.kind == "secondary")
    blind = SinkTable(
        sinks=tuple(replace(s, mass_max=torch.nan) if s is first else s for s in sinks.sinks)
    )
    answer = necessity(garden.model, [*garden.traces, twice], blind)
    assert answer.left_out == {
        "copies of sinks in earlier texts": 3,
        "present only at the last layer, which no later attention reads": 1,
        "without a control": 0,
    }
    assert answer.verdicts[-1].n_sinks == 8
    assert "3 copies of sinks" in answer.verdicts[-1].controls


def test_sinks_by_another_criterion_are_refused():
    garden = Garden(*three(forming=(3,)), n_texts=1, n_layers=24)
    with pytest.raises(DetectionError, match="paper"):
        necessity(garden.model, garden.traces, detect(garden.traces, criterion="paper"))


def test_a_control_is_no_sink_of_any_kind_and_is_used_once():
    garden = Garden(*three(forming=(3,)), Plant(pos=2, forming=(1,), strength=350.0))
    for text in match_pairs(garden.traces, garden.sinks):
        own = {sink.pos for sink in garden.sinks.of_text(text.trace.text_id).sinks}
        controls = [case.control for case in text.cases]
        assert len(own) == 5
        assert not own & set(controls)
        assert len(set(controls)) == len(controls)
        assert len(controls) + sum(text.left_out.values()) == 4  # the primary-like one is asked too


@exhaustive
def test_censored_sinks_are_asked_and_counted():
    plants = [Plant(pos=12, forming=(3,)), *three(forming=(3,), dies=6)[1:]]
    answer = necessity(*Garden(*plants, n_texts=2).asked)
    assert answer.n_censored == 2
    assert answer.verdicts[-1].n_sinks == 6


def test_sinks_for_which_no_ordinary_token_is_left_are_left_out():
    garden = Garden(*three(forming=(3,)), n_texts=1)
    strict = SinkTable(sinks=garden.sinks.sinks, thresholds=Thresholds(min_queries=62))
    (text,) = match_pairs(garden.traces, strict)
    assert [case.control for case in text.cases] == [2, 1]
    assert text.left_out["without a control"] == 1


@pytest.mark.parametrize(
    ("edits", "outcome"),
    [(["zero"], "inconclusive"), (["zero", "mean"], "contradicted"), (["mean"], "contradicted")],
)
def test_what_zeroing_chose_is_judged_by_other_edits(edits, outcome):
    """A made-up table: zeroing ends all sinks, the mean none, other MLPs none."""
    places = [(f"t{text}", pos) for text in range(6) for pos in (3, 7)]
    cells = pd.DataFrame(
        {
            "text_id": text,
            "sink_pos": pos,
            "edit": edit,
            "where": where,
            "layers": (3,),
            "is_sink": not (where == "forming" and edit == "zero"),
            "draws": False,
        }
        for text, pos in places
        for edit in edits
        for where in ("forming", "other")
    )
    assert _formed_verdict(cells, {}, n_claims=1).outcome == outcome


def test_the_numbers_are_those_of_the_engine():
    garden = Garden(*three(forming=(3,)), n_texts=1)
    cells = necessity(*garden.asked).cells
    row = cells[(cells["role"] == "sink") & (cells["edit"] == "zero") & (cells["layer"] == 3)]
    edits = [Edit(pos=pos, layer=3) for pos in row["pos"]]
    mass = replay(garden.model, garden.traces[0], edits).mass[4:8].mean(0)
    assert row["mass_edited"].to_numpy() == pytest.approx(mass.numpy())
