"""Proof at load: the hooked model computes what its Hugging Face original computes."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.errors import ModelMismatchError

# Relative error that separates rounding from a wrong model: rounding of the dtype times the
# square root of a few thousand additions, with room for depth. A wrong rope errs by order 1.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-8, torch.bfloat16: 8e-2, torch.float16: 1e-2}
PROBE_LENGTH = 48
LONGEST_WINDOW = 1024
"""A window up to this long is walked past by the probe; a longer one would cost too much."""


def prove_equal(hooked: Any, hf_model: Any) -> dict[str, float]:
    """Largest relative error of logits and residuals on a probe text, by name.

    Raises `ModelMismatchError` that names the first layer which disagrees. The relative error
    of a tensor is max|a - b| / max|b| per position, the largest over positions, so that one
    massive token cannot hide errors in the others.
    """
    probe = probe_tokens(hf_model)
    ours, theirs = hooked_states(hooked, probe), original_states(hf_model, probe)
    errors = {name: relative_error(ours[name], theirs[name]) for name in theirs}
    tolerance = TOLERANCE[hf_model.dtype]
    for name, error in errors.items():
        if not error <= tolerance:
            raise ModelMismatchError(
                f"the hooked model disagrees with its original first at {name}: relative error "
                f"{error:.2g}, expected at most {tolerance:.0e}; this model cannot be trusted "
                "here (load_model(..., verify=False) loads it all the same)"
            )
    return errors


def probe_tokens(hf_model: Any) -> Int[Tensor, "1 pos"]:
    """Token ids spread over the vocabulary, always the same; longer than a sliding window."""
    generator = torch.Generator().manual_seed(0)
    window = getattr(hf_model.config, "sliding_window", None) or 0
    beyond = window + PROBE_LENGTH if window <= LONGEST_WINDOW else PROBE_LENGTH
    length = min(beyond, int(getattr(hf_model.config, "max_position_embeddings", beyond)))
    return torch.randint(hf_model.config.vocab_size, (1, length), generator=generator)


def hooked_states(hooked: Any, tokens: Int[Tensor, "1 pos"]) -> dict[str, Float[Tensor, "pos _"]]:
    """`resid_post` of every layer and the logits of the hooked model, by name."""
    with torch.no_grad():
        logits, cache = hooked.run_with_cache(
            tokens.to(hooked.cfg.device), names_filter=lambda name: name.endswith("resid_post")
        )
    names = [f"blocks.{layer}.hook_resid_post" for layer in range(hooked.cfg.n_layers)]
    return {name: cache[name][0].float().cpu() for name in names} | {
        "logits": logits[0].float().cpu()
    }


def original_states(
    hf_model: Any, tokens: Int[Tensor, "1 pos"]
) -> dict[str, Float[Tensor, "pos _"]]:
    """The same from the Hugging Face model, whose last hidden state is after the final norm.

    The residual of the last layer is therefore left to the logits, which depend on it alone.
    """
    with torch.no_grad():
        out = hf_model(tokens.to(hf_model.device), output_hidden_states=True)
    inner = out.hidden_states[1:-1]
    names = [f"blocks.{layer}.hook_resid_post" for layer in range(len(inner))]
    return {name: state[0].float().cpu() for name, state in zip(names, inner, strict=True)} | {
        "logits": out.logits[0].float().cpu()
    }


def relative_error(ours: Float[Tensor, "pos d"], theirs: Float[Tensor, "pos d"]) -> float:
    """Largest over positions of max|ours - theirs| / max|theirs|."""
    gap = (ours - theirs).abs().amax(-1)
    return float((gap / theirs.abs().amax(-1)).max())
