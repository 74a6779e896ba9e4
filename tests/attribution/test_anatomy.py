"""Every stage of an MLP is what the model's own weights make of it, beside the primary's."""

import sys

import pytest
import torch

from secondary_sinks import detect, mlp_anatomy, observe
from secondary_sinks.errors import AttributionError, TraceError, UnsupportedModelError
from secondary_sinks.testing.plant_spec import Plant
from secondary_sinks.testing.planted import plant
from tests.attribution import made_up
from tests.attribution.made_up import CASES, MOE

PRIMARY = Plant(pos=0, forming=(1,), strength=400.0)


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def family(request):
    model, trace, cache = made_up.family(*request.param)
    frame = mlp_anatomy(model, trace, made_up.made_up(trace)).to_frame()
    return request.param, model, trace, frame, cache


def stages(model, cache, layer, name):
    """Stages from hook points, and from the weights where there is no hook point."""
    mlp = model.blocks[layer].mlp
    pre, post = (cache[f"blocks.{layer}.mlp.hook_{point}"][0] for point in ("pre", "post"))
    bias = getattr(mlp, "b_out", None)
    down = post @ mlp.W_out + (0 if bias is None else bias)
    if f"blocks.{layer}.mlp.hook_pre_linear" not in cache:
        return {"up": pre, "act": post, "down": down}
    up = cache[f"blocks.{layer}.mlp.hook_pre_linear"][0]
    activate = torch.nn.functional.silu
    if name.startswith("gemma"):
        activate = torch.nn.GELU(approximate="tanh")
    return {"gate": pre, "up": up, "act": activate(pre), "act*up": post, "down": down}


def test_every_stage_is_what_the_weights_make_of_it(family):
    (name, _), model, trace, frame, cache = family
    if name in MOE:
        assert set(frame[frame["norm"].notna()]["stage"]) == {"input", "down"}
        assert set(frame[frame["norm"].isna()]["stage"]) == {"gate", "up", "act", "act*up"}
        return
    for layer, rows in frame.groupby("layer"):
        expected = stages(model, cache, layer, name)
        assert set(rows["stage"]) == {"input", *expected}
        primary = int(trace.reference[layer])
        for row in rows[rows["stage"] != "input"].to_dict("records"):
            own, other = expected[row["stage"]][[row["pos"], primary]].detach()
            assert row["norm"] == pytest.approx(float(own.norm()), rel=1e-4)
            assert row["norm_primary"] == pytest.approx(float(other.norm()), rel=1e-4)
            cosine = float(torch.cosine_similarity(own, other, dim=0))
            assert row["cosine"] == pytest.approx(cosine, abs=1e-5)


def test_the_input_is_what_the_first_matrix_reads(family):
    """The only vector that W_in turns into what the hook point shows."""
    (name, _), model, _, frame, cache = family
    if name in MOE:
        return
    for row in frame[frame["stage"] == "input"].to_dict("records"):
        mlp, layer = model.blocks[row["layer"]].mlp, row["layer"]
        linear = f"blocks.{layer}.mlp.hook_pre_linear"
        made = cache[linear if linear in cache else f"blocks.{layer}.mlp.hook_pre"][0, row["pos"]]
        bias = getattr(mlp, "b_in", None)
        made = made if bias is None or linear in cache else made - bias
        solved = torch.linalg.lstsq(mlp.W_in.T.detach().double(), made.detach().double()[:, None])
        assert row["norm"] == pytest.approx(float(solved.solution.norm()), rel=1e-3)


def test_sinks_stand_beside_their_controls_at_their_creation_layer():
    planted = plant([PRIMARY, Plant(pos=20, forming=(3,)), Plant(pos=30, forming=(2,))])
    trace = observe(planted.model, planted.tokens)
    sinks = detect(trace)
    frame = mlp_anatomy(planted.model, trace, sinks).to_frame()
    heads = frame.drop_duplicates(["pos"])[["pos", "role", "kind", "sink_pos", "layer"]]
    assert heads.to_numpy().tolist() == [
        [30, "sink", "secondary", 30, 2],
        [29, "control", "twin", 30, 2],
        [20, "sink", "secondary", 20, 3],
        [19, "control", "twin", 20, 3],
    ]
    at_four = mlp_anatomy(planted.model, trace, sinks, layer=4).to_frame()
    assert set(at_four["layer"]) == {4}


def test_where_the_primary_is_formed_a_sink_of_the_same_layer_points_as_it_does():
    planted = plant([PRIMARY, Plant(pos=20, forming=(1,), dies=4)], gated=True)
    trace = observe(planted.model, planted.tokens)
    frame = mlp_anatomy(planted.model, trace, detect(trace)).to_frame()
    down = frame[frame["stage"] == "down"].set_index("role")
    assert down.loc["sink", "cosine"] > 0.999
    assert down.loc["sink", "norm"] == pytest.approx(60.0, rel=1e-2)
    assert down.loc["sink", "norm_primary"] == pytest.approx(400.0, rel=1e-2)
    assert abs(down.loc["control", "cosine"]) < 0.5


def test_no_sinks_no_rows_and_the_same_columns():
    planted = plant([PRIMARY])
    trace = observe(planted.model, planted.tokens)
    empty = mlp_anatomy(planted.model, trace, detect(trace)).to_frame()
    assert len(empty) == 0
    assert {"stage", "cosine", "norm", "norm_primary", "role"} <= set(empty.columns)


def test_what_cannot_be_is_refused():
    planted = plant([PRIMARY, Plant(pos=20, forming=(3,))])
    trace = observe(planted.model, planted.tokens)
    sinks = detect(trace)
    with pytest.raises(AttributionError, match="layer 8 is out of range; expected 0 to 7"):
        mlp_anatomy(planted.model, trace, sinks, layer=8)
    with pytest.raises(TraceError, match="layers, d_model"):
        mlp_anatomy(plant([PRIMARY]).model, trace, sinks)


def test_stages_that_do_not_make_what_w_out_reads_are_refused(monkeypatch):
    planted = plant([PRIMARY, Plant(pos=20, forming=(3,))])
    trace = observe(planted.model, planted.tokens)
    wrong = sys.modules[mlp_anatomy.__module__]
    monkeypatch.setattr(wrong, "activation_of", lambda model, layer: torch.sin)
    with pytest.raises(UnsupportedModelError, match="MLP of layer 3"):
        mlp_anatomy(planted.model, trace, detect(trace))


def test_no_hook_is_left_on_the_model():
    planted = plant([PRIMARY, Plant(pos=20, forming=(3,))])
    trace = observe(planted.model, planted.tokens)
    mlp_anatomy(planted.model, trace, detect(trace))
    assert not any(block.mlp._forward_hooks for block in planted.model.blocks)
    assert not any(point.fwd_hooks for point in planted.model.hook_dict.values())
