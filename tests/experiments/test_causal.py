"""Causal experiments: the planted truth in both directions, and clear words for what is none."""

import numpy as np
import pytest

from experiments import mlp_ablation, mlp_patching, neurons, norm_dose
from secondary_sinks.testing.planted import Plant
from tests.experiments.observed import planted
from tests.marks import exhaustive, thinned
from tests.questions.gardens import three

MODULES = (mlp_ablation, mlp_patching, norm_dose, neurons)


@pytest.fixture(scope="module")
def by_one():
    return planted(*three(forming=(3,)), anisotropy=12.0)


@pytest.fixture(scope="module")
def by_attention():
    places = ((12, 2), (24, 3), (36, 4))
    return planted(*(Plant(pos=pos, forming=(at,), by="attention") for pos, at in places))


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.NAME)
def test_sinks_that_one_mlp_writes(by_one, module):
    finding = module.run(by_one)
    assert finding.verdict.outcome == "supported"
    assert finding.verdict.n_sinks == 24
    assert len(finding.frame)
    assert len(finding.figure.data)
    assert all(len(figure.data) for figure in finding.figures.values())
    assert finding.captions.keys() == {"figure", *finding.figures}
    assert set(finding.tables["cells"]["text_id"]) == {f"t{n}" for n in range(8)}


def test_the_map_of_patches_shows_every_layer_and_only_the_planted_one_works(by_one):
    finding = mlp_patching.run(by_one)
    for figure in (finding.figure, finding.figures["noising"]):
        shares = np.asarray(figure.data[0].z, dtype=float)
        assert shares.shape == (24, by_one.n_layers)
        assert np.isfinite(shares).all()
        assert (shares.argmax(axis=1) == 3).all()
        assert (np.delete(shares, 3, axis=1) < shares[:, [3]]).all()


@exhaustive
def test_the_layer_that_was_planted_is_the_one_that_is_needed(by_one):
    finding = mlp_ablation.run(by_one)
    assert "layer 3" in finding.verdict.claim
    assert set(finding.frame["edit"]) == {"zero", "mean", "resample"}
    assert set(mlp_ablation.run(by_one, edit="mean").frame["edit"]) == {"mean"}


@exhaustive
def test_an_mlp_that_says_which_token_this_is_is_not_needed():
    """Zeroing it ends the sinks, its output at the same token elsewhere does not."""
    finding = mlp_ablation.run(planted(*three(forming=(3,), identity=1), twins=2))
    assert set(finding.frame["edit"]) == {"zero", "mean", "resample", "mean:twins"}
    needed = [one.layer for one in finding.verdicts if one.outcome == "supported" and one.layer]
    assert needed == [3]


@exhaustive
def test_curves_of_neurons_are_of_all_sinks_at_every_number():
    finding = neurons.run(planted(*three(forming=(3,))[:2], *three(forming=(2, 4))[2:]))
    cells = finding.tables["cells"]
    assert cells["n_neurons"].nunique() == 2
    drawn = {k for line in finding.figure.data if line.name for k in line.x}
    assert drawn < set(cells["k"])
    for k in drawn:
        assert len(cells[cells["k"] == k].drop_duplicates(["text_id", "sink_pos"])) == 24


@pytest.mark.parametrize("module", thinned([mlp_ablation, mlp_patching], [mlp_patching]))
def test_sinks_that_attention_writes_are_not_formed_by_mlps(by_attention, module):
    assert module.run(by_attention).verdict.outcome == "contradicted"


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.NAME)
def test_without_sinks_nothing_is_claimed_and_the_figure_says_so(module):
    finding = module.run(planted())
    assert finding.verdict.outcome == "inconclusive"
    assert "no secondary sink" in finding.verdict.why
    assert "no secondary sink" in str(finding.figure.layout.annotations)
