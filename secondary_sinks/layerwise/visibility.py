"""Keys that queries see, and models in which a single token can be replayed."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from secondary_sinks.errors import UnsupportedModelError
from secondary_sinks.layerwise.protocol import HookedModel


def sees(
    queries: Int[Tensor, "query"], keys: Int[Tensor, "key"], window: int | None
) -> Bool[Tensor, "query key"]:
    """Whether queries see keys: those up to their own position and within their sliding window."""
    behind = queries[:, None] - keys
    return behind >= 0 if window is None else (behind >= 0) & (behind < window)


def visible_to_queries(
    positions: Int[Tensor, "query"], n_keys: int, window: int | None
) -> Bool[Tensor, "query key"]:
    """Which of the first `n_keys` keys each query sees."""
    return sees(positions, torch.arange(n_keys, device=positions.device), window)


def visible_before(
    positions: Int[Tensor, "cell"], n_keys: int, window: int | None
) -> Bool[Tensor, "cell key"]:
    """Clean keys that each replayed token sees: those before it, within its window."""
    clean = torch.arange(n_keys, device=positions.device)
    return sees(positions, clean, window) & (clean != positions[:, None])


def visible_to_replayed(
    positions: Int[Tensor, "cell"], n_keys: int, window: int | None
) -> Bool[Tensor, "cell key"]:
    """Keys that each replayed token sees: clean keys before it, then itself of all replayed."""
    itself = torch.eye(len(positions), dtype=torch.bool, device=positions.device)
    return torch.cat([visible_before(positions, n_keys, window), itself], dim=1)


def refuse_unreplayable(model: HookedModel) -> None:
    """Raise `UnsupportedModelError` if a replayed token could not be given its own position."""
    cfg = model.cfg
    rescaled = getattr(cfg, "use_logn_attn", False) or getattr(cfg, "use_dynamic_ntk_rope", False)
    if cfg.positional_embedding_type not in {"standard", "rotary"} or rescaled:
        raise UnsupportedModelError(
            f"single-token replay needs rotary or learned absolute positions without rescaling by "
            f"length; this model has {cfg.positional_embedding_type!r}"
        )
