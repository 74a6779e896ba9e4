"""Wrap a Hugging Face model in a `TransformerBridge` that raises errors for silent mistakes."""

import copy
from typing import Any

from transformer_lens.model_bridge.sources import build_bridge_from_module

from secondary_sinks.errors import UnsupportedModelError, reason
from secondary_sinks.models.configs import architecture_of, context_length
from secondary_sinks.models.loud import make_loud
from secondary_sinks.models.original.tokenizer import attach_tokenizer


def to_bridge(hf_model: Any, tokenizer: Any, name: str) -> Any:
    """A `TransformerBridge` around `hf_model`, which becomes part of it and stays on its devices.

    Weights are neither converted nor copied. Raises `UnsupportedModelError` if TransformerLens has
    no bridge for the architecture.
    """
    hf_model.eval().set_attn_implementation("eager")  # other implementations compute no pattern
    architecture = architecture_of(hf_model)
    config = copy.deepcopy(hf_model.config)
    if not hasattr(config, "pad_token_id"):
        config.pad_token_id = None
    try:
        bridge = build_bridge_from_module(
            hf_model, architecture, hf_config=config, model_name=name, tokenizer=None
        )
    except (ValueError, KeyError) as error:
        raise UnsupportedModelError(
            f"TransformerLens has no bridge for architecture {architecture!r}: {reason(error)}"
        ) from error
    bridge.cfg.n_ctx = context_length(hf_model.config)
    attach_tokenizer(bridge, tokenizer)
    return make_loud(bridge)
