"""Hooks that record what they see, and whether hooks need the attention pattern."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from secondary_sinks.layerwise.protocol import Hook
from secondary_sinks.measures import norms
from secondary_sinks.measures.hook_names import hook_name


def needs_pattern(hooks: Sequence[Hook], layer: int) -> bool:
    """Whether a hook reads the pattern or the scores, which fused attention does not compute."""
    unavailable = {hook_name(layer, point) for point in ("pattern", "attn_scores")}
    return any(callable(name) or name in unavailable for name, _ in hooks)


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
