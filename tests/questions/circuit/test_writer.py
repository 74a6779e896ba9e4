"""Writers as edges: MLPs, and the neurons and coordinates that carry what they write."""

from functools import cache

import pytest
import torch

from secondary_sinks import detect
from secondary_sinks.questions.circuit.writer import WRITER, writer, writer_claims
from secondary_sinks.questions.few_units import sizes_of
from secondary_sinks.questions.matched_pairs import match_pairs
from secondary_sinks.questions.question import Sample
from secondary_sinks.questions.role_tests import roles_cost
from secondary_sinks.questions.sparsity import SPARSITY
from secondary_sinks.testing.planted import Plant
from secondary_sinks.types import load_cells
from tests.marks import thinned
from tests.questions.gardens import Garden

TRUTHS = {
    "one MLP": ([Plant(pos=20, forming=(3,))], {3: "writes"}),
    "a chain": ([Plant(pos=20, forming=(2, 4), chain=True)], {2: "enables", 4: "writes"}),
    "two together": (
        [Plant(pos=20, forming=(2, 3), strength=24.0)],
        {2: "writes", 3: "writes"},
    ),
    "a trigger": ([Plant(pos=20, forming=(5,), trigger=(3,), source=7)], {5: "writes"}),
    "a head": ([Plant(pos=20, forming=(3,), by="attention", source=7)], {}),
}
"""Plants, and the edges of MLPs by layer."""
OPTIONS = {"two together": {"anisotropy": 10.0}}
"""So that half of what they write draws less than half of the attention."""
SINK_AXIS, NEURON = 0, 1
FEW_TEXTS = 2


@cache
def garden(name):
    return Garden(*TRUTHS[name][0], twins=2, n_texts=FEW_TEXTS, **OPTIONS.get(name, {}))


@cache
def answer_of(name):
    return writer(*garden(name).asked)


@pytest.mark.parametrize("name", thinned(TRUTHS, ["a chain", "two together", "a head"]))
def test_the_edges_are_those_that_were_planted(name):
    truth, cells = TRUTHS[name][1], answer_of(name).cells
    for text_id in ("t0", "t1"):
        mine = cells[cells["text_id"] == text_id]
        mlps = mine[mine["measure"].isin(["writes", "enables"])]
        assert dict(zip(mlps["layer"], mlps["measure"], strict=True)) == truth
        assert (mlps["effect"] == 1).all()
        carriers = mine[mine["measure"] == "ended_in_set"]
        at = carriers[carriers["site"] == "mlp_out"]
        written = {layer for layer, measure in truth.items() if measure == "writes"}
        assert set(zip(at["layer"], at["head"], strict=True)) == {(la, SINK_AXIS) for la in written}
        assert (at["control"] == 0).all()
        assert set(carriers.loc[carriers["site"] == "post", "head"]) <= {NEURON}


def test_one_coordinate_and_one_neuron_carry_the_sink():
    answer = answer_of("one MLP")
    sizes = answer.tables["smallest"].set_index(["text_id", "pos"])
    assert (sizes == 1).all(axis=None)
    assert set(answer.tables["coordinates"]["k"]) == set(sizes_of(52))
    unwritten = answer_of("a head").tables["smallest"]  # by any MLP: no neuron ends these sinks
    assert unwritten[["coordinates_needed", "neurons_needed"]].isna().all(axis=None)


def test_a_plain_hooked_pass_agrees_on_a_coordinate():
    made, cells = garden("one MLP"), answer_of("one MLP").tables["coordinates"]
    model, trace = made.model, made.traces[0]
    tried = cells[(cells["text_id"] == "t0") & (cells["k"] == 1) & (cells["coordinates"] == "top")]
    for test, alive in (("without", False), ("only", True)):
        (row,) = tried[tried["test"] == test].to_dict("records")
        ((edit,),) = load_cells(row["edits"])
        assert bool(row["is_sink"]) == alive

        def as_twins(written, hook, edit=edit):
            units = torch.tensor(edit.units)
            written[0, 20, units] = written[0, list(edit.donors)].mean(0)[units]

        with model.hooks(fwd_hooks=[("blocks.3.hook_mlp_out", as_twins)]):
            _, run = model.run_with_cache(trace.tokens)
        found = {sink.pos for sink in detect(run, trace.tokens).of_kind("secondary").sinks}
        assert (20 in found) == alive


def test_the_verdicts_are_those_of_roles_and_two_on_coordinates():
    made = Garden(*TRUTHS["one MLP"][0], twins=2)
    answer = writer(*made.asked)
    assert [verdict.outcome for verdict in answer.verdicts] == ["supported"] * 3
    assert len(answer.verdicts) == 3
    assert {verdict.n_claims for verdict in answer.verdicts} == {writer_claims(made.sinks)} == {4}
    assert answer.verdicts[1].why == (
        "without the 1 coordinate in which the writer's output differs most from that at twins, "
        "100% of the sinks end; with random coordinates instead, 0%"
    )


def test_without_a_writer_or_a_sink_nothing_is_claimed():
    head, none = answer_of("a head"), writer(*Garden(n_texts=2).asked)
    for answer in (head, none):
        assert {verdict.outcome for verdict in answer.verdicts} == {"inconclusive"}
        assert answer.cells.empty
    assert "2 without a writer, or without a twin" in head.verdicts[-1].why


def test_the_price_counts_every_cell_of_coordinates():
    made = garden("one MLP")
    texts = match_pairs(*made.asked[1:])
    n_layers, d_mlp = made.model.cfg.n_layers, made.model.cfg.d_mlp
    sample = Sample(texts=texts, sinks=made.sinks, n_layers=n_layers, d_mlp=d_mlp)
    others = roles_cost(*made.asked[1:]).replayed + SPARSITY.cost(sample).replayed
    n_cells = len(answer_of("one MLP").tables["coordinates"])
    assert WRITER.cost(sample).replayed == others + n_cells
