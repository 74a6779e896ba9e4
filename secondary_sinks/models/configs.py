"""Hugging Face config -> TransformerLens config, by architecture and never by name.

TransformerLens chooses some configs by the name of the model, which fails for a folder called
"my-llama". Here only the fields of the Hugging Face config are used. The resulting model is
compared with the original when it is loaded (`models.proof`).
"""

from collections.abc import Callable
from typing import Any

from secondary_sinks.errors import UnsupportedModelError

Fields = dict[str, Any]


def architecture_of(hf_model: Any) -> str:
    """Name of the architecture in the config or, if it has none, of the model's class."""
    return str((hf_model.config.architectures or [type(hf_model).__name__])[0])


def check_architecture(architecture: str) -> None:
    """Raise `UnsupportedModelError` if there is no `HookedTransformer` for an architecture."""
    if architecture not in ARCHITECTURES:
        raise UnsupportedModelError(
            f"architecture {architecture!r} is not supported",
            f"expected one of {', '.join(sorted(ARCHITECTURES))}",
        )


def hooked_fields(hf_config: Any, architecture: str) -> Fields:
    """Keyword arguments of `HookedTransformerConfig` for a Hugging Face config.

    Raises `UnsupportedModelError` for architectures that are not in `ARCHITECTURES`.
    """
    check_architecture(architecture)
    common = {
        "original_architecture": architecture,
        "d_vocab": hf_config.vocab_size,
        "init_weights": False,
        "default_prepend_bos": False,
    }
    return common | ARCHITECTURES[architecture](hf_config)


def _rope(hf_config: Any) -> Fields:
    """The rope of a config; empty if it has none."""
    return getattr(hf_config, "rope_parameters", None) or {}


def rope_type(hf_config: Any) -> str:
    """Name of the rope type; "default" if the config has none."""
    return str(_rope(hf_config).get("rope_type", "default"))


def context_length(hf_config: Any) -> int:
    """Largest number of tokens of a text: long ropes are exact only up to their original length."""
    n_ctx = int(getattr(hf_config, "max_position_embeddings", None) or 0)
    if n_ctx < 1:
        raise UnsupportedModelError(
            f"the config does not say how long a text may be (max_position_embeddings: {n_ctx})"
        )
    original = _rope(hf_config).get("original_max_position_embeddings")
    original = original or getattr(hf_config, "original_max_position_embeddings", None)
    return min(n_ctx, int(original or n_ctx)) if rope_type(hf_config) == "longrope" else n_ctx


def _decoder(hf: Any) -> Fields:
    """Fields of all Llama-like decoders: RMS norm, rotary positions, gated MLP."""
    d_head = getattr(hf, "head_dim", None) or hf.hidden_size // hf.num_attention_heads
    grouped = hf.num_key_value_heads != hf.num_attention_heads
    return {
        "d_model": hf.hidden_size,
        "d_head": d_head,
        "n_heads": hf.num_attention_heads,
        "n_key_value_heads": hf.num_key_value_heads if grouped else None,
        "d_mlp": hf.intermediate_size,
        "n_layers": hf.num_hidden_layers,
        "n_ctx": context_length(hf),
        "eps": hf.rms_norm_eps,
        "act_fn": getattr(hf, "hidden_act", None),
        "normalization_type": "RMS",
        "final_rms": True,
        "gated_mlp": True,
        "positional_embedding_type": "rotary",
        "rotary_adjacent_pairs": False,
        "rotary_dim": d_head,
        **_windows(hf),
    }


def _windows(hf: Any) -> Fields:
    """Sliding windows, in the layers that the config names or in all."""
    window = getattr(hf, "sliding_window", None)
    if not window or not getattr(hf, "use_sliding_window", True):
        return {}
    kinds = getattr(hf, "layer_types", None) or ["sliding_attention"] * hf.num_hidden_layers
    types = ["local" if kind == "sliding_attention" else "global" for kind in kinds]
    if "local" not in types:
        return {}
    return {"window_size": window, "use_local_attn": True, "attn_types": types}


def _qwen2(hf: Any) -> Fields:
    # TransformerLens' weight converter for Qwen2 expects grouped keys even where every
    # head has its own.
    return _decoder(hf) | {"n_key_value_heads": hf.num_key_value_heads}


def _qwen3(hf: Any) -> Fields:
    return _decoder(hf) | {"use_qk_norm": True}


