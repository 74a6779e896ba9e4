"""A small hooked model whose weights are zero, for planted models to fill."""

import warnings
from typing import Any

import torch
import transformer_lens

D_HEAD, N_HEADS = 8, 4


def empty_model(
    *,
    d_model: int,
    d_mlp: int,
    d_vocab: int,
    n_layers: int,
    n_pos: int,
    n_kv_heads: int | None,
    gated: bool,
    positions: str,
    seed: int,
) -> Any:
    """A model whose weights are zero, but for its norms; MLPs read the residual without one."""
    rotary = {"positional_embedding_type": "rotary", "rotary_dim": 4}
    cfg = transformer_lens.HookedTransformerConfig(
        n_layers=n_layers,
        d_model=d_model,
        n_ctx=n_pos,
        d_head=D_HEAD,
        n_heads=N_HEADS,
        n_key_value_heads=n_kv_heads,
        d_mlp=d_mlp,
        d_vocab=d_vocab,
        act_fn="silu" if gated else "relu",
        gated_mlp=gated,
        normalization_type="RMS",
        model_name="planted",
        device="cpu",
        seed=seed,
        default_prepend_bos=False,
        **(rotary if positions == "rotary" else {}),
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*HookedTransformer is deprecated.*")
        model = transformer_lens.HookedTransformer(cfg)
    for parameter in model.parameters():
        parameter.data.zero_()
    for block in model.blocks:
        block.ln1.w.data.fill_(1.0)
        block.ln2 = torch.nn.Identity()
    return model
