"""Edits: what they do, what they leave alone, and that replicas don't see each other."""

import sys
from functools import partial

import pytest
import torch

from secondary_sinks import observe, replay
from secondary_sinks.causal.donors import token_twins
from secondary_sinks.errors import EditError, TraceError
from secondary_sinks.testing.planted import Plant, plant
from secondary_sinks.types import Edit

PLANTS = [Plant(pos=0, forming=(1,), strength=400.0), Plant(pos=20, forming=(3,), dies=6)]
NAMES = ("norm", "deviation_ratio", "alignment", "alignment_centred", "key_norm", "mass")


@pytest.fixture(scope="module")
def planted():
    planted = plant(PLANTS)
    return planted.model, observe(planted.model, planted.tokens)


def test_a_batch_of_edits_equals_each_edit_alone(planted):
    model, trace = planted
    edits = [Edit(pos=pos, layer=layer) for pos in (20, 21, 40) for layer in range(8)]
    together = replay(model, trace, edits)
    for cell, edit in enumerate(edits):
        alone = replay(model, trace, [edit])
        for name in NAMES:
            one, other = getattr(together, name)[:, cell], getattr(alone, name)[:, 0]
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scores", [1, 64 * 4 * 7])
def test_more_cells_than_fit_into_one_batch(planted, monkeypatch, scores):
    model, trace = planted
    edits = [Edit(pos=pos, layer=layer) for pos in (1, 20, 55) for layer in range(8)]
    whole = replay(model, trace, edits)
    monkeypatch.setattr(sys.modules["secondary_sinks.causal.batches"], "SCORES_AT_ONCE", scores)
    batches = replay(model, trace, edits)
    for name in NAMES:
        one, other = getattr(whole, name), getattr(batches, name)
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_layers_below_an_edit_are_clean(planted):
    model, trace = planted
    result = replay(model, trace, [Edit(pos=20, layer=5)])
    for name in NAMES:
        assert torch.equal(getattr(result, name)[:5, 0], getattr(trace, name)[:5, 20])


@pytest.mark.parametrize("pos", [0, 1, 20, 63])
def test_the_no_op_changes_nothing_at_any_position(planted, pos):
    model, trace = planted
    result = replay(model, trace, [Edit(pos=pos, layer=0, kind="none")])
    for name in NAMES:
        clean = getattr(trace, name)[:, pos]
        torch.testing.assert_close(getattr(result, name)[:, 0], clean, rtol=1e-5, atol=1e-6)


def test_mean_writes_the_mean_of_ordinary_tokens(planted):
    model, trace = planted
    edit = Edit(pos=20, layer=3, kind="mean")
    _, cache = model.run_with_cache(trace.tokens[None])
    norms = cache["blocks.3.hook_resid_post"][0].norm(dim=-1)
    ordinary = norms <= 2 * norms.median()
    written = cache["blocks.3.hook_mlp_out"][0, ordinary].mean(0)

    def overwrite(mlp_out, hook):
        mlp_out = mlp_out.clone()
        mlp_out[0, 20] = written
        return mlp_out

    with model.hooks(fwd_hooks=[("blocks.3.hook_mlp_out", overwrite)]):
        _, edited = model.run_with_cache(trace.tokens[None])
    expected = torch.stack(
        [edited[f"blocks.{la}.hook_resid_post"][0, 20].norm() for la in range(8)]
    )
    torch.testing.assert_close(replay(model, trace, [edit]).norm[:, 0], expected)


