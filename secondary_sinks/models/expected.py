"""What an original computes on a probe text, kept so that the original itself need not be."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.models.configs import context_length
from secondary_sinks.models.hf_layers import decoder_layers, visible_keys

PROBE_LENGTH = 48
LONGEST_WINDOW = 1024
"""A window up to this long is walked past by the probe; of a longer one the mask is compared."""

States = dict[str, Float[Tensor, "pos _"]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Expected:
    """Probe, states and masks of an original."""

    probe: Int[Tensor, "1 pos"]
    states: States
    """`resid_post` of every layer but the last, and the logits, by hook name."""
    far: int
    """A position past every sliding window, or the last one that the model can see."""
    visible: tuple[int, ...]
    """How many keys a query at `far` sees, by layer."""


def expect(hf_model: Any) -> Expected:
    """Run the original on a probe that walks past its sliding window, if that is not too long."""
    n_ctx = context_length(hf_model.config)
    window = int(getattr(hf_model.config, "sliding_window", None) or 0)
    length = PROBE_LENGTH + (window if window <= LONGEST_WINDOW else 0)
    probe = probe_tokens(hf_model.config.vocab_size, min(length, n_ctx))
    far = min(window + PROBE_LENGTH, n_ctx) - 1
    with _as_measured(hf_model):
        states = original_states(hf_model, probe)
        visible = visible_keys(hf_model.base_model, decoder_layers(hf_model), far)
    return Expected(probe=probe, states=states, far=far, visible=tuple(visible))


@contextmanager
def _as_measured(hf_model: Any) -> Iterator[None]:
    """Within, the model is as ours will be: eager attention, no dropout."""
    implementation, training = hf_model.config._attn_implementation, hf_model.training
    hf_model.set_attn_implementation("eager")
    hf_model.eval()
    try:
        yield
    finally:
        hf_model.set_attn_implementation(implementation)
        hf_model.train(training)


def probe_tokens(d_vocab: int, length: int) -> Int[Tensor, "1 pos"]:
    """Token ids spread over the vocabulary, always the same."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(d_vocab, (1, length), generator=generator)


def original_states(hf_model: Any, tokens: Int[Tensor, "1 pos"]) -> States:
    """Residuals and logits of a Hugging Face model, whose last hidden state is normed already.

    The residual of the last layer is therefore left to the logits, which depend on it alone.
    """
    with torch.no_grad():
        out = hf_model(tokens.to(hf_model.device), output_hidden_states=True)
    inner = out.hidden_states[1:-1]
    names = [f"blocks.{layer}.hook_resid_post" for layer in range(len(inner))]
    return {name: state[0].float().cpu() for name, state in zip(names, inner, strict=True)} | {
        "logits": out.logits[0].float().cpu()
    }
