"""Attention of replayed tokens by the processor's kernel, and by a softmax of all scores."""

import pytest
import torch

from secondary_sinks import load_model, observe, replay
from secondary_sinks.layerwise import replayed_attention
from secondary_sinks.layerwise.hooked_run import normed_once
from secondary_sinks.layerwise.replayed_attention import attend_replayed
from secondary_sinks.testing.families import tiny
from secondary_sinks.types import Edit
from tests.marks import needs_old

N_POS, N_HEADS, N_GROUPS, D_HEAD = 40, 6, 2, 8


def plainly(queries, own, clean, positions, *, scale, learned_sinks, window):
    """One token after the other, one head after the other."""
    z, itself = torch.zeros(len(queries), N_HEADS, D_HEAD), torch.zeros(len(queries), N_HEADS)
    for cell, pos in enumerate(positions.tolist()):
        first = 0 if window is None else max(0, pos - window + 1)
        for head in range(N_HEADS):
            group = head // (N_HEADS // N_GROUPS)
            keys = torch.cat([clean[0][first:pos, group], own[0][[cell], group]])
            values = torch.cat([clean[1][first:pos, group], own[1][[cell], group]])
            scores = keys @ queries[cell, head] * scale
            extra = [] if learned_sinks is None else [learned_sinks[head : head + 1]]
            shares = torch.cat([scores, *extra]).softmax(0)[: len(keys)]
            z[cell, head], itself[cell, head] = shares @ values, shares[-1]
    return z, itself


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("sinks", [False, True])
@pytest.mark.parametrize("most", [1 << 21, N_HEADS * N_POS * 3])
@pytest.mark.parametrize("n_distinct", [1, 3, 20])
def test_every_token_sees_the_clean_keys_before_it_and_itself(
    window, sinks, most, n_distinct, monkeypatch
):
    monkeypatch.setattr(replayed_attention, "SCORES", most)
    chance = torch.Generator().manual_seed(n_distinct)
    places = torch.randperm(N_POS, generator=chance)[:n_distinct]
    positions = places[torch.randint(n_distinct, (30,), generator=chance)]

    def drawn(*shape):
        return torch.randn(*shape, generator=chance)

    own = drawn(30, N_GROUPS, D_HEAD), drawn(30, N_GROUPS, D_HEAD)
    clean = drawn(N_POS, N_GROUPS, D_HEAD), drawn(N_POS, N_GROUPS, D_HEAD)
    limits = {"scale": 0.3, "window": window}
    limits["learned_sinks"] = drawn(N_HEADS) if sinks else None
    queries = drawn(30, N_HEADS, D_HEAD)
    found = attend_replayed(queries, own, clean, positions, soft_cap=None, **limits)
    for ours, plain in zip(found, plainly(queries, own, clean, positions, **limits), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pos", [0, 9])
def test_the_first_token_has_no_clean_key_before_it(pos):
    chance = torch.Generator().manual_seed(pos)
    own = [torch.randn(9, N_GROUPS, D_HEAD, generator=chance) for _ in range(2)]
    clean = [torch.randn(N_POS, N_GROUPS, D_HEAD, generator=chance) for _ in range(2)]
    queries = torch.randn(9, N_HEADS, D_HEAD, generator=chance)
    limits = {"scale": 1.0, "soft_cap": None, "learned_sinks": None, "window": None}
    where = torch.full((9,), pos)
    _, itself = attend_replayed(queries, tuple(own), tuple(clean), where, **limits)
    assert ((itself == 1).all()) == (pos == 0)


@needs_old
def test_the_norm_before_attention_is_computed_once_per_input():
    model = load_model(tiny("llama"), device="cpu", bridge=False)
    norm, calls = model.blocks[1].ln1, []
    norm.register_forward_hook(lambda *_: calls.append(1))
    tokens = torch.arange(3, 40)
    clean = model.run_with_cache(tokens[None])[1]["blocks.1.hook_resid_post"][0]
    counted, forward = len(calls), norm.forward
    with normed_once(model.blocks[1]):
        residual = torch.randn(1, 4, model.cfg.d_model)
        assert norm(residual) is norm(residual)
        assert not torch.equal(norm(residual + 1), norm(residual))
    assert (counted, norm.forward) == (3, forward)
    trace = observe(model, tokens)
    torch.testing.assert_close(trace.norm[1], clean.norm(dim=-1), rtol=1e-5, atol=1e-5)


@needs_old
def test_a_hook_inside_the_norm_may_change_queries_alone():
    """It fires for queries, keys and values in turn, as in TransformerLens' own pass."""
    model = load_model(tiny("llama"), device="cpu", bridge=False)
    seen = []
    with normed_once(model.blocks[0]):
        model.run_with_hooks(
            torch.arange(3, 9)[None],
            fwd_hooks=[("blocks.0.ln1.hook_normalized", lambda x, hook: seen.append(1))],
        )
    assert len(seen) == 1, "the context was entered before the hook"
    model.blocks[0].ln1.hook_normalized.add_hook(lambda x, hook: seen.append(1))
    with normed_once(model.blocks[0]):
        model(torch.arange(3, 9)[None])
    assert len(seen) == 4


def test_cells_of_one_result_do_not_depend_on_their_order():
    model = load_model(tiny("llama"), device="cpu")
    trace = observe(model, torch.arange(3, 40))
    edits = [Edit(pos=pos, layer=layer) for pos in (30, 5, 17) for layer in (1, 0)]
    ordered, mixed = replay(model, trace, edits), replay(model, trace, edits[::-1])
    for name in ("norm", "mass"):
        torch.testing.assert_close(getattr(ordered, name), getattr(mixed, name).flip(1))
