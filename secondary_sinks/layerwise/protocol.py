"""The interface of a hooked model that the rest of the package relies on, and hooks that record."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from secondary_sinks.errors import ModelError
from secondary_sinks.measures import norms
from secondary_sinks.measures.hook_names import hook_name

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


def check_is_model(given: Any) -> None:
    """Raise `ModelError` for anything but a hooked model, such as a name or another module."""
    if not all(hasattr(given, name) for name in ("cfg", "hook_dict", "blocks")):
        remedy = (
            f"load it first: load_model({given!r:.60})"
            if isinstance(given, str)
            else ("give what load_model returns")
        )
        raise ModelError(f"expected a hooked model, got {type(given).__name__}", remedy)


def is_bridge(model: Any) -> bool:
    """Whether a model is a `TransformerBridge`, which wraps a Hugging Face model."""
    return hasattr(model, "original_model")


def needs_pattern(hooks: Sequence[Hook], layer: int) -> bool:
    """Whether a hook reads the pattern or the scores, which fused attention does not compute."""
    unavailable = {hook_name(layer, point) for point in ("pattern", "attn_scores")}
    return any(callable(name) or name in unavailable for name, _ in hooks)


@contextmanager
def with_mlp_in(model: Any, hooks: Sequence[Hook]) -> Iterator[None]:
    """A context in which `hook_mlp_in` fires, if there is a hook on it.

    Both classes of TransformerLens let it fire only where `cfg.use_hook_mlp_in` is set.
    """
    before = model.cfg.use_hook_mlp_in
    if before or not any(str(name).endswith(".hook_mlp_in") for name, _ in hooks):
        yield
        return
    model.set_use_hook_mlp_in(True)
    try:
        yield
    finally:
        model.set_use_hook_mlp_in(before)


def append_key_norms(key_norms: list[Tensor]) -> Callable[[Tensor, Any], None]:
    """A hook on `attn.hook_k` that appends the norm of each key, mean over KV heads."""

    def hook(keys: Tensor, hook: Any) -> None:
        key_norms.append(norms(keys[0]).mean(-1))

    return hook


def keep_last(tensors: dict[str, Tensor], name: str) -> Callable[[Tensor, Any], None]:
    """A hook that keeps the last tensor it sees, as `tensors[name]`."""

    def hook(tensor: Tensor, hook: Any) -> None:
        tensors[name] = tensor

    return hook
