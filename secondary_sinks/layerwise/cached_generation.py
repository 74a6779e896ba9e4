"""A text that grows token by token: keys and values are kept, so nothing is read twice."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.layerwise.protocol import HookedModel, is_bridge


class Continuation:
    """A text in a model, with the keys and values of what was read so far."""

    def __init__(self, model: HookedModel) -> None:
        """Nothing is read yet."""
        self._model = model
        self._cache = _empty_cache(model)
        self._name = "past_key_values" if is_bridge(model) else "past_kv_cache"

    def read(self, tokens: Int[Tensor, "pos"]) -> Float[Tensor, "d_vocab"]:
        """Read on; gives the logits of the token after, in float32 on the CPU."""
        ids = tokens[None].to(next(iter(self._model.parameters())).device)
        with torch.no_grad():
            logits = self._model(ids, **{self._name: self._cache})
        return logits[0, -1].float().cpu()


def _empty_cache(model: HookedModel) -> Any:
    """A cache of the kind that the class of the model grows in place."""
    if is_bridge(model):
        from transformers import DynamicCache

        return DynamicCache()
    from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

    return TransformerLensKeyValueCache.init_cache(model.cfg, model.cfg.device, 1)


def keep_end_tokens(hooked: Any, hf_model: Any) -> None:
    """Let a hooked model know the tokens at which its original ends what it generates."""
    hooked.end_tokens = _listed(getattr(hf_model, "generation_config", None))


def end_tokens(model: HookedModel) -> frozenset[int]:
    """Ids that end an answer: those of the model's generation config and of its tokenizer."""
    if is_bridge(model):
        found = _listed(getattr(model.original_model, "generation_config", None))  # type: ignore[attr-defined]
    else:
        found = getattr(model, "end_tokens", ())
    of_tokenizer = getattr(model.tokenizer, "eos_token_id", None)
    return frozenset([*found, *([] if of_tokenizer is None else [of_tokenizer])])


def _listed(config: Any) -> tuple[int, ...]:
    """The end tokens of a generation config, which names none, one or several."""
    found = getattr(config, "eos_token_id", None)
    return tuple(found) if isinstance(found, list | tuple) else () if found is None else (found,)
