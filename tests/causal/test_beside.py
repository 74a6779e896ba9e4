"""Direct and total effects side by side: equal where queries are constant, each as its engine."""

import pytest

from secondary_sinks import load_model, observe, recompute, replay
from secondary_sinks.causal import direct_and_total
from secondary_sinks.errors import EditError
from secondary_sinks.models.planted import Plant, plant
from secondary_sinks.testing.conformance import model_classes
from secondary_sinks.testing.families import save
from secondary_sinks.types import Edit, load_cells
from tests.marks import needs_old


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