lazily = partial(partial, Edit)  # an impossible edit is refused where it is made


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (lazily(pos=20, layer=8), "layer 8.*0 to 7"),
        (lazily(pos=64, layer=0), "position 64.*0 to 63"),
        (lazily(pos=-1, layer=0), "position -1"),
        (lazily(pos=2, layer=0, kind="zap"), "zap.*zero"),
        (lazily(pos=2, layer=0, site="attn"), "'attn'.*mlp_out"),
        (lazily(pos=2, layer=(), kind="none"), "names no layer"),
        (lazily(pos=2, layer=(3, 3)), "layer twice"),
        (lazily(pos=2, layer=0, kind="scale"), "needs a value"),
        (lazily(pos=2, layer=0, value=2.0), "takes no value"),
        (lazily(pos=2, layer=0, kind="set_norm", value=-1.0), "finite number"),
        (lazily(pos=2, layer=0, kind="patch"), "needs a donor"),
        (lazily(pos=2, layer=0, kind="patch", donor=64), "donor 64.*0 to 63"),
        (lazily(pos=2, layer=0, kind="patch", donor=(3, 64)), "donor 64.*0 to 63"),
        (lazily(pos=2, layer=0, kind="patch", donor=(3, 3)), "names a donor twice"),
        (lazily(pos=2, layer=0, kind="patch", donor=()), "needs a donor"),
        (lazily(pos=2, layer=0, kind="patch", donor=3, text="b"), "donor text 'b'"),
        (lazily(pos=2, layer=0, kind="mean", over="all"), "'all'.*ordinary"),
        (lazily(pos=2, layer=0, kind="mean", over="reference"), "reference_means"),
        (lazily(pos=2, layer=0, site="z", kind="remove"), "no meaning at site 'z'.*rotate"),
        (lazily(pos=2, layer=0, site="z", units=(4,)), "head 4.*0 to 3"),
        (lazily(pos=2, layer=0, units=(999,)), "coordinate 999 is out of range"),
        (tuple, "no edit"),
        (lazily(pos=(2, 3), layer=0), "positions 2-3: use recompute"),
    ],
)
def test_an_impossible_edit_is_refused(planted, edit, match):
    with pytest.raises(EditError, match=match):
        replay(*planted, [edit()])


def test_the_model_is_left_as_it_was(planted):
    model, trace = planted
    before = model(trace.tokens[None])
    replay(model, trace, [Edit(pos=20, layer=3)])
    assert torch.equal(model(trace.tokens[None]), before)
    assert "apply_rotary" not in vars(model.blocks[0].attn)
    assert "apply_causal_mask" not in vars(model.blocks[0].attn)


def test_progress_goes_through_all_layers(planted):
    steps = []
    model, trace = planted
    replay(model, trace, [Edit(pos=5, layer=0)], progress=lambda done, n: steps.append((done, n)))
    assert steps == [(layer + 1, 8) for layer in range(8)]


def test_a_trace_of_other_weights_of_the_same_shape_is_refused(planted):
    _, trace = planted
    other = plant([PLANTS[0], Plant(pos=20, forming=(5,))]).model
    with pytest.raises(TraceError, match=r"another model.*layer 3"):
        replay(other, trace, [Edit(pos=20, layer=0)])


def test_a_donor_that_becomes_a_sink_later_is_never_drawn():
    """The first MLP of a chain writes a small link: the token is ordinary there, and later not."""
    chain = [Plant(pos=pos, forming=(2, 5), chain=True) for pos in range(8, 40, 2)]
    planted = plant([PLANTS[0], *chain], n_pos=64)
    trace = observe(planted.model, planted.tokens)
    edits = [Edit(pos=41, layer=2, kind="resample", seed=seed) for seed in range(40)]
    result = replay(planted.model, trace, edits, attention=False)
    assert float(result.norm[7].max()) < 2 * float(trace.median_norm[7])


def test_a_token_that_becomes_a_sink_later_is_no_twin():
    """Were it one, the mean of what the first MLP of a chain writes would hold half a link."""
    chain = Plant(pos=20, forming=(2, 5), chain=True)
    planted = plant([PLANTS[0], chain, Plant(pos=30, forming=(2, 5), chain=True)])
    tokens = planted.tokens.clone()
    tokens[30] = int(tokens[20])
    trace = observe(planted.model, tokens)
    result = replay(planted.model, trace, [Edit.of_label("twins", pos=20, layer=2)])
    assert float(result.norm[5:, 0].max()) < 2 * float(trace.median_norm[5])
    assert len(token_twins(trace, 20)) == 1
