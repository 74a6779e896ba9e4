"""Redistribution: freed attention goes where the softmax of the planted model must send it."""

from importlib import import_module

import numpy as np
import pytest
import torch

from secondary_sinks import redistribution
from secondary_sinks.questions.redistribution_verdict import CLAIM, MATERIAL, receiver_rows
from secondary_sinks.testing.planted import Plant
from secondary_sinks.types import Edit
from tests.marks import exhaustive, thinned
from tests.questions.gardens import Garden, outcomes, three
from tests.questions.plain import PlainText
from tests.questions.test_necessity import ATTENTION


def taking_over(model):
    """Tokens that attend to the sink look less for the primary in all later blocks.

    Heads carry how much they attend to the sink at its mark (the second plant's) to a free axis of
    the residual; queries that hold some of it score lower with the mark of the first plant, the
    primary. Without the sink the primary takes over.
    """
    primary, sink, free, dim = 2, 4, 5, 6
    with torch.no_grad():
        for block in model.blocks:
            block.attn.W_V[:, sink, 7] = 1.0
            block.attn.W_O[:, 7, free] = 2.0
            block.attn.W_Q[:, free, dim] = -4.0
            block.attn.W_K[:, primary, dim] = 2.0


PLAIN = {
    # One sink at a time: the primary is nearly all that is left to attend to.
    "most of it goes to the primary": ([Plant(pos=20, forming=(3,))], {}),
    "much goes to other sinks": (three(forming=(3,)), {}),
    "queries by content": (three(forming=(3,)), {"content_queries": True}),
}


@pytest.mark.parametrize("name", thinned(list(PLAIN), ["queries by content"]))
def test_a_softmax_without_mechanism_gives_no_more_than_proportional(name):
    plants, options = PLAIN[name]
    answer = redistribution(*Garden(*plants, n_texts=6, **options).asked, edits=["zero"])
    assert outcomes(answer) == {CLAIM: "contradicted"}
    assert answer.effects["beyond"].abs().max() < MATERIAL / 3
    share = answer.effects.set_index("receiver")["share"]["primary"]
    assert share > 0.69 if len(plants) == 1 else share < 0.43


def test_a_primary_that_takes_over_is_found():
    garden = Garden(Plant(pos=20, forming=(3,)), n_texts=6, change=taking_over)
    answer = redistribution(*garden.asked, edits=["zero", "mean"])
    assert outcomes(answer) == {CLAIM: "supported"}
    beyond = answer.effects.set_index(["edit", "receiver"])["beyond"]
    assert beyond["zero", "primary"] > 3 * MATERIAL
    assert beyond["zero", "rest"] < 0


@pytest.mark.parametrize(
    ("plants", "n_texts", "words"),
    [
        (ATTENTION, 6, "not formed by any MLP"),
        ([], 6, "no secondary sink"),
        (
            three(forming=(3,)),
            5,
            "15 sinks in only 5 texts with controls; at least 5 sinks in 6 texts",
        ),
    ],
    ids=["attention formed them", "no sinks", "too few texts"],
)
def test_what_cannot_be_decided_says_why(plants, n_texts, words):
    answer = redistribution(*Garden(*plants, n_texts=n_texts).asked, edits=["zero"])
    assert outcomes(answer) == {CLAIM: "inconclusive"}
    assert words in answer.verdicts[0].why


def test_all_that_is_freed_is_found_again():
    cells = redistribution(*Garden(*three(forming=(3,)), n_texts=2).asked).cells
    gained = cells[["primary", "others", "rest"]].sum(axis=1)
    assert gained.to_numpy() == pytest.approx(cells["freed"].to_numpy())
    sinks = cells[cells["role"] == "sink"]
    assert (sinks["freed"] > 10).all()
    assert cells[cells["role"] == "control"]["freed"].to_numpy() == pytest.approx(0, abs=1e-3)


