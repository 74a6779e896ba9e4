"""What is given to interventions comes through unchanged, or is refused by name."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from secondary_sinks import (
    Edit,
    ablate,
    detect,
    observe,
    recompute,
    reference_means,
    replay,
    score_under,
    sweep_metric,
)
from secondary_sinks.causal import ActiveRule
from secondary_sinks.errors import DetectionError, EditError, TextError, TraceError
from secondary_sinks.testing.planted import Plant, plant
from secondary_sinks.types import Rule
from tests.shapes import FIRST

PLANTS = [Plant(pos=0, forming=(1,), strength=400.0), Plant(pos=20, forming=(3,), dies=6)]
ENGINES = pytest.mark.parametrize("engine", [replay, recompute], ids=["replay", "recompute"])
EDIT = Edit(pos=20, layer=3)
MEAN = Edit(pos=20, layer=3, kind="mean", over="reference")


@pytest.fixture(scope="module")
def planted():
    """A case, after so many calls that types are not checked, as in a user's session."""
    planted = plant(PLANTS)
    trace = observe(planted.model, planted.tokens)
    case = planted.model, trace, detect(trace)
    other, ids = replace(trace, text_id="x"), torch.tensor([3, 4])
    means = reference_means(planted.model, [trace])
    for _ in range(FIRST):
        reference_means(planted.model, [trace])
        for engine in (replay, recompute):
            engine(*case[:2], [EDIT], watch=[5], others=[other], reference=means)
            engine(*case[:2], [MEAN], reference=means)
        sweep_metric(*case[:2], [EDIT], lambda logits: 0.0, sinks=case[2], at=[-1])
        score_under(planted.model, ids, ids, Rule(layer=3, value=1.0))
        ablate(*case, layers=[3])
    return case


WRONG_OTHERS = {
    "doubles": (lambda trace: [trace, trace], "text ids of others= has 'text' twice"),
    "strings": (lambda trace: ["x"], "expected a trace of one text, got str"),
    "a number": (lambda trace: 3, "expected a trace of one text, got int"),
}


@ENGINES
@pytest.mark.parametrize(("others", "said"), WRONG_OTHERS.values(), ids=WRONG_OTHERS)
def test_others_are_traces_with_ids_of_their_own(planted, engine, others, said):
    model, trace, _ = planted
    with pytest.raises(TraceError, match=said):
        engine(model, trace, [EDIT], others=others(trace))


@ENGINES
def test_one_other_text_needs_no_list_and_is_of_the_same_model(planted, engine):
    model, trace, _ = planted
    other, edit = replace(trace, text_id="x"), replace(EDIT, kind="patch", donor=7, text="x")
    alone, listed = (engine(model, trace, [edit], others=o) for o in (other, [other]))
    assert torch.equal(alone.norm, listed.norm)
    small = plant(PLANTS[:1], n_layers=5)
    foreign = observe(small.model, small.tokens, text_id="y")
    with pytest.raises(TraceError, match="this one has"):
        engine(model, trace, [edit], others=[other, foreign])


PLACE = ("mlp_out", 3)
WIDTH = 54
WRONG_MEANS = {
    "narrow": ({PLACE: torch.zeros(3)}, r"is torch.float32 \[3\]; expected .*\[54\]"),
    "scalar": ({PLACE: torch.tensor(1.0)}, r"is torch.float32 \[\]"),
    "whole numbers": ({PLACE: torch.zeros(WIDTH, dtype=torch.long)}, "is torch.int64"),
    "list": ({PLACE: [0.0] * WIDTH}, r"is \[0.0"),
    "holes": ({PLACE: torch.full((WIDTH,), torch.nan)}, "holds NaN"),
    "no mapping": (torch.zeros(WIDTH), "reference= is Tensor"),
    "pairs": ([(PLACE, torch.zeros(WIDTH))], "reference= is list"),
    "missing": ({}, "no reference mean of mlp_out at layer 3"),
}


