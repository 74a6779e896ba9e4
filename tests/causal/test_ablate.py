"""The ablation names the MLP that was planted."""

import inspect

import pytest
import torch

from secondary_sinks import ablate, detect, observe
from secondary_sinks.errors import EditError, TraceError
from secondary_sinks.testing.planted import Plant, plant

PRIMARY = Plant(pos=0, forming=(1,), strength=400.0)


def run(*plants, edit="zero", **options):
    planted = plant([PRIMARY, *plants], **options)
    trace = observe(planted.model, planted.tokens)
    sinks = detect(trace)
    return ablate(planted.model, trace, sinks, edit).to_frame()


def lifetimes(frame, pos):
    rows = frame[(frame["pos"] == pos) & (frame["role"] == "sink")]
    return dict(zip(rows["layer"], rows["lifetime_edited"], strict=True))


@pytest.mark.parametrize("edit", ["zero", "mean"])
def test_only_the_forming_mlp_ends_the_sink(edit):
    frame = run(Plant(pos=20, forming=(4,)), edit=edit)
    assert lifetimes(frame, 20) == {layer: 0 if layer == 4 else 4 for layer in range(8)}


def test_ablating_the_mlp_that_ends_it_lets_it_live():
    frame = run(Plant(pos=20, forming=(2,), dies=5))
    assert lifetimes(frame, 20) == {layer: {2: 0, 5: 6}.get(layer, 3) for layer in range(8)}


def test_two_mlps_that_form_it_together_are_both_necessary():
    # Together just enough to be outlying; either alone is not.
    frame = run(Plant(pos=20, forming=(2, 3), strength=24.0))
    got = lifetimes(frame, 20)
    assert got[2] == got[3] == 0
    assert all(got[layer] > 0 for layer in (0, 1, 4, 5, 6, 7))


def test_the_creation_layer_of_the_edited_token_moves():
    frame = run(Plant(pos=20, forming=(2, 4), strength=90.0)).set_index(["pos", "layer"])
    assert frame.loc[(20, 2), "l_start_clean"] == 2
    assert frame.loc[(20, 2), "l_start_edited"] == 4
    assert frame.loc[(20, 4), "l_start_edited"] == 2


def test_the_no_op_changes_no_column():
    frame = run(Plant(pos=20, forming=(2,), dies=5), edit="none")
    for name in ("lifetime", "alignment", "alignment_centred", "norm", "mass"):
        clean, edited = frame[f"{name}_clean"], frame[f"{name}_edited"]
        assert edited.to_numpy() == pytest.approx(clean.to_numpy(), rel=1e-5, abs=1e-6)


def test_every_sink_has_a_control_and_twins_are_used():
    frame = run(Plant(pos=20, forming=(3,)), Plant(pos=30, forming=(3,)))
    controls = frame[frame["role"] == "control"].drop_duplicates("pos")
    assert sorted(controls["sink_pos"]) == [20, 30]
    assert set(controls["kind"]) == {"twin"}
    ids = frame.drop_duplicates("pos").set_index("pos")["token_id"]
    assert all(ids[row.pos] == ids[row.sink_pos] for row in controls.itertuples())
    assert (controls["lifetime_clean"] == 0).all()


def test_without_twins_the_nearest_ordinary_token_is_the_control():
    frame = run(Plant(pos=20, forming=(3,)), twins=False)
    controls = frame[frame["role"] == "control"]
    assert set(controls["kind"]) == {"neighbour"}
    assert set(controls["pos"]) <= {19, 21}


def test_values_are_means_over_the_sinks_layers_and_their_readers():
    planted = plant([PRIMARY, Plant(pos=20, forming=(3,), dies=6)])
    trace = observe(planted.model, planted.tokens)
    row = ablate(planted.model, trace, detect(trace), layers=[0]).rows[0]
    assert row.norm_clean == pytest.approx(float(trace.norm[3:6, 20].mean()))
    assert row.mass_clean == pytest.approx(float(trace.mass[4:7, 20].mean()))


def test_no_sinks_give_an_empty_table_with_columns():
    planted = plant([])
    trace = observe(planted.model, planted.tokens)
    frame = ablate(planted.model, trace, detect(trace)).to_frame()
    assert len(frame) == 0
    assert {"lifetime_edited", "mass_edited", "role"} <= set(frame.columns)


def test_a_trace_of_another_model_is_refused():
    one, other = plant([PRIMARY]), plant([PRIMARY], n_layers=5)
    trace = observe(one.model, one.tokens)
    with pytest.raises(TraceError, match="this one has"):
        ablate(other.model, trace, detect(trace))


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"layers": [3, 3]}, "layers has 3 twice"),
        ({"ordinary": -1}, "ordinary is -1; expected a whole number of at least 0"),
        ({"ordinary": 1.5}, "ordinary is 1.5"),
        ({"ordinary": True}, "ordinary is True"),
    ],
)
def test_a_layer_twice_and_no_number_of_controls_are_refused(given, match):
    planted = plant([PRIMARY, Plant(pos=20, forming=(3,))])
    trace = observe(planted.model, planted.tokens)
    with pytest.raises(EditError, match=match):
        inspect.unwrap(ablate)(planted.model, trace, detect(trace), **given)


def test_an_unknown_edit_is_refused_even_without_sinks():
    planted = plant([])
    trace = observe(planted.model, planted.tokens)
    with pytest.raises(EditError, match="zap"):
        ablate(planted.model, trace, detect(trace), "zap")


def test_total_and_direct_mass_agree_where_nothing_else_reads_the_sink():
    planted = plant([PRIMARY, Plant(pos=20, forming=(3,))])
    trace = observe(planted.model, planted.tokens)
    row = next(row for row in ablate(planted.model, trace, detect(trace)).rows if row.layer == 3)

    def zero(mlp_out, hook):
        mlp_out = mlp_out.clone()
        mlp_out[0, 20] = 0
        return mlp_out

    with planted.model.hooks(fwd_hooks=[("blocks.3.hook_mlp_out", zero)]):
        _, cache = planted.model.run_with_cache(planted.tokens[None])
    masses = [cache[f"blocks.{la}.attn.hook_pattern"][0, :, 20:, 20].mean() for la in range(4, 8)]
    # Planted queries are constant, so freezing them changes nothing.
    assert row.mass_edited == pytest.approx(float(torch.stack(masses).mean()), rel=1e-4)
