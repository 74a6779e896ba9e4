"""Call one layer of a `TransformerBridge` for some positions, as the model's own loop would."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache

from secondary_sinks.layerwise.hf_layers import Arguments

CACHE_ARGUMENTS = ("past_key_values", "layer_past")
"""Names of a layer's cache argument: the usual one, and that of GPT-NeoX."""


class LayerCall:
    """A layer together with the arguments that the model's own loop gives it for a whole text."""

    def __init__(self, block: Any, arguments: Arguments, n_pos: int) -> None:
        """`arguments` are those of `hf_layers.layer_arguments`, for a text of `n_pos` tokens."""
        self._block, self._arguments, self._n_pos = block, arguments, n_pos

    @property
    def rotary_tables(self) -> Any:
        """Cosines and sines of all positions; None if the layer is not given any."""
        return self._arguments.get("position_embeddings")

    def __call__(
        self,
        residual: Float[Tensor, "text query d_model"],
        positions: Int[Tensor, "query"],
        visible: Bool[Tensor, "query key"],
        cache: DynamicCache,
    ) -> Float[Tensor, "text query d_model"]:
        """`resid_post` of the queries at `positions`; their keys and values go into `cache`."""
        arguments = {
            name: select_positions(value, positions, self._n_pos)
            for name, value in self._arguments.items()
        }
        arguments |= {name: cache for name in CACHE_ARGUMENTS if name in arguments}
        arguments["attention_mask"] = _additive_mask(visible, residual.dtype)
        del arguments["hidden_states"]
        output = self._block(residual, **arguments)
        return output[0] if isinstance(output, tuple) else output


def prefix_cache(clean: DynamicCache, layer: int, n_shared: int, n_texts: int) -> DynamicCache:
    """A cache for several texts that share the first positions of the clean one, in one layer."""
    cache = DynamicCache()
    if n_shared:
        whole = (clean.layers[layer].keys, clean.layers[layer].values)
        shared = (part[:, :, :n_shared].expand(n_texts, -1, -1, -1) for part in whole)
        cache.update(*shared, layer)
    return cache


def select_positions(value: Any, positions: Int[Tensor, "query"], n_pos: int) -> Any:
    """The part of a layer's argument that belongs to some positions of a text."""
    if isinstance(value, tuple | list):
        return type(value)(select_positions(item, positions, n_pos) for item in value)
    if not isinstance(value, Tensor) or value.ndim == 0:
        return value
    axis = 1 if value.ndim > 1 and value.shape[1] == n_pos else 0
    if value.shape[axis] != n_pos:
        return value
    return value.index_select(axis, positions.to(value.device))


def _additive_mask(
    visible: Bool[Tensor, "query key"], dtype: torch.dtype
) -> Float[Tensor, "1 1 query key"]:
    mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return mask.masked_fill(~visible, torch.finfo(dtype).min)[None, None]
