"""What `observe` measures, what it refuses, and what it leaves alone."""

import inspect
from typing import Any, NamedTuple

import pytest
import torch

from secondary_sinks import load_model, observe
from secondary_sinks.errors import HookError, ModelError, TextError, UnsupportedModelError
from secondary_sinks.observation import iter_layers
from secondary_sinks.observation.tokens import token_ids
from secondary_sinks.testing.families import save, tiny
from secondary_sinks.testing.planted import Plant, plant
from secondary_sinks.types import LAYER_POS
from tests.marks import needs_old


class Fed(NamedTuple):
    """A model and what it is fed."""

    model: Any
    tokens: torch.Tensor


@pytest.fixture(scope="module", params=[pytest.param("planted", marks=needs_old), "bridge"])
def fed(request):
    """A planted model, which is a HookedTransformer, and a bridge of random weights."""
    if request.param == "bridge":
        return Fed(load_model(tiny("llama"), device="cpu", bridge=True), torch.arange(3, 67))
    planted = plant([Plant(pos=0, forming=(1,), strength=400.0), Plant(pos=20, forming=(3,))])
    return Fed(planted.model, planted.tokens)


@pytest.mark.parametrize(
    ("tokens", "match"),
    [
        (torch.tensor([], dtype=torch.long), "0 token"),
        ([], "the text has 0 tokens"),
        (torch.tensor([3]), "1 token"),
        (torch.zeros(2, 5, dtype=torch.long), r"\[pos\]"),
        (torch.rand(5), "float32"),
        (torch.tensor([1, -2]), "outside the vocabulary"),
        ("a text", "token ids"),
    ],
)
def test_bad_tokens_are_refused_before_any_forward_pass(fed, tokens, match):
    with pytest.raises(TextError, match=match):
        observe(fed.model, tokens)


def test_tokens_beyond_the_vocabulary_or_the_context_are_refused(fed):
    cfg = fed.model.cfg
    with pytest.raises(TextError, match=f"vocabulary of {cfg.d_vocab}"):
        observe(fed.model, [1, 2, cfg.d_vocab])
    with pytest.raises(TextError, match=f"{cfg.n_ctx + 1} tokens.*at most {cfg.n_ctx}"):
        observe(fed.model, torch.zeros(cfg.n_ctx + 1, dtype=torch.long))


def test_tokens_may_be_a_list_or_have_a_batch_axis(fed):
    one = observe(fed.model, fed.tokens.tolist())
    other = observe(fed.model, fed.tokens[None])
    assert torch.equal(one.norm, other.norm)
    assert torch.equal(one.tokens, fed.tokens)


@needs_old
def test_nan_activations_are_said_with_their_layer():
    planted = plant([])
    with torch.no_grad():
        planted.model.blocks[2].mlp.b_out[0] = torch.nan
    with pytest.raises(ModelError, match="layer 2"):
        observe(planted.model, planted.tokens)


def test_masses_of_all_keys_add_up_to_one_per_query(fed):
    trace = observe(fed.model, fed.tokens)
    received = (trace.mass * trace.queries).sum(1)
    torch.testing.assert_close(received, torch.full_like(received, len(trace.tokens)))
    assert float(trace.virtual_mass.abs().max()) < 1e-5


def test_a_hook_left_on_the_model_is_refused(fed):
    hook = ("blocks.2.hook_mlp_out", lambda mlp_out, hook: mlp_out)
    with (
        fed.model.hooks(fwd_hooks=[hook]),
        pytest.raises(ModelError, match=r"blocks\.2\.(hook_mlp_out|mlp\.hook_out).*reset_hooks"),
    ):
        observe(fed.model, fed.tokens)


def test_hooks_that_change_activations_give_the_trace_of_the_changed_run(fed):
    """At the right positions, whichever class runs the model; and nothing is left behind."""

    def silence(mlp_out, hook):
        changed = mlp_out.clone()
        changed[:, 20] = 0.0
        return changed

    hooks = [("blocks.1.hook_mlp_out", silence)]
    trace = observe(fed.model, fed.tokens, hooks=hooks)
    with fed.model.hooks(fwd_hooks=hooks):
        _, cache = fed.model.run_with_cache(fed.tokens[None])
    last = fed.model.cfg.n_layers - 1
    expected = cache[f"blocks.{last}.hook_resid_post"][0].norm(dim=-1)
    torch.testing.assert_close(trace.norm[last], expected, rtol=1e-5, atol=1e-5)
    pattern = cache[f"blocks.{last}.attn.hook_pattern"][0]
    received = pattern.mean(0).sum(0) / trace.queries[last]
    torch.testing.assert_close(trace.mass[last], received, rtol=1e-4, atol=1e-6)
    assert trace.mlp_norm[1, 20] == 0.0 < trace.mlp_norm[1, 21]
    assert not torch.equal(trace.norm, observe(fed.model, fed.tokens).norm)


@pytest.mark.parametrize("name", ["blocks.99.hook_mlp_out", "blocks.1.hook_mlp", "hook_embed"])
def test_a_hook_that_would_never_fire_is_refused(fed, name):
    with pytest.raises(HookError, match=f"{name}.*hook_mlp_out"):
        observe(fed.model, fed.tokens, hooks=[(name, lambda tensor, hook: tensor)])


