"""What each query pays to the primary, and raw and used keys, against the plain model."""

import pytest
import torch

from secondary_sinks import Edit, detect, load_model, observe, recompute
from secondary_sinks.testing import Plant, plant
from secondary_sinks.testing.families import tiny
from tests.marks import needs_old, thinned

TOKENS = torch.randint(3, 97, (30,), generator=torch.Generator().manual_seed(1))
FAMILIES = ["gemma2", "gpt-oss", "gpt2", "llama", "mistral-window", "phi3", "pythia", "qwen3"]
KINDS = [pytest.param("hooked", marks=needs_old), "bridge"]
NORMED = ("qwen3", "qwen3-mha", "gemma3", "olmo2")


def plain_attention(original, tokens):
    """Patterns of the Hugging Face model, mean over heads [layer, query, key]."""
    with torch.no_grad():
        patterns = original(tokens[None], output_attentions=True).attentions
    return torch.stack([pattern[0].mean(0) for pattern in patterns])


def expected_paid(pattern, reference):
    """Column of the token that is the reference of the layer before; NaN where it gets nothing."""
    read = [int(reference[max(layer - 1, 0)]) for layer in range(len(pattern))]
    columns = torch.stack([pattern[layer, :, pos] for layer, pos in enumerate(read)])
    return columns.where(columns > 0, torch.nan)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", thinned(FAMILIES, ["gemma2", "gpt-oss", "qwen3"]))
def test_what_queries_pay_to_the_primary_is_that_of_plain_patterns(name, kind):
    """Grouped queries, windows, soft-caps and learned sinks; chunk by chunk and at once."""
    original = tiny(name)
    model = load_model(tiny(name), device="cpu", bridge=kind == "bridge")
    for chunk in (7, None):
        trace = observe(model, TOKENS, chunk=chunk)
        expected = expected_paid(plain_attention(original, TOKENS), trace.reference)
        torch.testing.assert_close(
            trace.paid_to_primary, expected, rtol=1e-4, atol=1e-5, equal_nan=True
        )


@needs_old
def test_the_slow_path_says_the_same():
    """A method of attention that was replaced makes the pass read whole patterns."""
    planted = plant([Plant(pos=0, forming=(1,), strength=400.0), Plant(pos=20, forming=(3,))])
    fast = observe(planted.model, planted.tokens)
    for block in planted.model.blocks:
        block.attn.apply_causal_mask = block.attn.apply_causal_mask
    slow = observe(planted.model, planted.tokens)
    torch.testing.assert_close(slow.paid_to_primary, fast.paid_to_primary, rtol=1e-5, atol=1e-6)


@needs_old
def test_where_tokens_take_turns_it_is_the_one_that_the_block_reads():
    """Position 0 is the primary of states 1 to 3, position 12 of states 5 to 7."""
    first = Plant(pos=0, forming=(1,), dies=4, strength=400.0)
    planted = plant([first, Plant(pos=12, forming=(5,), strength=400.0)])
    trace = observe(planted.model, planted.tokens, chunk=9)
    _, cache = planted.model.run_with_cache(planted.tokens[None])
    pattern = torch.stack(
        [cache[f"blocks.{layer}.attn.hook_pattern"][0].mean(0) for layer in range(8)]
    )
    expected = expected_paid(pattern, trace.reference)
    torch.testing.assert_close(trace.paid_to_primary, expected, equal_nan=True)
    assert trace.paid_to_primary[6, :12].isnan().all()
    assert float(trace.paid_to_primary[6, 12:].min()) > 0.5
    assert [sink.pos for sink in detect(trace).of_kind("primary").sinks] == [0, 12]


