"""Convert a Hugging Face model to a `HookedTransformer`, with unprocessed weights."""

import copy
import os
import warnings
from inspect import signature
from typing import Any

import torch
import transformer_lens
from jaxtyping import Float
from torch import Tensor
from transformer_lens.loading_from_pretrained import get_pretrained_state_dict
from transformer_lens.utilities import get_device_for_block_index

from secondary_sinks.errors import ModelError, UnsupportedModelError
from secondary_sinks.layerwise.cached_generation import keep_generation_config
from secondary_sinks.models import configs
from secondary_sinks.models.model_size import require_memory_for_positions
from secondary_sinks.models.original.tokenizer import attach_tokenizer

SUPPORTED_ROPES = {"default", "linear", "llama3", "yarn", "longrope"}


def to_hooked(hf_model: Any, tokenizer: Any, name: str, device: str, *, n_devices: int = 1) -> Any:
    """A `HookedTransformer` that computes the same as `hf_model` and shares its weights.

    Its layers are spread over `n_devices` GPUs. No weights are folded, centred or rescaled, so
    norms, cosines and value norms are those of the original. Raises `UnsupportedModelError` for an
    unknown architecture or rope, and `ModelError` for weights that would be dropped.
    """
    _refuse_unknown_rope(hf_model.config)
    fields = configs.hooked_fields(hf_model.config, configs.architecture_of(hf_model))
    cfg = transformer_lens.HookedTransformerConfig(
        **fields,
        model_name=name,
        dtype=hf_model.dtype,
        device=device if n_devices > 1 else "cpu",
        n_devices=n_devices,
        tokenizer_name=None,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*HookedTransformer is deprecated.*")
        hooked = transformer_lens.HookedTransformer(cfg, tokenizer=None, move_to_device=False)
    attach_tokenizer(hooked, tokenizer)
    keep_generation_config(hooked, hf_model)
    _load_weights(hooked, hf_model, cfg)
    hooked.eval()
    if n_devices > 1:
        _spread_over_gpus(hooked)
    else:
        hooked.to(device, print_details=False)
    _install_ropes(hooked, hf_model, cfg.n_ctx)
    return hooked


def _spread_over_gpus(hooked: Any) -> None:
    """Place each module on the device to which TransformerLens sends the residual.

    Its own `move_model_modules_to_device` chooses devices by free memory, which is not the same.
    """
    cfg = hooked.cfg
    for name, module in hooked.named_children():
        if name != "blocks":
            at_end = name in ("ln_final", "unembed")
            module.to(get_device_for_block_index(cfg.n_layers - 1 if at_end else 0, cfg))
    for index, block in enumerate(hooked.blocks):
        block.to(get_device_for_block_index(index, cfg))


def _refuse_unknown_rope(hf_config: Any) -> None:
    rope = configs.rope_type(hf_config)
    if rope not in SUPPORTED_ROPES:
        raise UnsupportedModelError(
            f"rope type {rope!r} is not supported", f"expected one of {sorted(SUPPORTED_ROPES)}"
        )


def _load_weights(hooked: Any, hf_model: Any, cfg: Any) -> None:
    # The name must be an existing path, but nothing is read from it, since `hf_model` is given.
    with torch.no_grad():
        state = get_pretrained_state_dict(
            os.curdir, _layout(cfg), hf_model=hf_model, dtype=hf_model.dtype
        )
    expected = hooked.state_dict()
    dropped = [
        key for key, value in state.items() if key not in expected and bool((value != 0).any())
    ]
    missing = [key for key in expected if key not in state and not _may_be_missing(key)]
    if dropped or missing:
        raise ModelError(
            f"the weights do not fit the hooked model: dropped {dropped[:5]}, "
            f"missing {missing[:5]}; please report this architecture"
        )
    if state["unembed.W_U"].data_ptr() == state["embed.W_E"].data_ptr():
        # An edit of the unembedding must not change the embedding.
        state["unembed.W_U"] = state["unembed.W_U"].clone()
    # Assigning keeps Hugging Face's memory layout: no second copy, and no copy at each matmul.
    # All are in the model's dtype, also routers of experts, for which TransformerLens has another.
    state = {
        key: value.to(hf_model.dtype if value.is_floating_point() else expected[key].dtype)
        for key, value in state.items()
        if key in expected
    }
    hooked.load_state_dict(state, strict=False, assign=True)


def _layout(cfg: Any) -> Any:
    """The config, with the architecture whose weight names and shapes TransformerLens knows."""
    layout = copy.copy(cfg)
    architecture = cfg.original_architecture
    layout.original_architecture = configs.SAME_LAYOUT.get(architecture, architecture)
    return layout


def _may_be_missing(key: str) -> bool:
    """Whether a weight is a buffer, or a bias, which is zero if the original has none."""
    last = key.split(".")[-1]
    return last in {"mask", "IGNORE", "rotary_sin", "rotary_cos"} or last.startswith("b_")


def _install_ropes(hooked: Any, hf_model: Any, n_ctx: int) -> None:
    """Give every layer the rotary tables of Hugging Face, with one shared copy per device."""
    if hooked.cfg.positional_embedding_type != "rotary":
        return
    require_memory_for_positions(n_ctx, hooked.cfg.rotary_dim)
    tables: dict[tuple[str, torch.device], tuple[Tensor, Tensor]] = {}
    for block in hooked.blocks:
        kind, device = block.attn.attn_type, block.attn.rotary_cos.device
        if (kind, device) not in tables:
            cos, sin = rope_tables(hf_model, n_ctx, kind, hooked.cfg.rotary_dim)
            tables[kind, device] = cos.to(device), sin.to(device)
        block.attn.rotary_cos, block.attn.rotary_sin = tables[kind, device]
    for layer in configs.unrotated_layers(hf_model.config):
        attention = hooked.blocks[layer].attn
        attention.rotary_cos = torch.ones_like(attention.rotary_cos)
        attention.rotary_sin = torch.zeros_like(attention.rotary_sin)


def rope_tables(
    hf_model: Any, n_ctx: int, attn_type: str, rotary_dim: int
) -> tuple[Float[Tensor, "pos rotary"], Float[Tensor, "pos rotary"]]:
    """Cosines and sines of every position, computed by the model's own rotary embedding.

    Some models have another rope in layers with a sliding window (`attn_type` "local"), and some
    compute one number for both halves of a head.
    """
    rotary = hf_model.base_model.rotary_emb
    probe = torch.zeros(1, 1, dtype=hf_model.dtype, device=hf_model.device)
    positions = torch.arange(n_ctx, device=hf_model.device)[None]
    layer_type = {"local": "sliding_attention", "global": "full_attention"}[attn_type]
    has_kinds = "layer_type" in signature(rotary.forward).parameters
    options = {"layer_type": layer_type} if has_kinds else {}
    with torch.no_grad():
        cos, sin = (table[0] for table in rotary(probe, positions, **options))
    halves = rotary_dim // cos.shape[-1]
    return cos.repeat(1, halves), sin.repeat(1, halves)
