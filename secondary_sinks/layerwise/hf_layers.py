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
