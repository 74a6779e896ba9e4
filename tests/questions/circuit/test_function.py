"""No-op or broadcast: what was planted, and plain passes with full patterns."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from secondary_sinks import Edit, detect, observe, recompute
from secondary_sinks.causal.outcome import readers
from secondary_sinks.errors import PlantError
from secondary_sinks.measures.hook_names import hook_name
from secondary_sinks.questions.circuit import function
from secondary_sinks.questions.circuit.delivered import EQUAL, equal_keys, given_by_keys
from secondary_sinks.questions.circuit.function_verdicts import (
    EITHER,
    function_verdicts,
    kinds_of,
    told,
)
from secondary_sinks.testing import Plant, plant
from tests.questions.gardens import PRIMARY, Garden, texts, three

READ_BY_ONE = replace(PRIMARY, read_by=(0,))


def garden(**more):
    """Sinks that one head reads, so that ordinary keys get enough attention from the others."""
    return Garden(*three(forming=(3,), read_by=(1,), **more), primary=READ_BY_ONE, n_texts=6)


@pytest.fixture(scope="module")
def quiet():
    made = garden()
    return made, function(*made.asked)


def effects(part, measure):
    edges = part.cells
    return edges[(edges["measure"] == measure) & (edges["kind"] == "secondary")]


def test_a_token_without_a_value_is_a_no_op(quiet):
    _, found = quiet
    (verdict,) = found.verdicts
    assert verdict.outcome == "supported", verdict.why
    assert "18 no-ops, 0 broadcasts, 0 mixed, of 18 sinks" in verdict.why
    delivered = effects(found, "delivered")
    assert (delivered["effect"] < 0.3 * delivered["control"]).all()
    primary = found.cells[found.cells["kind"] == "primary"]
    assert len(primary) == 6 * 7
    assert primary["effect"].notna().all()
    assert primary["control"].isna().all()


def test_a_token_with_a_large_value_is_a_broadcast():
    found = function(*garden(value=10.0).asked)
    (verdict,) = found.verdicts
    assert verdict.outcome == "contradicted"
    assert "0 no-ops, 18 broadcasts" in verdict.why
    delivered = effects(found, "delivered")["effect"]
    assert delivered.tolist() == pytest.approx([10.0] * len(delivered), rel=0.3)
    without = effects(found, "kl_without_value")
    assert (without["effect"] > 10 * without["control"]).all()


def test_a_constant_that_every_key_delivers_makes_no_sink_a_no_op():
    """Ordinary values share a bias and hold nothing else; the sink's is shorter, but its own.

    Naively it is a no-op: it delivers less, and predictions change less without its value.
    """
    plants = [PRIMARY, Plant(pos=20, forming=(3,), strength=150.0, value=1e-3, read_by=(0,))]
    made = plant(plants, n_layers=6, n_pos=128)
    only_the_sink_tells(made.model, made.tokens, own_axis=5, length=0.6)
    traces = [observe(made.model, one, text_id=f"t{n}") for n, one in enumerate(texts(made, 6))]
    found = function(made.model, traces, detect(traces))
    rows = found.tables["sinks"].query("kind == 'secondary'").reset_index(drop=True)
    for name in ("delivered", "kl_without_value"):
        assert (rows[name] < rows[f"{name}_control"]).all()
    assert (told(rows) > 10 * told(rows, "_control")).all()
    (verdict,) = found.verdicts
    assert verdict.outcome == "inconclusive"  # mixed sinks may be either
    assert "0 no-ops, 0 broadcasts, 6 mixed" in verdict.why
    assert verdict.why.endswith(EITHER)


def test_sinks_that_deliver_a_third_of_ordinary_keys_are_not_refuted_by_keys_that_cancel():
    """Naively contradicted: 16 ordinary keys together tell less than the one short value."""
    plants = three(forming=(3,), read_by=(1,), value=0.4)
    found = function(*Garden(*plants, primary=READ_BY_ONE, n_texts=6, n_pos=128).asked)
    rows = found.tables["sinks"].query("kind == 'secondary'")
    assert (rows["delivered"] < 0.5 * rows["delivered_control"]).all()
    assert (rows["n_keys"] > 5).all()
    (verdict,) = found.verdicts
    assert verdict.high < verdict.line, "few no-ops"
    assert verdict.outcome == "inconclusive"
    assert verdict.why.endswith(EITHER)


def only_the_sink_tells(model, tokens, own_axis, length):
    """Give every value one constant, and that of the token at 20 another one in its place."""
    chance = torch.Generator().manual_seed(1)
    for layer, block in enumerate(model.blocks):
        attn, name = block.attn, f"blocks.{layer}.ln1.hook_normalized"
        two = torch.randn(4, 2, 8, generator=chance)
        two /= (two @ attn.W_O).norm(dim=-1, keepdim=True)
        attn.W_V.data[:, 6:] *= 0.02
        attn.W_V.data[:, own_axis] = 0
        attn.b_V.data.copy_(two[:, 0])
        _, cache = model.run_with_cache(tokens[None], names_filter=name, stop_at_layer=layer + 1)
        at_sink = float(cache[name][0, 20, own_axis])
        if abs(at_sink) > 1e-3:
            attn.W_V.data[:, own_axis] = (length * two[:, 1] - two[:, 0]) / at_sink


def test_where_ordinary_keys_have_too_little_attention_nothing_is_claimed():
    found = function(*Garden(*three(forming=(3,)), n_texts=2).asked)
    (verdict,) = found.verdicts
    assert verdict.outcome == "inconclusive"
    assert "6 without ordinary keys of equal attention" in verdict.why
    assert effects(found, "delivered")["effect"].notna().all()
    assert effects(found, "delivered")["control"].isna().all()


def test_without_sinks_nothing_is_claimed():
    found = function(*Garden(n_texts=2).asked)
    assert [one.outcome for one in found.verdicts] == ["inconclusive"]
    assert len(found.cells) == len(found.tables["sinks"]) == len(found.tables["distance"]) == 0


def test_what_keys_deliver_is_that_of_a_plain_pass(quiet):
    made, _ = quiet
    trace, model = made.traces[0], made.model
    found = given_by_keys(model, trace, {12: (4, 6)})[12]
    _, cache = model.run_with_cache(trace.tokens[None])
    attention, written = torch.zeros(len(trace)), torch.zeros(len(trace))
    for layer in (4, 6):
        pattern = cache[hook_name(layer, "pattern")][0].clone()
        pattern.diagonal(dim1=1, dim2=2).zero_()
        values = torch.einsum("khd,hdm->khm", cache[hook_name(layer, "v")][0],
                              model.blocks[layer].attn.W_O).norm(dim=-1)  # fmt: skip
        attention += pattern[:, 13:].mean(1).mean(0) / 2
        written += (pattern[:, 13:].mean(1) * values.T).mean(0) / 2
    torch.testing.assert_close(found.attention.float(), attention, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(found.written.float(), written, atol=1e-5, rtol=1e-4)


def test_losses_are_those_of_edits_of_every_query(quiet):
    made, found = quiet
    trace, model = made.traces[0], made.model
    sink = next(s for s in made.sinks.of_text("t0").sinks if s.pos == 24)
    where = {"pos": tuple(range(25, len(trace))), "layer": tuple(readers(sink.layers, 8))}
    edits = [
        Edit(**where, key=24, kind="knockout", site="attn_scores"),
        Edit(**where, key=24, kind="reweight", site="pattern", value=0.0),
    ]
    slow = recompute(model, trace, edits)
    row = found.tables["sinks"].set_index(["text_id", "pos"]).loc[("t0", 24)]
    for number, name in enumerate(("without_attention", "without_value")):
        assert row[f"kl_{name}"] == pytest.approx(float(slow.kl[number, 25:-1].mean()), abs=2e-6)
        assert row[f"loss_{name}"] == pytest.approx(slow.loss_later(number, 24), abs=2e-5)


def test_distances_add_up_to_the_mean(quiet):
    _, found = quiet
    rows = found.tables["distance"]
    rows = rows[(rows["taken"] == "value") & (rows["keys"] == "sink")]
    by_sink = rows.assign(total=rows["kl"] * rows["n"]).groupby(["text_id", "pos"])
    mean = by_sink["total"].sum() / by_sink["n"].sum()
    edges = found.cells[found.cells["measure"] == "kl_without_value"]
    for row in edges.to_dict("records"):
        assert mean[row["text_id"], row["pos"]] == pytest.approx(row["effect"], rel=1e-6)
    assert rows["farthest"].ge(rows["nearest"]).all()


def test_ordinary_keys_have_as_much_attention_as_the_sink(quiet):
    made, _ = quiet
    trace = made.traces[0]
    given = given_by_keys(made.model, trace, {12: (4, 5)})[12]
    drawn = [equal_keys(trace, made.sinks, given, 12, seed) for seed in range(3)]
    assert len(set(drawn)) == 3
    assert drawn[0] == equal_keys(trace, made.sinks, given, 12, 0)
    for keys in drawn:
        ratio = float(given.attention[list(keys)].sum() / given.attention[12])
        assert abs(ratio - 1) <= EQUAL
        assert not {0, 12, 24, 36} & set(keys)


def table(rows, n_texts=8):
    """A row per sink; each value is given for the sink and for ordinary keys.

    They are: delivered, KL without the value, and KL with the mean value if it is another.
    """
    made = [
        {"text_id": f"t{text}", "pos": pos, "kind": "secondary", "level": 0.0}
        | {"delivered": row[0], "delivered_control": row[1]}
        | {"kl_without_value": row[2], "kl_without_value_control": row[3]}
        | {"kl_with_mean_value": row[-2], "kl_with_mean_value_control": row[-1]}
        for text in range(n_texts)
        for pos, row in enumerate(rows)
    ]
    return pd.DataFrame(made)


NO_OP, BROADCAST, MIXED = (1.0, 2.0, 0.1, 0.2), (2.0, 1.0, 0.2, 0.1), (1.0, 2.0, 0.2, 0.1)
SHARED = (1.0, 2.0, 0.1, 0.2, 0.1, 0.0)
"""Ordinary keys tell nothing but what all keys share."""
EQUAL_KL, WITHOUT = (1.0, 2.0, 0.1, 0.1), (1.0, float("nan"), 0.1, float("nan"))


@pytest.mark.parametrize(
    ("rows", "outcome"),
    [
        ([NO_OP], "supported"),
        ([BROADCAST], "contradicted"),
        # Naively contradicted, since none is a no-op by both measures
        ([MIXED], "inconclusive"),
        ([SHARED], "inconclusive"),
        ([BROADCAST, MIXED], "inconclusive"),
        ([*[BROADCAST] * 9, MIXED], "contradicted"),
        ([EQUAL_KL], "inconclusive"),
        ([NO_OP, BROADCAST], "inconclusive"),
        ([WITHOUT], "inconclusive"),
    ],
)
def test_verdicts_count_no_ops(rows, outcome):
    (verdict,) = function_verdicts(table(rows), {}, 1)
    assert verdict.outcome == outcome, verdict.why


def test_kinds_of_sinks():
    kinds = kinds_of(table([NO_OP, BROADCAST, MIXED, SHARED, EQUAL_KL, WITHOUT], 1))
    assert kinds.tolist() == ["no-op", "broadcast", "mixed", "mixed", "unknown", "unknown"]


def test_a_chain_without_an_axis_of_its_own_has_no_value():
    with pytest.raises(PlantError, match="own axis"):
        plant([PRIMARY, Plant(pos=9, forming=(2, 3), chain=True, value=1.0)])
