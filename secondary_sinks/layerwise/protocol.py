"""What every room above `models` may rely on: the little that a hooked model must offer."""

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
    tokenizer or None. What a layer computes is reached through `models.layers`, never through
    `blocks`, whose insides differ between the two classes.
    """

    cfg: Any
    tokenizer: Any
    blocks: Any
    hook_dict: Any

    def parameters(self) -> Any:
        """Its weights."""
        ...

    def hooks(self, fwd_hooks: Sequence[Hook] = ...) -> AbstractContextManager[Any]:
        """Hooks that are there while the context lasts."""
        ...

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """Logits `[batch, pos, d_vocab]`."""
        ...


def is_bridge(model: Any) -> bool:
    """Whether a model is a `TransformerBridge`, which wraps a Hugging Face model."""
    return hasattr(model, "original_model")