@ENGINES
@pytest.mark.parametrize(("reference", "said"), WRONG_MEANS.values(), ids=WRONG_MEANS)
def test_reference_means_have_the_shape_of_their_site(planted, engine, reference, said):
    model, trace, _ = planted
    with pytest.raises(EditError, match=said):
        engine(model, trace, [MEAN], reference=reference)


def test_reference_means_are_of_traces_of_the_model(planted):
    model, trace, _ = planted
    alone, listed = (reference_means(model, one) for one in (trace, [trace]))
    assert all(torch.equal(alone[place], mean) for place, mean in listed.items())
    small = plant(PLANTS[:1], n_layers=5)
    foreign = observe(small.model, small.tokens)
    for given, said in (([], "list of traces is empty"), ([foreign], "this one has")):
        with pytest.raises(TraceError, match=said):
            reference_means(model, given)
    with pytest.raises(EditError, match="sites is empty"):
        reference_means(model, [trace], [])


@ENGINES
@pytest.mark.parametrize("label", ["scale:1e38", "steer:1e30"])
def test_an_edit_that_makes_the_residual_infinite_is_refused(planted, engine, label):
    model, trace, _ = planted
    edit = Edit.of_label(label, pos=20, layer=3, site="resid_post")
    with pytest.raises(EditError, match=rf"the residual at layer 3 is .*{edit.kind}.*smaller"):
        engine(model, trace, [EDIT, edit])


@ENGINES
@pytest.mark.parametrize(
    ("watch", "said"),
    [
        ([True], "position in watch is True; expected a whole number"),
        ([1.0], "position in watch is 1.0"),
        ("12", "position in watch is '12'"),
        (torch.tensor([0.5]), "position in watch is tensor"),
        ([64], "position 64 in watch is out of range; expected 0 to 63"),
        ([-1], "position -1 in watch is out of range"),
    ],
)
def test_watched_positions_are_whole_numbers_in_the_text(planted, engine, watch, said):
    model, trace, _ = planted
    with pytest.raises(EditError, match=said):
        engine(model, trace, [EDIT], watch=watch)


@pytest.mark.parametrize("watch", [5, np.int64(5), [5], (np.int64(5),), torch.tensor([5])])
def test_watched_positions_of_any_library_are_the_same(planted, watch):
    model, trace, _ = planted
    assert replay(model, trace, [EDIT], watch=watch).watch == (5,)
    found = recompute(model, trace, [EDIT], watch=watch).watch
    assert found == recompute(model, trace, [EDIT], watch=[5]).watch


@pytest.mark.parametrize(
    ("at", "said"),
    [
        *((at, "position in `at` is ") for at in (True, [0.5], [1.0], [True, False], "1")),
        *((at, "`at` has 63 twice") for at in ([63, -1], [63, 63])),
        ([], "`at` is empty"),
        ([-65], "position -65 in `at` is out of range"),
    ],
)
def test_positions_of_logits_are_whole_numbers_each_once(planted, at, said):
    model, trace, _ = planted
    with pytest.raises(EditError, match=said):
        sweep_metric(model, trace, [EDIT], lambda logits: 0.0, at=at)


@pytest.mark.parametrize("given", [3, 3.0, np.float32(3), np.int64(3), torch.tensor([[3.0]])])
def test_a_metric_is_one_number_of_any_library(planted, given):
    model, trace, _ = planted
    found = sweep_metric(model, trace, [EDIT], lambda logits: given, at=np.int64(-1))
    assert found.value.tolist() == [3.0]


@pytest.mark.parametrize("given", [True, torch.tensor(True), np.True_, 1j, 10**400, None, "3"])
def test_a_metric_that_is_no_number_is_refused(planted, given):
    model, trace, _ = planted
    with pytest.raises(EditError, match=r"what the metric returned is .*; expected one number"):
        sweep_metric(model, trace, [EDIT], lambda logits: given, at=-1)


def test_a_metric_that_reads_beyond_its_logits_is_told_how_many_there_are(planted):
    model, trace, _ = planted
    with pytest.raises(EditError, match="with at= they have 1 position, those of at= in order"):
        sweep_metric(model, trace, [EDIT], lambda logits: logits[0, 5, 0], at=-1)
    with pytest.raises(IndexError):
        sweep_metric(model, trace, [EDIT], lambda logits: logits[0, 64, 0])