def _qwen3_moe(hf: Any) -> Fields:
    if hf.mlp_only_layers or hf.decoder_sparse_step != 1:
        raise UnsupportedModelError(
            "a HookedTransformer has experts in all layers or in no layer; this model has experts "
            "in some layers",
            "load it as a bridge",
        )
    return _qwen3(hf) | {
        "n_key_value_heads": hf.num_key_value_heads,
        "d_mlp": hf.moe_intermediate_size,
        "num_experts": hf.num_experts,
        "experts_per_token": hf.num_experts_per_tok,
        "norm_topk_prob": hf.norm_topk_prob,
    }


def unrotated_layers(hf_config: Any) -> list[int]:
    """Layers without position embeddings (NoPE), as in SmolLM3; empty for most models."""
    rotated = getattr(hf_config, "no_rope_layers", None) or []  # 1 where there is a rope
    return [layer for layer, has_rope in enumerate(rotated) if not has_rope]


def _partial_rotary(hf: Any) -> Fields:
    fields = _decoder(hf)
    share = _rope(hf).get("partial_rotary_factor") or getattr(hf, "partial_rotary_factor", 1.0)
    return fields | {"rotary_dim": int(fields["d_head"] * share)}


def _gemma2(hf: Any) -> Fields:
    return _gemma(hf) | {
        "attn_scores_soft_cap": hf.attn_logit_softcapping or -1.0,
        "output_logits_soft_cap": hf.final_logit_softcapping or -1.0,
    }


def _gemma3(hf: Any) -> Fields:
    return _gemma(hf) | {"use_qk_norm": True}


def _gemma(hf: Any) -> Fields:
    """Norms before and after each sublayer; the scale of the scores is in the config."""
    return _decoder(hf) | {
        "n_key_value_heads": hf.num_key_value_heads,
        "act_fn": hf.hidden_activation,
        "attn_scale": hf.query_pre_attn_scalar**0.5,
        "use_normalization_before_and_after": True,
    }


def _gpt_oss(hf: Any) -> Fields:
    """Experts, and a learned sink per head that takes part in the softmax."""
    return _decoder(hf) | {
        "n_key_value_heads": hf.num_key_value_heads,
        "num_experts": hf.num_local_experts,
        "experts_per_token": hf.num_experts_per_tok,
        "use_attention_sinks": True,
    }


def _gpt2(hf: Any) -> Fields:
    return {
        "d_model": hf.n_embd,
        "d_head": hf.n_embd // hf.n_head,
        "n_heads": hf.n_head,
        "d_mlp": hf.n_inner or 4 * hf.n_embd,
        "n_layers": hf.n_layer,
        "n_ctx": hf.n_positions,
        "eps": hf.layer_norm_epsilon,
        "act_fn": hf.activation_function,
        "use_attn_scale": hf.scale_attn_weights,
        "scale_attn_by_inverse_layer_idx": hf.scale_attn_by_inverse_layer_idx,
        "normalization_type": "LN",
    }


def _gpt_neox(hf: Any) -> Fields:
    d_head = hf.hidden_size // hf.num_attention_heads
    share = _rope(hf).get("partial_rotary_factor") or getattr(hf, "rotary_pct", 1.0)
    return {
        "d_model": hf.hidden_size,
        "d_head": d_head,
        "n_heads": hf.num_attention_heads,
        "d_mlp": hf.intermediate_size,
        "n_layers": hf.num_hidden_layers,
        "n_ctx": hf.max_position_embeddings,
        "eps": hf.layer_norm_eps,
        "act_fn": hf.hidden_act,
        "normalization_type": "LN",
        "parallel_attn_mlp": hf.use_parallel_residual,
        "positional_embedding_type": "rotary",
        "rotary_adjacent_pairs": False,
        "rotary_dim": int(d_head * share),
    }


ARCHITECTURES: dict[str, Callable[[Any], Fields]] = {
    "LlamaForCausalLM": _decoder,
    "MistralForCausalLM": _decoder,
    "Qwen2ForCausalLM": _qwen2,
    "Qwen3ForCausalLM": _qwen3,
    "Qwen3MoeForCausalLM": _qwen3_moe,
    "SmolLM3ForCausalLM": _decoder,
    "Phi3ForCausalLM": _partial_rotary,
    "Olmo2ForCausalLM": _decoder,
    "Gemma2ForCausalLM": _gemma2,
    "Gemma3ForCausalLM": _gemma3,
    "GptOssForCausalLM": _gpt_oss,
    "GPT2LMHeadModel": _gpt2,
    "GPTNeoXForCausalLM": _gpt_neox,
}

SAME_LAYOUT = {
    "Qwen3MoeForCausalLM": "OlmoeForCausalLM",
    "SmolLM3ForCausalLM": "LlamaForCausalLM",
}
"""Architecture -> one whose weights have the same names and shapes, which TransformerLens reads."""
