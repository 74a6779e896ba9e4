"""Effects side by side: direct and total, equal where queries are constant, each as its engine;
before and after an edit, as `ablate` has them."""

import pytest

from secondary_sinks import ablate, detect, load_model, observe, recompute, replay
from secondary_sinks.causal import before_and_after, direct_and_total, watched_sinks
from secondary_sinks.errors import EditError
from secondary_sinks.testing.families import save
from secondary_sinks.testing.planted import Plant, plant
from secondary_sinks.types import Edit, Thresholds, load_cells
from tests.marks import needs_old
from tools.conformance import model_classes


@needs_old
def test_where_queries_are_constant_direct_is_total():
    planted = plant([Plant(pos=0, forming=(1,), strength=400.0), Plant(pos=20, forming=(3,))])
    trace = observe(planted.model, planted.tokens)
    frame = direct_and_total(planted.model, trace, [Edit(pos=20, layer=3)]).set_index("layer")
    later = frame.loc[4:]
    assert later["mass_total"].to_numpy() == pytest.approx(later["mass_direct"].to_numpy(), 1e-4)
    assert (later["mass_total"] < later["mass_clean"] / 2).all()
    assert (frame.loc[:2, "mass_direct"] == frame.loc[:2, "mass_clean"]).all()


@pytest.mark.parametrize("kind", model_classes())
def test_columns_are_those_of_the_engines(kind, tmp_path):
    model = load_model(save("qwen3", tmp_path), bridge=kind == "TransformerBridge", device="cpu")
    trace = observe(model, range(3, 40))
    cells = [Edit(pos=9, layer=0, kind="scale", value=-8.0), Edit(pos=5, layer=1, kind="none")]
    frame = direct_and_total(model, trace, cells)
    direct, total = replay(model, trace, cells), recompute(model, trace, cells)
    assert frame["mass_direct"].to_numpy() == pytest.approx(direct.mass.T.reshape(-1).numpy())
    first = frame[frame["pos"] == 9]
    assert first["mass_total"].to_numpy() == pytest.approx(
        total.mass[:, 0, total.column(9)].numpy()
    )
    assert not (first["mass_total"] == first["mass_direct"]).all()
    change = (total.loss - total.loss_clean)[0, 9:-1].mean()
    assert first["loss_change"].iloc[0] == pytest.approx(float(change))
    nothing = frame[frame["pos"] == 5]
    assert (nothing["mass_total"] == nothing["mass_clean"]).all()
    assert (nothing["loss_change"] == 0).all()
    assert load_cells(first["edit"].iloc[0])[0] == (cells[0],)


@needs_old
def test_edits_of_several_tokens_are_refused():
    planted = plant([Plant(pos=0, forming=(1,), strength=400.0)])
    trace = observe(planted.model, planted.tokens)
    with pytest.raises(EditError, match="one token"):
        direct_and_total(planted.model, trace, [Edit(pos=(20, 21), layer=3)])


@needs_old
def test_before_and_after_is_what_ablate_says_of_sinks():
    sinks = [Plant(pos=20, forming=(3,), dies=6), Plant(pos=30, forming=(2, 4), strength=90.0)]
    planted = plant([Plant(pos=0, forming=(1,), strength=400.0), *sinks])
    trace = observe(planted.model, planted.tokens)
    expected = ablate(planted.model, trace, detect(trace)).to_frame().query("role == 'sink'")
    places = zip(expected["pos"], expected["layer"], strict=True)
    edits = [Edit(pos=int(pos), layer=int(layer)) for pos, layer in places]
    frame = before_and_after(trace, replay(planted.model, trace, edits))
    for name in ("lifetime", "l_start", "alignment", "alignment_centred", "norm", "mass"):
        for run in ("clean", "edited"):
            got, wanted = frame[f"{name}_{run}"], expected[f"{name}_{run}"]
            assert got.to_numpy() == pytest.approx(wanted.to_numpy(), nan_ok=True), name
    assert set(frame["layers"]) == {"3-5", "2-7"}
    assert set(
        before_and_after(trace, replay(planted.model, trace, edits), layers=[4])["layers"]
    ) == {"4"}


@needs_old
def test_of_a_token_that_is_no_sink_the_means_are_from_the_edit_on():
    planted = plant([Plant(pos=0, forming=(1,), strength=400.0)])
    trace = observe(planted.model, planted.tokens)
    replayed = replay(planted.model, trace, [(Edit(pos=9, layer=6), Edit(pos=9, layer=5))])
    row = before_and_after(trace, replayed).iloc[0]
    assert (row["layers"], row["lifetime_clean"], row["lifetime_edited"]) == ("5-7", 0, 0)
    assert row["norm_edited"] == pytest.approx(float(replayed.norm[5:, 0].mean()))


@needs_old
def test_watched_tokens_are_sinks_where_detection_finds_them_in_the_changed_run():
    """One cell ends a sink and leaves another, one edits both; the oracles are hooked passes."""
    sinks = [Plant(pos=20, forming=(3,), dies=7), Plant(pos=30, forming=(2,), strength=90.0)]
    planted = plant([Plant(pos=0, forming=(1,), strength=400.0), *sinks])
    model, trace = planted.model, observe(planted.model, planted.tokens)
    silenced, both = Edit(pos=20, layer=3), Edit(pos=(20, 30), layer=3, kind="scale", value=0.5)
    total = recompute(model, trace, [silenced, both], watch=[20, 25, 30])
    alive = watched_sinks(trace, total, Thresholds())
    columns = [total.column(pos) for pos in (20, 25, 30)]
    for number, factors in enumerate(({20: 0.0}, {20: 0.5, 30: 0.5})):

        def change(written, hook, factors=factors):
            written = written.clone()
            for pos, factor in factors.items():
                written[:, pos] *= factor
            return written

        changed = observe(model, planted.tokens, hooks=[("blocks.3.hook_mlp_out", change)])
        found = {sink.pos: len(sink.layers) for sink in detect(changed).sinks}
        assert alive[:, number, columns].sum(0).tolist() == [found.get(p, 0) for p in (20, 25, 30)]
    assert alive[:, 0, columns].sum(0).tolist() == [0, 0, 6]
    assert alive[:, 1, columns].sum(0).tolist() == [4, 0, 6]
