"""Weights with which heads and neurons write to the residual, and the norms that follow them.

The same for both classes of TransformerLens. Some models normalise the output of a sublayer before
it is added to the residual (Gemma 2 and 3, OLMo 2). The contribution of one head then depends on
all others, through the norm of their sum. With that norm held fixed, the normalisation multiplies
each coordinate by a number, its *gain*. The normalisation that a model applies is found by trying
each: it is the one that turns the sum of all heads (or neurons) into the update of the residual.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.errors import UnsupportedModelError
from secondary_sinks.layerwise.protocol import HookedModel

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-8, torch.bfloat16: 5e-2, torch.float16: 1e-2}
Rows = Float[Tensor, "row d_model"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parts:
    """Output weights of one sublayer, and the norms that may follow it."""

    name: str
    weights: Float[Tensor, "part d d_model"] | Float[Tensor, "part d_model"]
    """Per head `[head, d_head, d_model]`, or per neuron `[neuron, d_model]`."""
    bias: Float[Tensor, "d_model"]
    norms: tuple[Callable[[Tensor], Tensor], ...]

    def gain(self, written: Rows, added: Rows) -> Rows | None:
        """Gain of each coordinate; None if the output is not normalised.

        `written` is the sum of all parts and the bias, `added` the update of the residual. Raises
        `UnsupportedModelError` if no norm of the layer turns `written` into `added`.
        """
        for gain in (None, *(_gain(norm, written) for norm in self.norms)):
            normed = written if gain is None else written * gain
            error = (normed - added).abs().amax(-1)
            if bool((error <= TOLERANCE[self.weights.dtype] * added.abs().amax(-1) + 1e-12).all()):
                return gain
        raise UnsupportedModelError(
            f"the parts of {self.name} don't add up to the update of the residual; heads and "
            "neurons of this architecture cannot be separated (parts=False leaves them out)"
        )


def heads_of(model: HookedModel, layer: int) -> Parts:
    """The heads of a layer's attention."""
    block = model.blocks[layer]
    weights = block.attn.W_O.detach()
    return Parts(
        name=f"the attention of layer {layer}",
        weights=weights,
        bias=_bias(getattr(block.attn, "b_O", None), weights),
        norms=_norms(block, ("ln1_post", "ln1")),
    )


def neurons_of(model: HookedModel, layer: int) -> Parts | None:
    """The neurons of a layer's MLP; None for a mixture of experts."""
    block = model.blocks[layer]
    weights = getattr(block.mlp, "W_out", None)
    if weights is None:
        return None
    return Parts(
        name=f"the MLP of layer {layer}",
        weights=weights.detach(),
        bias=_bias(getattr(block.mlp, "b_out", None), weights),
        norms=_norms(block, ("ln2_post", "ln2")),
    )


def keys_of(
    model: HookedModel, layer: int, n_kv_heads: int
) -> tuple[Float[Tensor, "kv_head d_model d_head"], Float[Tensor, "kv_head d_head"]]:
    """Weights and bias that make the keys of a layer from the input of its attention.

    One class of TransformerLens repeats them for the heads that share a key; here they are not.
    """
    attention = model.blocks[layer].attn
    weights = attention.W_K.detach()
    step = len(weights) // n_kv_heads
    bias = attention.b_K
    weights = weights[::step]
    zero = weights.new_zeros(weights.shape[0], weights.shape[2])
    return weights, zero if bias is None else bias.detach()[::step]


def activation_of(model: HookedModel, layer: int) -> Callable[[Tensor], Tensor]:
    """Activation function of a layer's MLP, applied to its gate or, without a gate, to its input.

    Raises `UnsupportedModelError` if it cannot be found.
    """
    mlp = model.blocks[layer].mlp
    for owner in (mlp, getattr(mlp, "original_component", None)):
        for name in ("act_fn", "activation_fn", "act"):
            found = getattr(owner, name, None)
            if callable(found):
                return found
    raise UnsupportedModelError(
        f"the activation function of the MLP of layer {layer} cannot be found"
    )


@contextmanager
def mlp_ends(
    model: HookedModel, layers: Iterable[int], note: Callable[[int, str, Tensor], None]
) -> Iterator[None]:
    """A context in which `note(layer, end, tensor)` gets the input and output of each MLP.

    `end` is "input" (after any norm before the MLP) or "down" (before any norm after it).
    TransformerLens has no hook points there that all models share.
    """

    def hook_for(layer: int) -> Callable[[Any, Any, Any, Any], None]:
        def hook(module: Any, args: Any, kwargs: Any, output: Any) -> None:
            note(layer, "input", args[0] if args else next(iter(kwargs.values())))
            note(layer, "down", output[0] if isinstance(output, tuple) else output)

        return hook

    modules = [(layer, model.blocks[layer].mlp) for layer in layers]
    handles = [
        mlp.register_forward_hook(hook_for(layer), with_kwargs=True) for layer, mlp in modules
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def attention_input(
    model: HookedModel, layers: Iterable[int], note: Callable[[int, Tensor], None]
) -> Iterator[None]:
    """A context in which `note(layer, tensor)` gets the input of each layer's attention.

    It comes after any norm before the attention, in chunks of queries `[text, query, d_model]`.
    """

    def hook_for(layer: int) -> Callable[[Any, Any, Any], None]:
        def hook(module: Any, args: Any, kwargs: Any) -> None:
            given = (kwargs.get(name) for name in ("key_input", "hidden_states"))
            note(layer, args[0] if args else next(one for one in given if one is not None))

        return hook

    handles = [
        model.blocks[layer].attn.register_forward_pre_hook(hook_for(layer), with_kwargs=True)
        for layer in layers
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _bias(bias: Tensor | None, weights: Tensor) -> Float[Tensor, "d_model"]:
    return weights.new_zeros(weights.shape[-1]) if bias is None else bias.detach()


def _norms(block: Any, names: Sequence[str]) -> tuple[Callable[[Tensor], Tensor], ...]:
    return tuple(getattr(block, name) for name in names if callable(getattr(block, name, None)))


def _gain(norm: Callable[[Tensor], Tensor], written: Rows) -> Rows:
    """Gain of an RMS norm, from its output for a constant with the same root mean square."""
    size = written.pow(2).mean(-1, keepdim=True).sqrt().clamp(min=1e-30)
    with torch.no_grad():
        normed = norm(size.expand_as(written)[None])[0]
    return normed / size