def test_token_twins_are_among_the_edits_where_the_control_has_one_too():
    garden = Garden(Plant(pos=20, forming=(3,)), n_texts=2, twins=2)
    cells = redistribution(*garden.asked).cells
    twins = cells[cells["edit"] == "mean:twins"]
    assert twins.groupby("text_id")["role"].apply(list).tolist() == [["sink", "control"]] * 2
    zero = cells[cells["edit"] == "zero"]
    assert twins["freed"].to_numpy() == pytest.approx(zero["freed"].to_numpy(), rel=0.01, abs=1e-3)
    alone = redistribution(*Garden(Plant(pos=20, forming=(3,)), n_texts=1).asked).cells
    assert "mean:twins" not in set(alone["edit"])  # its control is the only other token of its id


def test_shares_by_hand():
    """Planted queries are alike: what is freed goes to keys by the weights that they have."""
    garden = Garden(Plant(pos=20, forming=(3,)), n_texts=1)
    answer = redistribution(*garden.asked, edits=["zero"])
    share = answer.effects.set_index("receiver")["share"]
    # Other tokens have weight 1. Each query from 20 on sees the primary, the sink and the rest.
    primary, sink = mass_weight(garden, 0), mass_weight(garden, 20)
    before = primary + sink + np.arange(20, 64) - 1
    after = before - sink + 1
    gained = (primary / after - primary / before).sum()
    freed = (sink / before - 1 / after).sum()
    assert share["primary"] == pytest.approx(gained / freed, rel=0.01)
    expected = answer.effects.set_index("receiver")["proportional"]
    assert expected["primary"] == pytest.approx(gained / freed, rel=0.01)
    assert expected.sum() == pytest.approx(1.0)
    assert share.sum() == pytest.approx(1.0)


def mass_weight(garden, pos):
    """exp of the score of a planted token, against 1 for others, from the last query's pattern."""
    _, cache = garden.model.run_with_cache(garden.traces[0].tokens[None])
    row = cache["blocks.5.attn.hook_pattern"][0, 0, 63]
    return float(row[pos] / row[40])


def test_primaries_that_take_turns_gain_in_the_blocks_that_read_them():
    plants = [Plant(pos=50, forming=(5,), strength=400.0), Plant(pos=20, forming=(2,))]
    first = Plant(pos=0, forming=(1,), dies=5, strength=400.0)
    garden = Garden(*plants, primary=first, n_texts=1)
    (trace,), own = garden.traces, garden.sinks.of_kind("secondary").sinks[0].layers
    assert {int(trace.reference[layer]) for layer in own} == {0, 50}
    row = redistribution(*garden.asked, edits=["zero"]).cells.iloc[0]
    assert row["role"] == "sink"
    plain = PlainText(garden.model, trace, garden.sinks.thresholds)
    _, cache = plain.run([Edit(pos=20, layer=2)])
    gained = 0.0
    for layer in own[:-1]:
        change = plain.attention(cache, layer + 1) - plain.attention(plain.clean, layer + 1)
        gained += float(change[int(trace.reference[layer])])
    assert row["primary"] == pytest.approx(gained, rel=1e-3)


@exhaustive
def test_ways_to_ablate_are_told():
    garden = Garden(*three(forming=(3,)), n_texts=6)
    answer = redistribution(*garden.asked, edits=["zero", "mean"])
    assert "zero and mean agree" in answer.verdicts[0].why
    assert set(answer.effects["edit"]) == {"zero", "mean"}


@exhaustive
def test_texts_that_free_no_attention_count_neither_as_texts_nor_as_sinks(monkeypatch):
    """As many sinks as before, but those of two texts lose no attention."""
    garden = Garden(*three(forming=(3,)), n_texts=8)
    cells = redistribution(*garden.asked, edits=["zero"]).cells
    nothing = cells["text_id"].isin(["t2", "t5"])
    cells.loc[nothing & (cells["role"] == "sink"), "freed"] = -1.0

    def rows(model, text, *rest):
        return cells[cells["text_id"] == text.trace.text_id].to_dict("records")

    module = import_module("secondary_sinks.questions.redistribution")
    monkeypatch.setattr(module, "_rows", rows)
    answer = redistribution(*garden.asked, edits=["zero"])
    (verdict,) = answer.verdicts
    assert (verdict.n_texts, verdict.n_sinks) == (6, 18)
    assert set(answer.effects["n_sinks"]) == {18}
    assert "6 in texts whose removed sinks free no attention" in verdict.controls
    assert next(receiver_rows("zero", cells, 1)) == next(receiver_rows("zero", cells[~nothing], 1))
