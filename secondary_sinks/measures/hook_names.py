"""What a cache is, and how measures find their activations in it: by hook name, one text."""

from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from secondary_sinks.errors import CacheError

POINTS = {
    "resid_pre": ("hook_resid_pre", 2),
    "resid_post": ("hook_resid_post", 2),
    "attn_out": ("hook_attn_out", 2),
    "mlp_out": ("hook_mlp_out", 2),
    "post": ("mlp.hook_post", 2),
    "pattern": ("attn.hook_pattern", 3),
    "q": ("attn.hook_q", 3),
    "k": ("attn.hook_k", 3),
    "v": ("attn.hook_v", 3),
    "rot_q": ("attn.hook_rot_q", 3),
    "rot_k": ("attn.hook_rot_k", 3),
}
"""Hook points that measures read: name within a block, and number of axes of one text."""


@runtime_checkable
class Cache(Protocol):
    """Hook names -> activations; a dict and TransformerLens's `ActivationCache` are."""

    def keys(self) -> Iterable[Any]:
        """The hook names that it holds."""
        ...

    def __getitem__(self, name: str, /) -> Tensor:
        """The activation of a hook name, with or without a batch axis of size 1."""
        ...


def take(cache: Cache, layer: int, point: str) -> Tensor:
    """The activation of one layer by its short name (`POINTS`), without batch axis.

    Raises `CacheError` where it is missing, and for more than one text.

    >>> import torch
    >>> take({"blocks.3.attn.hook_v": torch.zeros(1, 7, 2, 4)}, 3, "v").shape
    torch.Size([7, 2, 4])
    """
    name = hook_name(layer, point)
    require(cache, [name])
    return _one_text(cache[name], name, POINTS[point][1])


def has(cache: Cache, layer: int, *points: str) -> bool:
    """Whether the cache holds all of these activations of a layer."""
    return {hook_name(layer, point) for point in points} <= set(cache.keys())


def require(cache: Cache, names: Iterable[str]) -> None:
    """Raise `CacheError` that lists those of `names` which the cache lacks."""
    held = set(cache.keys())
    missing = [name for name in names if name not in held]
    if missing:
        raise CacheError(
            f"the cache lacks {', '.join(missing)}; run_with_cache with a names_filter that "
            f"keeps them (it holds {len(held)} activations)"
        )


def hook_name(layer: int, point: str) -> str:
    """Full name of a hook point.

    >>> hook_name(3, "pattern")
    'blocks.3.attn.hook_pattern'
    """
    return f"blocks.{layer}.{POINTS[point][0]}"


def n_layers(cache: Cache) -> int:
    """One more than the last layer of which the cache holds anything; `CacheError` if none.

    >>> import torch
    >>> n_layers({"hook_embed": torch.zeros(1), "blocks.11.hook_mlp_out": torch.zeros(1)})
    12
    """
    parts = [str(name).split(".") for name in set(cache.keys())]
    layers = [int(part[1]) for part in parts if part[0] == "blocks" and part[1].isdigit()]
    if not layers:
        raise CacheError("expected hook names like blocks.0.hook_resid_post; the cache has none")
    return max(layers) + 1


def _one_text(activation: Tensor, name: str, n_axes: int) -> Tensor:
    """Without the batch axis, which must be of size 1."""
    shape = tuple(activation.shape)
    if len(shape) == n_axes:
        return activation
    if len(shape) == n_axes + 1 and shape[0] == 1:
        return activation[0]
    said = f"a batch of {shape[0]} texts" if len(shape) == n_axes + 1 else f"shape {shape}"
    raise CacheError(
        f"{name} has {said}; expected {n_axes} axes for one text, or one more of size 1: "
        "pass one text at a time"
    )
