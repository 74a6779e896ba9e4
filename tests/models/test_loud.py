"""What a `TransformerBridge` does without a word, ours says; the plain one shows that it is so."""

import functools

import pytest
import torch
from transformer_lens.model_bridge import TransformerBridge
from transformers import DynamicCache

from secondary_sinks import load_model
from secondary_sinks.errors import HookError
from secondary_sinks.testing.families import save

TOKENS = torch.arange(3, 15)[None]


@pytest.fixture(scope="module")
def bridge(tmp_path_factory):
    return load_model(save("llama", tmp_path_factory.mktemp("llama")), bridge=True)


@pytest.fixture(scope="module")
def fused(tmp_path_factory):
    """A model whose queries, keys and values come from one matrix."""
    return load_model(save("phi3", tmp_path_factory.mktemp("phi3")), bridge=True)


def double(tensor, hook):
    return tensor * 2


def read(tensor, hook):
    return None


WAYS = {
    "hooks": lambda model, hook: model.hooks(fwd_hooks=[hook]).__enter__(),
    "bwd hooks": lambda model, hook: model.hooks(bwd_hooks=[hook]).__enter__(),
    "run_with_hooks": lambda model, hook: model.run_with_hooks(TOKENS, fwd_hooks=[hook]),
    "add_hook": lambda model, hook: model.add_hook(*hook),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_mistyped_hook_is_refused_with_near_names(bridge, way):
    with pytest.raises(HookError, match=r"hook_mlp_uot.*did you mean blocks\.1\.hook_mlp_out"):
        WAYS[way](bridge, ("blocks.1.hook_mlp_uot", double))


@pytest.mark.parametrize("way", WAYS)
def test_a_filter_that_matches_nothing_is_refused(bridge, way):
    with pytest.raises(HookError, match="matches no hook point"):
        WAYS[way](bridge, (lambda name: name.endswith("hook_typo"), double))


@pytest.mark.parametrize("names", ["blocks.1.hook_typo", ["blocks.1.hook_mlp_out", "typo"]])
def test_a_cache_of_no_such_name_is_refused(bridge, names):
    with pytest.raises(HookError, match="typo"):
        bridge.run_with_cache(TOKENS, names_filter=names)


def test_a_cache_of_a_filter_is_made_or_refused(bridge):
    _, cache = bridge.run_with_cache(TOKENS, names_filter=lambda name: name.endswith("mlp_out"))
    assert "blocks.1.hook_mlp_out" in cache
    with pytest.raises(HookError, match="matches no hook point"):
        bridge.run_with_cache(TOKENS, names_filter=lambda name: name.endswith("typo"))


def test_what_is_spelled_right_goes_through(bridge):
    clean = bridge(TOKENS)
    edited = bridge.run_with_hooks(TOKENS, fwd_hooks=[("blocks.1.hook_mlp_out", double)])
    assert not torch.allclose(clean, edited)
    _, cache = bridge.run_with_cache(TOKENS, names_filter="blocks.1.hook_mlp_out")
    assert "blocks.1.hook_mlp_out" in cache
    assert torch.equal(bridge(TOKENS), clean)


def test_a_write_to_resid_mid_is_refused_and_reading_is_not(bridge):
    seen = []
    hooks = [("blocks.1.hook_resid_mid", lambda tensor, hook: seen.append(tensor.shape))]
    bridge.run_with_hooks(TOKENS, fwd_hooks=hooks)
    assert len(seen) == 1
    with pytest.raises(HookError, match="hook_attn_out"):
        bridge.run_with_hooks(TOKENS, fwd_hooks=[("blocks.1.hook_resid_mid", double)])


def test_a_write_to_resid_mid_in_place_or_through_a_filter_is_refused_too(bridge):
    def in_place(tensor, hook):
        tensor[:, 3] += 1

    for names in ("blocks.1.hook_resid_mid", lambda name: name == "blocks.1.hook_resid_mid"):
        with torch.no_grad(), pytest.raises(HookError, match="hook_resid_pre"):
            bridge.run_with_hooks(TOKENS, fwd_hooks=[(names, in_place)])


def test_hooks_without_a_name_of_their_own_are_fine(bridge):
    hook = functools.partial(lambda factor, tensor, hook: tensor * factor, 2.0)
    one = bridge.run_with_hooks(TOKENS, fwd_hooks=[("blocks.1.hook_mlp_out", hook)])
    other = bridge.run_with_hooks(TOKENS, fwd_hooks=[("blocks.1.hook_mlp_out", double)])
    assert torch.equal(one, other)


def test_the_cache_argument_of_the_other_class_is_refused(bridge):
    with pytest.raises(HookError, match="past_key_values=DynamicCache"):
        bridge(TOKENS, past_kv_cache=object())
    cache = DynamicCache()
    bridge(TOKENS[:, :5], past_key_values=cache, use_cache=True)
    rest = bridge(TOKENS[:, 5:], past_key_values=cache, use_cache=True)
    torch.testing.assert_close(rest, bridge(TOKENS)[:, 5:], rtol=1e-4, atol=1e-5)


def test_a_point_that_never_fires_is_refused(fused, bridge):
    with pytest.raises(HookError, match=r"rot_q.*never fires.*hook_q"):
        fused.run_with_hooks(TOKENS, fwd_hooks=[("blocks.1.attn.hook_rot_q", double)])
    bridge.run_with_hooks(TOKENS, fwd_hooks=[("blocks.1.attn.hook_rot_q", read)])


def test_it_is_still_a_bridge(bridge):
    assert isinstance(bridge, TransformerBridge)


def test_a_plain_bridge_is_silent_about_each(fused):
    """Why all this is there: if one of these begins to raise, a guard may go."""
    plain = TransformerBridge
    never = [("blocks.1.attn.hook_rot_q", double)]
    clean = plain.run_with_hooks(fused, TOKENS)
    assert torch.equal(plain.run_with_hooks(fused, TOKENS, fwd_hooks=never), clean)
    ignored = plain.forward(fused, TOKENS, past_kv_cache=object())
    assert torch.equal(ignored, clean)
    cache = {}

    def keep(tensor, hook):
        cache[hook.name] = tensor

    hooks = [("blocks.1.hook_resid_mid", lambda tensor, hook: tensor + 5)]
    hooks += [("blocks.1.hook_mlp_out", keep), ("blocks.1.hook_resid_post", keep)]
    reads = [("blocks.1.hook_mlp_out", keep), ("blocks.1.hook_resid_post", keep)]
    written = {}
    for name, chosen in (("clean", reads), ("edited", hooks)):
        cache = {}
        plain.run_with_hooks(fused, TOKENS, fwd_hooks=chosen)
        mlp_out, resid_post = cache.values()
        written[name] = resid_post - mlp_out
    torch.testing.assert_close(written["edited"], written["clean"])
