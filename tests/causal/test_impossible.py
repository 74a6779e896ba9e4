"""What an edit comes too late for: marked where nothing can happen, and nowhere else."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from secondary_sinks import Thresholds, detect, observe, replay
from secondary_sinks.causal.ablate import effects_of
from secondary_sinks.causal.controls import owners_of
from secondary_sinks.causal.outcome import first_settled_layer
from secondary_sinks.detection import joint_tests, lasts
from secondary_sinks.testing.planted import Plant, plant
from secondary_sinks.types import Edit, Effects

PRIMARY = Plant(pos=0, forming=(1,), strength=400.0)
N_LAYERS = 8


def cells(*plants, kinds=("zero", "remove", "scale:-1"), sites=("resid_post",)):
    """Edits of every layer at each secondary sink and its control, as a frame."""
    planted = plant([PRIMARY, *plants], n_layers=N_LAYERS)
    trace = observe(planted.model, planted.tokens)
    sinks = detect(trace)
    owners = owners_of(trace, sinks)
    edits = [
        Edit.of_label(kind, pos=pos, layer=layer, site=site)
        for kind in kinds
        for site in sites
        for pos in owners
        for layer in range(N_LAYERS)
    ]
    result = replay(planted.model, trace, edits)
    frame = Effects(rows=effects_of(trace, sinks.thresholds, result, owners)).to_frame()
    return frame[frame["role"] == "sink"]


def test_a_sink_can_end_as_long_as_fewer_than_three_layers_stand():
    """Created at layer 3: an edit at layer 5 leaves layers 3 and 4, one at layer 6 all three."""
    frame = cells(Plant(pos=20, forming=(3,)), kinds=["remove"])
    found = frame[frame["pos"] == 20].set_index("layer")
    assert found.loc[3:, "lifetime_edited"].tolist() == [0, 0, 0, 3, 4]
    assert found["impossible"].tolist() == ["none"] * 6 + ["end", "weaken"]


@pytest.mark.parametrize(("kind", "site"), [("remove", "resid_pre"), ("zero", "k")])
def test_what_a_block_reads_is_the_state_below_it(kind, site):
    """Created at layer 3: an edit of what block 6 reads leaves layers 3 and 4 only."""
    frame = cells(Plant(pos=20, forming=(3,)), kinds=[kind], sites=[site])
    found = frame[frame["pos"] == 20].set_index("layer")
    assert found["impossible"].tolist() == ["none"] * 7 + ["end"]
    if site == "resid_pre":
        assert found.loc[4:, "lifetime_edited"].tolist() == [0, 0, 0, 3]


def test_the_end_of_the_model_settles_no_sink():
    """Created at layer 6 of 8: it lasts since the model ends, and an edit at layer 7 ends it."""
    frame = cells(Plant(pos=20, forming=(6,)), kinds=["remove"])
    found = frame[frame["pos"] == 20].set_index("layer")
    assert found.loc[6:, "lifetime_edited"].tolist() == [0, 0]
    assert set(found["impossible"]) == {"none"}


@pytest.mark.parametrize(
    ("kinds", "sites"),
    [
        (("zero", "remove", "scale:-1"), ("mlp_out", "attn_out", "resid_post", "mlp_in")),
        (("zero", "scale:-1"), ("q", "k", "v", "resid_pre")),
    ],
)
def test_nothing_that_is_marked_impossible_ever_happens(kinds, sites):
    frame = cells(
        Plant(pos=12, forming=(2,)),
        Plant(pos=20, forming=(3,)),
        Plant(pos=28, forming=(2,), dies=5),
        Plant(pos=36, forming=(2, 4), strength=90.0),
        Plant(pos=44, forming=(6,)),
        kinds=kinds,
        sites=sites,
    )
    late = frame[frame["impossible"] != "none"]
    assert {*late["impossible"]} - {"weaken"} == {"end", "loss"}
    assert (late["lifetime_edited"] > 0).all()
    weak = late[late["impossible"] == "weaken"]
    assert (weak["mass_edited"] > 0.9 * weak["mass_clean"]).all()
    lost = late[late["impossible"] == "loss"]
    assert lost["mass_edited"].to_numpy() == pytest.approx(lost["mass_clean"].to_numpy(), rel=1e-5)


def test_what_is_not_marked_can_happen():
    """At every layer up to the one at which a sink is settled, one of the edits ends it."""
    frame = cells(Plant(pos=12, forming=(2,)), Plant(pos=28, forming=(2,), dies=6))
    secondary = frame[frame["kind"] == "secondary"]
    ended = (secondary["lifetime_edited"] == 0).groupby([secondary["pos"], secondary["layer"]])
    marked = secondary.groupby(["pos", "layer"])["impossible"].first()
    assert ended.any().tolist() == (marked == "none").tolist()


def settled_one_by_one(trace, thresholds):
    """The slow way: cut the text off above each layer, and look whether what is left lasts."""
    tests, beyond = joint_tests(trace, thresholds), trace.mass - trace.mass_expected
    n_layers = len(trace.norm)
    settled = torch.full_like(trace.tokens, n_layers)
    for layer in range(n_layers - 1, 0, -1):
        below = torch.arange(n_layers)[:, None] < layer
        alone = lasts(tests.joint & below, tests.goes_on & below, beyond, thresholds)
        settled = torch.where(alone, layer, settled)
    return settled


@pytest.mark.parametrize("persists", [1, 2, 3, N_LAYERS, N_LAYERS + 2])
def test_the_layer_from_which_on_nothing_ends_a_sink_equals_the_slow_one(persists):
    planted, chance = plant([PRIMARY, Plant(pos=20, forming=(3,))]), np.random.default_rng(persists)
    trace, found = observe(planted.model, planted.tokens), set()
    thresholds = Thresholds(persists=persists)
    for share in (0.3, 0.6, 0.9):
        stands = torch.tensor(chance.random(trace.norm.shape) < share)
        stands[:, 0] = torch.tensor(chance.random(N_LAYERS) < 0.8)  # the primary is active
        noisy = replace(
            trace,
            deviation_ratio=torch.where(stands, 100.0, 1.0),
            alignment_centred=torch.ones_like(trace.norm),
            mass=torch.tensor(chance.random(trace.norm.shape), dtype=torch.float32),
        )
        expected = settled_one_by_one(noisy, thresholds)
        assert torch.equal(first_settled_layer(noisy, thresholds), expected)
        found |= set(expected.tolist())
    assert len(found) > 2 or persists >= N_LAYERS
