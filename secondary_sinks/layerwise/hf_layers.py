"""Arguments that a Hugging Face model gives to each of its layers, found without running a layer.

The loop over layers inside the model computes positions, rotary tables and masks. Instead of
guessing these from the config, the loop is run with its layers replaced by functions that record
their arguments.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import DynamicCache

Arguments = dict[str, Any]


def decoder_layers(hf_model: Any) -> nn.ModuleList:
    """The list of decoder layers, which is named differently in different architectures."""
    base = hf_model.base_model
    layers: nn.ModuleList = base.layers if hasattr(base, "layers") else base.h
    return layers


def layer_arguments(base_model: Any, layers: nn.ModuleList, **inputs: Any) -> list[Arguments]:
    """Arguments by name that the loop of `base_model` gives to each of `layers`."""
    arguments: list[Arguments] = []

    def recorder(layer: Any) -> Any:
        signature = inspect.signature(getattr(layer, "original_component", layer).forward)

        def forward(*args: Any, **kwargs: Any) -> Tensor:
            bound = dict(signature.bind(*args, **kwargs).arguments)
            arguments.append(bound.pop("kwargs", {}) | bound)
            hidden: Tensor = bound["hidden_states"]
            return hidden

        return forward

    with _replace_forward(layers, recorder), torch.no_grad():
        base_model(**inputs, use_cache=True)
    return arguments


def logits_of(hf_model: Any, layers: nn.ModuleList, hidden: Tensor) -> Tensor:
    """Logits of a model from the output `[text, pos, d_model]` of its last layer."""
    tokens = torch.zeros(hidden.shape[:2], dtype=torch.long, device=hidden.device)
    with _replace_forward(layers, lambda layer: lambda *args, **kwargs: hidden), torch.no_grad():
        logits: Tensor = hf_model(input_ids=tokens, use_cache=False).logits
    return logits


def n_visible_keys(base_model: Any, layers: nn.ModuleList, pos: int) -> list[int]:
    """Number of keys that a query at `pos` sees in each layer, its own among them."""
    device = next(base_model.parameters()).device
    token = torch.zeros(1, 1, dtype=torch.long, device=device)
    arguments = layer_arguments(
        base_model, layers, input_ids=token, past_key_values=_PretendedCache(pos)
    )
    masks = [of_layer.get("attention_mask") for of_layer in arguments]
    return [pos + 1 if mask is None else _count_visible(mask[0, 0, 0]) for mask in masks]


def _count_visible(mask_row: Tensor) -> int:
    return int((mask_row if mask_row.dtype == torch.bool else mask_row == 0).sum())


class _PretendedCache(DynamicCache):
    """An empty cache that reports a given number of positions."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self._length = length

    def get_seq_length(self, layer_idx: int = 0, *rest: Any) -> int:
        return self._length

    def get_mask_sizes(self, query_length: Any, layer_idx: int) -> tuple[int, int]:
        new = query_length if isinstance(query_length, int) else len(query_length)
        return self._length + new, 0


@contextmanager
def _replace_forward(layers: nn.ModuleList, make: Any) -> Iterator[None]:
    """Give each layer another `forward` for a while; one that accelerate has set is restored."""
    before = [vars(layer).get("forward") for layer in layers]
    for layer in layers:
        object.__setattr__(layer, "forward", make(layer))
    try:
        yield
    finally:
        for layer, forward in zip(layers, before, strict=True):
            object.__delattr__(layer, "forward")
            if forward is not None:
                object.__setattr__(layer, "forward", forward)


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
        mask = torch.zeros(visible.shape, dtype=residual.dtype, device=visible.device)
        mask = mask.masked_fill(~visible, torch.finfo(residual.dtype).min)
        arguments["attention_mask"] = mask[None, None]
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
