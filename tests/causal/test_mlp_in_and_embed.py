"""Edits of what the MLP alone reads, and of the embedding: what they mean, and where there is none.

That they equal plain hooked passes is in `test_edits_exact.py`.
"""

import pytest
import torch

from secondary_sinks import Edit, load_model, observe, recompute, replay
from secondary_sinks.causal import reference_means
from secondary_sinks.errors import EditError, MeasureError, UnsupportedModelError
from secondary_sinks.layerwise.begin import layerwise_forward
from secondary_sinks.models.proof.prove import CHECKS
from secondary_sinks.observation import CachedPass
from secondary_sinks.testing.families import save
from tools.conformance import model_classes

TOKENS = torch.arange(3, 35)
STATES = ("norm", "alignment", "key_norm", "mass")


@pytest.fixture(scope="module", params=model_classes())
def kind(request):
    return request.param


def loaded(variant, kind, folder):
    bridge = kind == "TransformerBridge"
    return load_model(save(variant, folder), device="cpu", bridge=bridge, skip=CHECKS)


def same(found, one, other):
    for name in STATES:
        torch.testing.assert_close(getattr(found, name)[:, one], getattr(found, name)[:, other])


def test_an_mlp_that_reads_nothing_writes_nothing_and_the_residual_stays(kind, tmp_path):
    """Without biases: zeroing what the MLP reads is zeroing what it writes, nothing else."""
    model = loaded("llama", kind, tmp_path)
    trace = observe(model, TOKENS)
    cells = [Edit(pos=9, layer=1, site=site) for site in ("mlp_in", "mlp_out")]
    same(replay(model, trace, cells), 0, 1)
    assert not model.cfg.use_hook_mlp_in
    hook = ("blocks.1.hook_mlp_in", lambda tensor, hook: 0 * tensor)
    assert (observe(model, TOKENS, hooks=[hook]).mlp_norm[1] == 0).all()


def test_an_embedding_without_learned_positions_is_what_enters_layer_0(kind, tmp_path):
    model = loaded("gemma3", kind, tmp_path)
    trace = observe(model, TOKENS)
    places = ("embed", "resid_pre")
    cells = [Edit(pos=9, layer=0, kind="scale", value=-2.0, site=site) for site in places]
    cells += [Edit(pos=9, layer=0, kind="patch", donor=20, site=site) for site in places]
    found = replay(model, trace, cells)
    same(found, 0, 1)
    same(found, 2, 3)


def test_learned_positions_stay_when_the_embedding_is_zeroed(kind, tmp_path):
    model = loaded("gpt2", kind, tmp_path)
    trace = observe(model, TOKENS)
    seen = {}

    def keep(tensor, hook):
        seen[hook.name] = tensor[0].clone()

    with torch.no_grad(), model.hooks(fwd_hooks=[("blocks.0.hook_resid_pre", keep)]):
        model(torch.full_like(TOKENS, 5)[None])
    (entered,) = seen.values()
    zeroed = Edit(pos=9, layer=0, site="embed")
    as_if = layerwise_forward(model, TOKENS).after_embedding(
        torch.zeros(1, model.cfg.d_model), torch.tensor([9])
    )
    embedding = layerwise_forward(model, torch.full_like(TOKENS, 5)).embeddings()[9]
    torch.testing.assert_close(as_if[0], entered[9] - embedding, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(
        replay(model, trace, [zeroed]).norm, replay(model, trace, [Edit(pos=9, layer=0)]).norm
    )


def test_only_layer_0_has_an_embedding():
    for layer in (1, (0, 1)):
        with pytest.raises(EditError, match=r"'embed' is before the first layer.*expected layer=0"):
            Edit(pos=9, layer=layer, site="embed")


@pytest.mark.parametrize("run", [replay, recompute])
def test_a_hook_point_that_never_fires_is_refused_by_name(run, tmp_path, monkeypatch):
    """As in blocks of a bridge whose attention and MLP share one norm."""
    model = loaded("llama", "TransformerBridge", tmp_path)
    trace = observe(model, TOKENS)
    monkeypatch.setattr(type(model), "set_use_hook_mlp_in", lambda self, on: None)
    monkeypatch.setattr(type(model), "check_hooks_to_add", lambda self, name: None)
    with pytest.raises(EditError, match=r"'blocks.1.hook_mlp_in' of site 'mlp_in' never fires"):
        run(model, trace, [Edit(pos=9, layer=1, site="mlp_in")])
    later = [Edit(pos=9, layer=0), Edit(pos=9, layer=1, site="mlp_in")]
    with pytest.raises(EditError, match=r"'blocks.1.hook_mlp_in' of site 'mlp_in' never fires"):
        run(model, trace, [later])
    with pytest.raises(MeasureError, match="'mlp_in' never fires"):
        reference_means(model, [trace], ["mlp_in"])


def test_an_embedding_that_is_changed_in_an_unknown_way_is_refused(kind, tmp_path, monkeypatch):
    model = loaded("llama", kind, tmp_path)
    trace, kind_of = observe(model, TOKENS), type(layerwise_forward(model, TOKENS))
    monkeypatch.setattr(kind_of, "after_embedding", lambda self, rows, positions: 2 * rows)
    with pytest.raises(UnsupportedModelError, match="changes embeddings after 'hook_embed'"):
        replay(model, trace, [Edit(pos=9, layer=0, site="embed")])
    replay(model, trace, [Edit(pos=9, layer=0, site="resid_pre")])


def test_a_mixture_of_experts_has_no_neurons_and_one_embedding(kind, tmp_path):
    model = loaded("qwen3-moe", kind, tmp_path)
    trace = observe(model, TOKENS)
    assert reference_means(model, [trace], ["embed"]).keys() == {("embed", 0)}
    with pytest.raises(EditError, match=r"no hook point 'blocks.0.mlp.hook_post'"):
        reference_means(model, [trace], ["post"])
    with pytest.raises(EditError, match=r"no hook point 'blocks.1.mlp.hook_post'"):
        replay(model, trace, [Edit(pos=9, layer=1, site="post")])


def test_a_pass_that_is_kept_has_the_embeddings_of_donors_too(kind, tmp_path):
    model = loaded("gpt2", kind, tmp_path)
    trace, kept = observe(model, TOKENS), CachedPass(model, TOKENS)
    cells = [Edit(pos=9, layer=0, site="embed", kind="patch", donor=20)]
    cells += [Edit(pos=9, layer=1, site="mlp_in", kind="mean")]
    once, again = replay(model, trace, cells), replay(model, trace, cells, kept=kept)
    for name in STATES:
        torch.testing.assert_close(getattr(again, name), getattr(once, name))
