"""Attention of chosen queries by head, against the patterns of a plain pass."""

import pytest
import torch

from secondary_sinks import load_model
from secondary_sinks.models.proof.prove import CHECKS
from secondary_sinks.observation import iter_layers
from secondary_sinks.observation.layers import attention_paid_by
from secondary_sinks.testing.families import save
from tests.marks import thinned
from tests.mechanisms import ALTERNATING

TOKENS = torch.randint(3, 24, (40,), generator=torch.Generator().manual_seed(3))
QUERIES = [0, 11, 39]
KEPT = [
    case
    for case in ALTERNATING
    if case[0] in {"qwen2-window", "gemma2", "gpt-oss", "gpt2", "llama"}
]
"""Windows, soft caps, learned sinks, learned positions, grouped queries."""


@pytest.mark.parametrize(("variant", "kind"), thinned(ALTERNATING, KEPT, unpack=True))
def test_it_is_the_pattern_of_a_plain_pass(variant, kind, tmp_path):
    folder = save(variant, tmp_path)
    model = load_model(folder, device="cpu", bridge=kind == "TransformerBridge", skip=CHECKS)
    with torch.no_grad():
        _, cache = model.run_with_cache(TOKENS[None])
    for view in iter_layers(model, TOKENS, denominators=True, chunk=16):
        paid = attention_paid_by(view, QUERIES)
        pattern = cache[f"blocks.{view.layer}.attn.hook_pattern"][0][:, QUERIES]
        torch.testing.assert_close(paid.cpu(), pattern[..., : len(TOKENS)], rtol=0, atol=1e-5)
