"""Generation with a key-value cache, so that no token is read twice."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.errors import ModelError, UnsupportedModelError
from secondary_sinks.layerwise.protocol import Hook, HookedModel, is_bridge


class Continuation:
    """A text that grows token by token, with the cached keys and values of the tokens so far."""

    def __init__(self, model: HookedModel, hooks: Sequence[Hook] = ()) -> None:
        """Start with an empty text; `hooks` are active whenever it grows.

        Raises `UnsupportedModelError` for a model whose class cannot generate where it lies.
        """
        _refuse_sinks_on_several_gpus(model)
        self._model, self._hooks = model, list(hooks)
        self._cache = _empty_cache(model)
        self._cache_argument = "past_key_values" if is_bridge(model) else "past_kv_cache"

    def read(self, tokens: Int[Tensor, "pos"]) -> Float[Tensor, "d_vocab"]:
        """Append tokens; the logits of the token after them, in float32 on the CPU."""
        ids = tokens[None].to(next(iter(self._model.parameters())).device)
        active = self._model.hooks(fwd_hooks=self._hooks) if self._hooks else nullcontext()
        with torch.no_grad(), active:
            logits = self._model(ids, **{self._cache_argument: self._cache}, **self._mask(ids))
        return logits[0, -1].float().cpu()

    def _mask(self, ids: Int[Tensor, "1 pos"]) -> dict[str, Tensor]:
        """Every token counts; a `HookedTransformer` would leave out final tokens that can pad."""
        return {} if is_bridge(self._model) else {"attention_mask": torch.ones_like(ids)}


def _refuse_sinks_on_several_gpus(model: HookedModel) -> None:
    """TransformerLens moves scores to the GPU of the mask, which is not that of learned sinks."""
    if is_bridge(model) or model.cfg.n_devices == 1:
        return
    if any(getattr(block.attn, "sinks", None) is not None for block in model.blocks):
        raise UnsupportedModelError(
            "a HookedTransformer with learned sinks cannot generate over several GPUs",
            "load the model with bridge=True (--bridge), or on one GPU",
        )


def _empty_cache(model: HookedModel) -> Any:
    """An empty cache of the type that the model's class updates in place."""
    if is_bridge(model):
        from transformers import DynamicCache

        return DynamicCache()
    from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

    return TransformerLensKeyValueCache.init_cache(model.cfg, model.cfg.device, 1)


UNREADABLE = "unreadable"
"""Name of what is wrong with the file of a generation config, where something is."""


def keep_generation_config(hooked: Any, hf_model: Any) -> None:
    """Let a hooked model know what its original says about generating."""
    hooked.generation_config = getattr(hf_model, "generation_config", None)


def end_tokens(model: HookedModel) -> frozenset[int]:
    """Ids that end an answer: those of the model's generation config and of its tokenizer.

    Raises `ModelError` where the generation config could not be read, or names no such ids.
    """
    owner: Any = model.original_model if is_bridge(model) else model  # type: ignore[attr-defined]
    config = getattr(owner, "generation_config", None)
    found = getattr(config, "eos_token_id", None)
    wrong = getattr(config, UNREADABLE, "") or fault_of_ends(found, model.cfg.d_vocab)
    if wrong:
        raise ModelError(
            f"cannot generate text, since the tokens that end an answer are unknown: {wrong}"
        )
    of_tokenizer = getattr(model.tokenizer, "eos_token_id", None)
    return frozenset([*_listed(found), *_listed(of_tokenizer)])


def fault_of_ends(found: Any, d_vocab: int | None = None) -> str:
    """What is wrong with the `eos_token_id` of a generation config; empty where nothing is.

    >>> fault_of_ends([1, "</s>"], 258)
    "its eos_token_id holds '</s>'; expected ids from 0 to 257"
    """
    for one in _listed(found):
        if type(one) is not int or one < 0 or (d_vocab is not None and one >= d_vocab):
            span = "of at least 0" if d_vocab is None else f"from 0 to {d_vocab - 1}"
            return f"its eos_token_id holds {one!r:.60}; expected ids {span}"
    return ""


def _listed(found: Any) -> tuple[Any, ...]:
    """None, one or several, as several."""
    return tuple(found) if isinstance(found, list | tuple) else () if found is None else (found,)
