"""The interface of a hooked model that the rest of the package relies on."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

Hook = tuple[str, Callable[..., Any]]


@runtime_checkable
class HookedModel(Protocol):
    """A causal language model with TransformerLens hook points.

    A `HookedTransformer` or a `TransformerBridge`. `cfg` has `n_layers`, `n_heads`, `d_model`,
    `n_ctx`, `dtype`; `blocks` holds one module per layer; `tokenizer` is a Hugging Face
    tokenizer or None. Other rooms run a layer through `layerwise.interface` and never through
    `blocks`, since the insides of a block differ between the two classes.
    """

    cfg: Any
    tokenizer: Any
    blocks: Any
    hook_dict: Any

    def parameters(self) -> Any:
        """The weights."""
        ...

    def hooks(self, fwd_hooks: Sequence[Hook] = ...) -> AbstractContextManager[Any]:
        """A context in which the hooks are active."""
        ...

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """Logits `[batch, pos, d_vocab]`."""
        ...


def is_bridge(model: Any) -> bool:
    """Whether a model is a `TransformerBridge`, which wraps a Hugging Face model."""
    return hasattr(model, "original_model")
