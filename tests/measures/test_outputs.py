"""Outputs of Hugging Face models, by hook name, are what a hooked model's cache holds."""

import pytest
import torch

from secondary_sinks import load_model
from secondary_sinks.errors import CacheError
from secondary_sinks.measures import cached, from_outputs
from secondary_sinks.testing.families import tiny

TOKENS = torch.randint(3, 97, (1, 30), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["gemma2", "gpt-oss", "gpt2", "llama", "qwen3", "pythia"])
def test_they_equal_the_cache_of_the_hooked_model(name):
    original = tiny(name)
    with torch.no_grad():
        outputs = original(TOKENS, output_attentions=True, output_hidden_states=True)
    _, cache = load_model(original, device="cpu").run_with_cache(TOKENS)
    named = from_outputs(outputs)
    assert len(named) == 3 + 3 + 2, "the last hidden state is normed: no residual"
    for key, value in named.items():
        torch.testing.assert_close(value, cache[key], rtol=1e-4, atol=1e-4, msg=key)
    assert torch.equal(cached.residual_norms(named, 1), outputs.hidden_states[2][0].norm(dim=-1))


def test_either_may_be_absent_and_nothing_is_copied():
    states = tuple(torch.randn(1, 4, 2) for _ in range(4))
    named = from_outputs({"hidden_states": states, "attentions": None})
    assert named["blocks.2.hook_resid_pre"] is states[2]
    assert named["blocks.1.hook_resid_post"] is states[2]
    assert "blocks.2.hook_resid_post" not in named
    with pytest.raises(CacheError, match=r"lacks blocks\.2\.hook_resid_post"):
        cached.residual_norms(named, 2)
    assert list(from_outputs({"attentions": states[:1]})) == ["blocks.0.attn.hook_pattern"]


@pytest.mark.parametrize(
    ("outputs", "match"),
    [
        ({}, "neither attentions nor hidden_states"),
        ({"logits": torch.zeros(2)}, "output_attentions=True"),
        ({"attentions": (None, None)}, "eager"),
        ({"hidden_states": ((torch.zeros(1),),)}, "generate"),
        ((torch.zeros(2),), "got tuple"),
    ],
)
def test_what_holds_no_states_is_refused(outputs, match):
    with pytest.raises(CacheError, match=match):
        from_outputs(outputs)
