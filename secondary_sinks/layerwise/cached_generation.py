"""Generation with a key-value cache, so that no token is read twice."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.layerwise.protocol import HookedModel, is_bridge


class Continuation:
    """A text that grows token by token, with the cached keys and values of the tokens so far."""

    def __init__(self, model: HookedModel) -> None:
        """Start with an empty text."""
        self._model = model
        self._cache = _empty_cache(model)
        self._cache_argument = "past_key_values" if is_bridge(model) else "past_kv_cache"

    def read(self, tokens: Int[Tensor, "pos"]) -> Float[Tensor, "d_vocab"]:
        """Append tokens; the logits of the token after them, in float32 on the CPU."""
        ids = tokens[None].to(next(iter(self._model.parameters())).device)
        with torch.no_grad():
            logits = self._model(ids, **{self._cache_argument: self._cache})
        return logits[0, -1].float().cpu()


def _empty_cache(model: HookedModel) -> Any:
    """An empty cache of the type that the model's class updates in place."""
    if is_bridge(model):
        from transformers import DynamicCache

        return DynamicCache()
    from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

    return TransformerLensKeyValueCache.init_cache(model.cfg, model.cfg.device, 1)


def remember_end_tokens(hooked: Any, hf_model: Any) -> None:
    """Note on a hooked model the tokens at which its original stops generating."""
    hooked.end_tokens = _end_tokens_of(getattr(hf_model, "generation_config", None))


def end_tokens(model: HookedModel) -> frozenset[int]:
    """Ids of the tokens that end an answer, by the generation config and by the tokenizer."""
    if is_bridge(model):
        config = getattr(model.original_model, "generation_config", None)  # type: ignore[attr-defined]
        found = _end_tokens_of(config)
    else:
        found = getattr(model, "end_tokens", ())
    by_tokenizer = getattr(model.tokenizer, "eos_token_id", None)
    return frozenset([*found, *([] if by_tokenizer is None else [by_tokenizer])])


def _end_tokens_of(generation_config: Any) -> tuple[int, ...]:
    """The `eos_token_id` of a generation config, which may be missing, one id or a list."""
    found = getattr(generation_config, "eos_token_id", None)
    return tuple(found) if isinstance(found, list | tuple) else () if found is None else (found,)
