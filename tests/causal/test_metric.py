"""A metric of the user's own: equal to plain hooked passes, with controls, at any hook point."""

import pytest
import torch

from secondary_sinks import Edit, detect, load_model, observe, sweep_metric
from secondary_sinks.errors import EditError, HookError
from secondary_sinks.models.proof.prove import CHECKS
from secondary_sinks.testing import Plant, plant
from secondary_sinks.testing.families import save
from tests.causal import slow

TOKENS = torch.randint(3, 24, (40,), generator=torch.Generator().manual_seed(3))
POINTS = ("hook_resid_pre", "hook_mlp_out", "hook_resid_post", "attn.hook_k", "attn.hook_z")
CELLS = [
    Edit(pos=11, layer=1),
    Edit(pos=30, layer=0, kind="scale", value=3.0, site="attn_out"),
    Edit(pos=5, layer=2, kind="steer", value=9.0, site="resid_post"),
    [Edit(pos=(9, 25), layer=(0, 2)), Edit(pos=17, layer=1, kind="scale", value=3.0)],
    Edit(pos=3, layer=1, kind="none"),
]


@pytest.fixture(scope="module", params=["HookedTransformer", "TransformerBridge"])
def case(request, tmp_path_factory):
    folder = save("llama", tmp_path_factory.mktemp("llama"))
    bridge = request.param == "TransformerBridge"
    model = load_model(folder, device="cpu", bridge=bridge, skip=CHECKS)
    return model, observe(model, TOKENS)


def difference(logits):
    """Logit difference at the end of the text."""
    return (logits[0, -1, 5] - logits[0, -1, 7]).item()


def test_a_metric_of_logits_equals_plain_hooked_passes(case):
    model, trace = case
    found = sweep_metric(model, trace, CELLS, difference)
    logits, _ = slow.full_runs(model, trace, CELLS)
    expected = torch.tensor([difference(one[None]) for one in logits])
    torch.testing.assert_close(found.value, expected, rtol=1e-4, atol=1e-4)
    assert found.clean == pytest.approx(difference(model(TOKENS[None])), abs=1e-4)
    assert found.change[4] == 0.0  # the no-op, to the last bit
    assert found.change[[0, 1, 3]].abs().min() > 1e-3
    assert found.change[2] == 0.0  # above the last attention, at another token
    only = sweep_metric(model, trace, CELLS, difference, at=-1)
    torch.testing.assert_close(only.value, found.value)


def test_every_recorded_activation_is_that_of_a_plain_hooked_pass(case):
    model, trace = case
    names = [f"blocks.{layer}.{point}" for layer in range(model.cfg.n_layers) for point in POINTS]
    caches = []

    def keep(logits, cache):
        caches.append({name: tensor[0].clone() for name, tensor in cache.items()})
        return 0.0

    sweep_metric(model, trace, CELLS, keep, names=names, at=-1)
    _, expected = slow.full_runs(model, trace, CELLS)
    assert len(caches) == len(CELLS)  # the clean run first; the no-op needs no run
    for number, cache in enumerate(caches[1:]):
        for name in names:
            whole = expected[name][number]
            scale = float(whole.abs().max())
            torch.testing.assert_close(cache[name], whole, rtol=1e-4, atol=1e-5 * scale)


@pytest.fixture(scope="module")
def planted():
    planted = plant([Plant(pos=0, forming=(1,), strength=400.0), Plant(pos=20, forming=(3,))])
    trace = observe(planted.model, planted.tokens)
    return planted.model, trace, detect(trace)


def test_controls_are_the_same_edit_at_a_token_that_is_no_sink(planted):
    model, trace, sinks = planted
    edits = [Edit(pos=20, layer=layer) for layer in range(8)]
    edits.append([Edit(pos=20, layer=3), Edit(pos=21, layer=3)])
    name = "blocks.7.hook_resid_post"

    def length(logits, cache):
        return cache[name][0, 20].norm()

    found = sweep_metric(model, trace, edits, length, sinks=sinks, names=[name], at=-1)
    (control,) = set(found.control_pos[:8])
    assert control not in {sink.pos for sink in sinks}
    assert found.control_pos[8] is None
    assert found.control[8].isnan()
    alone = [Edit(pos=control, layer=layer) for layer in range(8)]
    same = sweep_metric(model, trace, alone, length, names=[name], at=-1)
    torch.testing.assert_close(found.control[:8], same.value)
    frame = found.to_frame()[:8].set_index("layer")
    assert frame["beyond_control"].idxmin() == 3  # the MLP that makes the sink
    assert frame.loc[3, "change"] < -10


def test_a_sweep_shows_itself(planted):
    model, trace, _ = planted
    edits = [Edit(pos=pos, layer=layer) for pos in (20, 21) for layer in range(8)]
    found = sweep_metric(model, trace, edits, lambda logits: logits[0, -1].max(), at=-1)
    assert repr(found).startswith("MetricSweep('text': clean ")
    assert "16 cells, 0 with a control; zero" in repr(found)
    assert found.plot().data[0].z.shape == (2, 8)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"names": ["blocks.0.hook_mlp"]}, HookError, "did you mean 'blocks.0.hook_mlp_out'"),
        ({"names": ["blocks.0.attn.hook_pattern"]}, HookError, "one row per token"),
        ({"at": 64}, EditError, "position 64 in `at`"),
        ({"metric": lambda logits: logits}, EditError, "expected one number"),
    ],
)
def test_what_cannot_be_measured_is_refused(planted, options, error, match):
    model, trace, _ = planted
    given = {"metric": lambda *seen: 0.0} | options
    with pytest.raises(error, match=match):
        sweep_metric(model, trace, [Edit(pos=20, layer=3)], given.pop("metric"), **given)