IDS = torch.tensor([3, 4, 5])
WRONG_IDS = {
    "truth values": (torch.tensor([True, False]), r"the \w+ is torch.bool \[2\]"),
    "fractions": (IDS / 2, r"the \w+ is torch.float32"),
    "two texts": (IDS[None], r"the \w+ is torch.int64 \[1, 3\]"),
    "list": ([3, 4], r"the \w+ is \[3, 4\]; expected a tensor"),
    "string": ("The mill", r"the \w+ is 'The mill'; expected a tensor"),
    "none": (IDS[:0], r"the \w+ has 0 tokens; expected at least one"),
}


@pytest.mark.parametrize(("ids", "said"), WRONG_IDS.values(), ids=WRONG_IDS)
def test_each_part_of_a_scored_text_is_token_ids(planted, ids, said):
    model, _, _ = planted
    for parts in ((ids, IDS), (IDS, ids)):
        with pytest.raises(TextError, match=said):
            score_under(model, *parts)


def test_what_is_no_rule_is_refused(planted):
    model, _, _ = planted
    with pytest.raises(EditError, match=r"expected a Rule, got Edit; expected like Rule\("):
        score_under(model, IDS, IDS, EDIT)


@pytest.mark.parametrize("length", [1e300, 1e30, 1.0, 1e-30, 1e-300])
def test_a_direction_of_any_length_is_the_same_direction(planted, length):
    model, trace, _ = planted
    cosines = []
    for direction in ([length] * WIDTH, [1.0] * WIDTH):
        rule = Rule(layer=3, kind="mask", direction=direction, tau=0.5)
        active = ActiveRule(model, rule, trace.tokens, whole=True)
        with torch.no_grad(), model.hooks(fwd_hooks=active.hooks):
            model(trace.tokens[None])
        cosines.append(active.cosine)
    assert bool(cosines[1].isfinite().any())
    torch.testing.assert_close(cosines[0], cosines[1], equal_nan=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layers": []}, "layers is empty; expected at least one, or None for all"),
        ({"layers": True}, "layers is True; expected a whole number"),
        ({"layers": "2"}, "layers is '2'"),
        ({"layers": [2, np.int64(2)]}, "layers has 2 twice"),
        ({"edit": []}, "edit is empty; expected at least one label"),
        ({"edit": EDIT}, "expected the label of an edit, got Edit"),
        ({"edit": [EDIT]}, "expected the label of an edit, got Edit"),
        ({"edit": None}, "expected the label of an edit, got None"),
        ({"edit": "twin"}, "unknown edit 'twin'; did you mean 'twins'"),
    ],
)
def test_an_empty_or_unknown_ablation_is_refused(planted, options, said):
    with pytest.raises(EditError, match=said):
        ablate(*planted, **options)


@pytest.mark.parametrize(
    ("call", "switch"),
    [
        *[(replay, name) for name in ("kl", "attention")],
        *[(recompute, name) for name in ("loss", "by_query")],
        (ablate, "kl"),
    ],
)
@pytest.mark.parametrize("value", ["no", 0, None])
def test_switches_are_true_or_false(planted, call, switch, value):
    case = planted if call is ablate else (*planted[:2], [EDIT])
    with pytest.raises(EditError, match=f"{switch} is {value!r}; expected True or False"):
        call(*case, **{switch: value})


def test_layers_of_another_library_are_the_same(planted):
    found = ablate(*planted, layers=np.int64(3))
    assert found == ablate(*planted, layers=3)


def test_traces_and_sinks_in_each_others_place_are_refused(planted):
    model, trace, sinks = planted
    with pytest.raises(TraceError, match="expected a trace of one text, got SinkTable"):
        ablate(model, sinks, trace)
    with pytest.raises(TraceError, match="list of traces is empty"):
        ablate(model, [], sinks)
    with pytest.raises(DetectionError, match="expected a table of sinks, got list"):
        sweep_metric(model, trace, [EDIT], lambda logits: 0.0, sinks=[trace])