def test_hooks_and_chunks_exclude_each_other(fed):
    hook = ("blocks.1.hook_mlp_out", lambda tensor, hook: tensor)
    with pytest.raises(ValueError, match="chunk"):
        observe(fed.model, fed.tokens, chunk=8, hooks=[hook])


@needs_old
@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"attention_dir": "bidirectional"}, UnsupportedModelError),
        ({"attn_only": True}, UnsupportedModelError),
        ({"positional_embedding_type": "shortformer"}, UnsupportedModelError),
        ({"dtype": torch.bfloat16}, ModelError),
    ],
)
def test_a_model_that_would_be_measured_wrongly_is_refused(change, error):
    planted = plant([])
    for name, value in change.items():
        setattr(planted.model.cfg, name, value)
    with pytest.raises(error):
        observe(planted.model, planted.tokens)


def test_the_model_is_left_as_it_was(fed):
    before = fed.model(fed.tokens[None])
    observe(fed.model, fed.tokens)
    assert torch.equal(fed.model(fed.tokens[None]), before)
    assert not any(hook.fwd_hooks for hook in fed.model.hook_dict.values())


def test_a_walk_gives_the_residuals_of_one_plain_pass(fed):
    _, cache = fed.model.run_with_cache(fed.tokens[None])
    for view in iter_layers(fed.model, fed.tokens, chunk=10):
        expected = cache[f"blocks.{view.layer}.hook_resid_post"][0]
        torch.testing.assert_close(view.resid_post, expected, rtol=1e-5, atol=1e-5)
        mlp_out = cache[f"blocks.{view.layer}.hook_mlp_out"][0]
        torch.testing.assert_close(view.mlp_out, mlp_out, rtol=1e-5, atol=1e-5)


@needs_old
def test_alignment_is_missing_only_where_the_primary_did_not_stand_out_yet():
    late = plant([Plant(pos=9, forming=(2,), strength=400.0)])
    trace = observe(late.model, late.tokens)
    assert trace.primary == 9
    assert trace.alignment[:2].isnan().all()
    assert trace.alignment[2:].isfinite().all()


def test_the_frame_is_tidy(fed):
    trace = observe(fed.model, fed.tokens, text_id="t")
    frame = trace.to_frame()
    assert len(frame) == trace.norm.numel()
    assert list(frame.columns) == ["text_id", "layer", "pos", "token_id", "token", *LAYER_POS]
    row = frame[(frame["layer"] == 2) & (frame["pos"] == 20)].iloc[0]
    for name in LAYER_POS:
        assert row[name] == pytest.approx(float(getattr(trace, name)[2, 20]))


def test_attention_to_a_learned_sink_is_virtual_mass(tmp_path):
    model = load_model(save("gpt-oss", tmp_path), device="cpu")
    tokens = torch.arange(3, 40)
    trace = observe(model, tokens)
    _, cache = model.run_with_cache(tokens[None])
    for layer in range(3):
        missing = 1 - cache[f"blocks.{layer}.attn.hook_pattern"][0].sum(-1).mean()
        assert float(missing) > 0.01
        assert float(trace.virtual_mass[layer]) == pytest.approx(float(missing), rel=1e-4)


@pytest.mark.parametrize("name", ["gemma2", "gpt2", "llama-wide-heads", "mistral-window", "qwen3"])
def test_the_score_of_a_key_is_the_mean_of_what_the_softmax_gets(tmp_path, name):
    model = load_model(save(name, tmp_path), device="cpu")
    tokens = torch.arange(3, 40)
    trace = observe(model, tokens, chunk=16)
    _, cache = model.run_with_cache(tokens[None])
    cap = model.cfg.attn_scores_soft_cap
    for layer in range(3):
        scores = cache[f"blocks.{layer}.attn.hook_attn_scores"][0]
        visible = scores[0] > -1e5
        if cap > 0:
            scores = cap * (scores / cap).double().atanh().float()
        expected = scores.mean(0).where(visible, 0).sum(0) / visible.sum(0)
        torch.testing.assert_close(trace.score[layer], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.int16])
def test_ids_of_any_integer_dtype_are_taken(dtype):
    ids = torch.tensor([1, 2, 3], dtype=dtype)  # as files of token ids hold them
    assert token_ids(ids).tolist() == [1, 2, 3]


MASK = [True, False] * 10


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (MASK, "True and False"),
        (torch.tensor(MASK), "True and False"),
        ([5, True, 7], "True and False"),
        (torch.ones(20, dtype=torch.complex64), "complex64"),
        (torch.ones(20, dtype=torch.int64).to_sparse(), "sparse"),
    ],
)
@needs_old
def test_a_mask_and_what_else_holds_no_ids_is_refused(given, match):
    planted = plant([Plant(pos=0, forming=(1,), strength=400.0)])
    with pytest.raises(TextError, match=rf"expected token ids .*{match}"):
        inspect.unwrap(observe)(planted.model, given)
