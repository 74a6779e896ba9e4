"""What a Hugging Face model hands to each of its layers, without running any of them.

The loop over layers in the model itself owns positions, rotary tables and masks. Instead of
guessing these from the config, the loop runs with its layers taken out, and what it would have
handed to them is written down.
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
    """The list of decoder layers, whatever the architecture calls it."""
    base = hf_model.base_model
    layers: nn.ModuleList = base.layers if hasattr(base, "layers") else base.h
    return layers


def handed_down(base_model: Any, layers: nn.ModuleList, **inputs: Any) -> list[Arguments]:
    """The arguments, by name, that the loop of `base_model` gives to each of `layers`."""
    arguments: list[Arguments] = []

    def recorder(layer: Any) -> Any:
        signature = inspect.signature(getattr(layer, "original_component", layer).forward)

        def forward(*args: Any, **kwargs: Any) -> Tensor:
            bound = dict(signature.bind(*args, **kwargs).arguments)
            arguments.append(bound.pop("kwargs", {}) | bound)
            hidden: Tensor = bound["hidden_states"]
            return hidden

        return forward

    with _replaced(layers, recorder), torch.no_grad():
        base_model(**inputs, use_cache=True)
    return arguments


def logits_of(hf_model: Any, layers: nn.ModuleList, hidden: Tensor) -> Tensor:
    """What a model makes of the output of its last layer `[text, pos, d_model]`: its logits."""
    tokens = torch.zeros(hidden.shape[:2], dtype=torch.long, device=hidden.device)
    with _replaced(layers, lambda layer: lambda *args, **kwargs: hidden), torch.no_grad():
        logits: Tensor = hf_model(input_ids=tokens, use_cache=False).logits
    return logits


def visible_keys(base_model: Any, layers: nn.ModuleList, pos: int) -> list[int]:
    """How many keys a query at `pos` sees in each layer, itself among them."""
    device = next(base_model.parameters()).device
    one = torch.zeros(1, 1, dtype=torch.long, device=device)
    handed = handed_down(base_model, layers, input_ids=one, past_key_values=_Full(pos))
    masks = [arguments.get("attention_mask") for arguments in handed]
    return [pos + 1 if mask is None else _count(mask[0, 0, 0]) for mask in masks]


def _count(row: Tensor) -> int:
    return int((row if row.dtype == torch.bool else row == 0).sum())


class _Full(DynamicCache):
    """An empty cache that says it holds so many positions."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self._length = length

    def get_seq_length(self, layer_idx: int = 0, *rest: Any) -> int:
        return self._length

    def get_mask_sizes(self, query_length: Any, layer_idx: int) -> tuple[int, int]:
        new = query_length if isinstance(query_length, int) else len(query_length)
        return self._length + new, 0


@contextmanager
def _replaced(layers: nn.ModuleList, make: Any) -> Iterator[None]:
    """Other layers for a while; what accelerate has put before their own comes back."""
    own = [vars(layer).get("forward") for layer in layers]
    for layer in layers:
        object.__setattr__(layer, "forward", make(layer))
    try:
        yield
    finally:
        for layer, forward in zip(layers, own, strict=True):
            object.__delattr__(layer, "forward")
            if forward is not None:
                object.__setattr__(layer, "forward", forward)
