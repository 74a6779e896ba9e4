"""Outputs of a Hugging Face model as a cache, for `measures.cached`."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from secondary_sinks.errors import CacheError
from secondary_sinks.measures.hook_names import hook_name


def from_outputs(outputs: Any) -> dict[str, Tensor]:
    """Attention patterns and residuals by hook name, from the outputs of a Hugging Face model.

    `attentions` (`output_attentions=True`, of a model with `attn_implementation="eager"`) become
    `attn.hook_pattern`; `hidden_states` (`output_hidden_states=True`) become `hook_resid_pre` and
    `hook_resid_post`. Either may be absent. The last hidden state is after the final norm, so it is
    left out and the last layer has no `hook_resid_post`. Tensors are not copied. Raises
    `CacheError` if both are absent, or if attentions were not computed.

    >>> import torch
    >>> states = tuple(torch.full((1, 2, 3), float(layer)) for layer in range(3))
    >>> sorted(from_outputs({"hidden_states": states}))
    ['blocks.0.hook_resid_post', 'blocks.0.hook_resid_pre', 'blocks.1.hook_resid_pre']
    """
    patterns, states = _all_of(outputs, "attentions"), _all_of(outputs, "hidden_states")
    if not patterns and not states:
        raise CacheError(
            "the outputs hold neither attentions nor hidden_states; call the model with "
            "output_attentions=True or output_hidden_states=True"
        )
    names = {hook_name(layer, "pattern"): one for layer, one in enumerate(patterns)}
    names |= {hook_name(layer, "resid_pre"): one for layer, one in enumerate(states[:-1])}
    return names | {hook_name(layer, "resid_post"): one for layer, one in enumerate(states[1:-1])}


def _all_of(outputs: Any, name: str) -> Sequence[Tensor]:
    """The tensors of all layers; empty if the model was not asked for them."""
    if not isinstance(outputs, Mapping):
        raise CacheError(
            f"expected the outputs of a Hugging Face model, or a dict; got "
            f"{type(outputs).__name__} (with return_dict=False?)"
        )
    tensors = outputs.get(name) or ()
    if not all(isinstance(one, Tensor) for one in tensors):
        raise CacheError(
            f"some {name} are not tensors of one forward pass",
            "load the model with "
            'attn_implementation="eager", and call it itself rather than generate()',
        )
    return tensors