@needs_old
def test_its_mean_over_queries_is_the_mass_of_the_primary():
    planted = plant([Plant(pos=0, forming=(1,), strength=400.0), Plant(pos=20, forming=(3,))])
    trace = observe(planted.model, planted.tokens)
    torch.testing.assert_close(trace.paid_to_primary.mean(1), trace.mass[:, 0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", thinned([*NORMED, "gpt2", "phi3", "pythia"], ["qwen3", "olmo2"]))
def test_raw_keys_are_the_output_of_k_proj(name, kind):
    original = tiny(name)
    trace = observe(load_model(tiny(name), device="cpu", bridge=kind == "bridge"), TOKENS)
    expected = torch.stack(raw_key_norms(original, TOKENS))
    torch.testing.assert_close(trace.key_norm_raw, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "equal"), [("qwen3", False), ("llama", True), ("qwen2", True)])
def test_raw_and_used_keys_are_equal_only_without_a_norm_on_keys(name, equal):
    """A rotation keeps lengths; the norm of Qwen3 makes all used keys about equally long."""
    trace = observe(load_model(tiny(name), device="cpu"), TOKENS)
    if equal:
        torch.testing.assert_close(trace.key_norm_raw, trace.key_norm, rtol=1e-4, atol=1e-4)
        return
    raw, used = (values.std(1) / values.mean(1) for values in (trace.key_norm_raw, trace.key_norm))
    assert (used < raw).all()
    assert float((trace.key_norm_raw / trace.key_norm - 1).abs().max()) > 0.1


def raw_key_norms(original, tokens):
    """Mean length over KV heads of what the key weights give, by hooks on the plain model."""
    seen, handles = [], []
    for name, module in original.named_modules():
        if name.endswith(("k_proj", "qkv_proj", "c_attn", "query_key_value")):
            handles.append(module.register_forward_hook(lambda m, i, out: seen.append(out[0])))
    with torch.no_grad():
        original(tokens[None])
    for handle in handles:
        handle.remove()
    return [split_keys(out, original.config).norm(dim=-1).mean(-1) for out in seen]


def split_keys(out, config):
    """Keys `[pos, kv_head, d_head]` out of what a projection gives."""
    heads = config.num_attention_heads
    groups = getattr(config, "num_key_value_heads", None) or heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    if out.shape[-1] == groups * width:
        return out.unflatten(-1, (groups, width))
    if config.model_type == "gpt_neox":  # query, key, value of each head in turn
        return out.unflatten(-1, (heads, 3, width))[:, :, 1]
    return out[:, heads * width : (heads + groups) * width].unflatten(-1, (groups, width))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["gpt-oss", "qwen3"])
def test_what_queries_pay_after_an_edit_is_that_of_a_whole_run_with_a_hook(name, kind):
    """With windows and learned sinks; queries before the edit and a cell that changes nothing."""
    model = load_model(tiny(name), device="cpu", bridge=kind == "bridge")
    trace = observe(model, TOKENS)
    edits = [Edit(pos=12, layer=0), Edit(pos=12, layer=0, kind="scale", value=1.0)]
    paid = recompute(model, trace, edits, loss=False, by_query=True).paid_to_primary
    assert torch.equal(paid[:, 1].nan_to_num(-1), trace.paid_to_primary.nan_to_num(-1))
    patterns = {}

    def zero(mlp_out, hook):
        edited = mlp_out.clone().reshape(1, len(TOKENS), -1)  # experts drop an axis
        edited[:, 12] = 0
        return edited.reshape(mlp_out.shape)

    hooks = [("blocks.0.hook_mlp_out", zero)]
    for layer in range(3):
        keep = lambda pattern, hook, layer=layer: patterns.update({layer: pattern[0].mean(0)})  # noqa: E731
        hooks.append((f"blocks.{layer}.attn.hook_pattern", keep))
    with torch.no_grad(), model.hooks(fwd_hooks=hooks):
        model(TOKENS[None])
    expected = expected_paid(torch.stack([patterns[layer] for layer in range(3)]), trace.reference)
    torch.testing.assert_close(paid[:, 0], expected, rtol=1e-4, atol=1e-5, equal_nan=True)
    moved = (paid[:, 0] - trace.paid_to_primary).abs().nan_to_num(0)
    assert float(moved[:, :12].max()) < 1e-5 < 1e-4 < float(moved[:, 13:].max())
