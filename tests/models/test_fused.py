"""The fast path of attention equals the slow one by hooks, and hooks are still obeyed."""

import pytest
import torch
import transformer_lens

from secondary_sinks import load_model
from secondary_sinks.models import hooked_attention
from secondary_sinks.models.layers import begin, hook_name
from secondary_sinks.testing.families import configs, save, tiny
from tests.marks import needs_old, thinned
from tests.mechanisms import MECHANISMS

pytestmark = needs_old
TOKENS = torch.randint(3, 97, (40,), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=thinned(list(configs()), list(MECHANISMS)))
def model(request, tmp_path_factory):
    folder = save(request.param, tmp_path_factory.mktemp(request.param))
    return load_model(folder, device="cpu", bridge=False, skip=["causality", "chunks"])


def run(model, layer, resid, hooks=(), chunk=16):
    passage = begin(model, TOKENS)
    one = passage.layer(layer)
    resid = passage.embedded if resid is None else resid
    return one, one.forward(resid, list(hooks), chunk=chunk, denominators=True)


def look(tensor, hook):
    """A hook that changes nothing, but needs the tensor."""


def test_fast_and_slow_path_agree(model):
    resid = None
    for layer in range(model.cfg.n_layers):
        fast, after = run(model, layer, resid)
        slow, expected = run(model, layer, resid, [(hook_name(layer, "pattern"), look)])
        torch.testing.assert_close(after, expected, rtol=1e-5, atol=1e-5)
        for name in ("received", "queries", "keys", "values"):
            one, other = getattr(fast, name), getattr(slow, name)
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5, msg=name)
        for name in ("largest", "log_rest"):
            one, other = getattr(fast.denominator, name), getattr(slow.denominator, name)
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5, msg=name)
        resid = after


def test_received_adds_up_to_the_patterns_of_a_plain_pass(model):
    _, cache = model.run_with_cache(TOKENS[None])
    resid = None
    for layer in range(model.cfg.n_layers):
        one, resid = run(model, layer, resid)
        plain = cache[hook_name(layer, "pattern")][0].sum(1).mean(0)
        torch.testing.assert_close(one.received, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("at_once", [1, 7, 39])
def test_scores_of_a_chunk_may_be_made_in_parts(model, at_once, monkeypatch):
    whole, after = run(model, 1, None, chunk=99)
    monkeypatch.setattr(hooked_attention, "fitting_chunk", lambda n_heads, n_pos: at_once)
    part, other = run(model, 1, None, chunk=99)
    torch.testing.assert_close(other, after, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(part.received, whole.received, rtol=1e-5, atol=1e-5)
    one, two = part.denominator.log_sum, whole.denominator.log_sum
    torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)


def test_chunks_of_any_size_give_the_same(model):
    whole, after = run(model, 1, None, chunk=99)
    for chunk in (1, 7, 39):
        part, other = run(model, 1, None, chunk=chunk)
        torch.testing.assert_close(other, after, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(part.received, whole.received, rtol=1e-5, atol=1e-5)


def test_edits_of_heads_and_patterns_are_obeyed_on_either_path(model):
    def halve(tensor, hook):
        return tensor * 0.5

    _, clean = run(model, 0, None)
    changed = {}
    for point in ("z", "pattern"):
        _, changed[point] = run(model, 0, None, [(hook_name(0, point), halve)])
        assert not torch.allclose(changed[point], clean)
    # Half of the pattern is half of what the heads give.
    torch.testing.assert_close(changed["z"], changed["pattern"], rtol=1e-5, atol=1e-5)


def test_the_model_is_left_as_it_was(model):
    before = model(TOKENS[None])
    run(model, 1, None)
    assert torch.equal(model(TOKENS[None]), before)
    assert not {"calculate_z_scores", "apply_causal_mask"} & set(vars(model.blocks[1].attn))


def alibi():
    """A model of random weights whose scores fall with distance."""
    cfg = transformer_lens.HookedTransformerConfig(
        n_layers=2,
        d_model=32,
        n_ctx=64,
        d_head=8,
        n_heads=4,
        d_mlp=16,
        d_vocab=97,
        act_fn="gelu",
        positional_embedding_type="alibi",
        seed=0,
        device="cpu",
    )
    return transformer_lens.HookedTransformer(cfg)


def falling(q, k):
    """Scores that fall with distance, whatever the content; queries are the last keys."""
    last, n_keys = q.shape[1], k.shape[1]
    query = torch.arange(n_keys - last, n_keys)[:, None]
    return (query - torch.arange(n_keys)).mul(-0.5).expand(1, q.shape[2], last, n_keys).clone()


def replaced():
    from secondary_sinks.models.convert import to_hooked

    model = to_hooked(tiny("llama"), None, "llama", "cpu")
    for block in model.blocks:
        block.attn.calculate_attention_scores = falling
    return model


@pytest.mark.parametrize("made", [alibi, replaced])
def test_scores_that_are_more_than_products_of_queries_and_keys(made):
    model = made()
    test_received_adds_up_to_the_patterns_of_a_plain_pass(model)
    test_the_model_is_left_as_it_was(model)
    if made is replaced:
        assert model.blocks[1].attn.calculate_attention_scores is falling
