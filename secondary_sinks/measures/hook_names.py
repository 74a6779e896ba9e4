"""Caches of one text, and access to their activations by hook name."""

from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from secondary_sinks.errors import CacheError
from secondary_sinks.numbers import whole_number

N_AXES = {
    **dict.fromkeys(("resid_pre", "resid_post", "attn_out", "mlp_out", "post"), 2),
    **dict.fromkeys(("pattern", "q", "k", "v", "rot_q", "rot_k"), 3),
}
"""Hook points that measures read, by short name, with the number of axes for one text."""
IN_ATTENTION = {"q", "k", "v", "z", "rot_q", "rot_k", "pattern", "attn_scores"}
IN_MLP = {"pre", "pre_linear", "post"}
EMBED = "hook_embed"
"""The one hook point of sites that is before all layers; layer 0 counts it as its own."""


@runtime_checkable
class Cache(Protocol):
    """A mapping from hook names to activations, such as a dict or an `ActivationCache`."""

    def keys(self) -> Iterable[Any]:
        """The hook names in the cache."""
        ...

    def __getitem__(self, name: str, /) -> Tensor:
        """The activation of a hook point, with or without a batch axis of size 1."""
        ...


def get_activation(cache: Cache, layer: int, point: str) -> Tensor:
    """The activation of one layer by the short name of its hook point, without batch axis.

    Raises `CacheError` if it is missing or of more than one text.

    >>> import torch
    >>> get_activation({"blocks.3.attn.hook_v": torch.zeros(1, 7, 2, 4)}, 3, "v").shape
    torch.Size([7, 2, 4])
    """
    name = hook_name(layer_number(layer), point)
    require_activations(cache, [name])
    activation, n_axes = cache[name], N_AXES[point]
    shape = tuple(activation.shape)
    if len(shape) == n_axes:
        return activation
    if len(shape) == n_axes + 1 and shape[0] == 1:
        return activation[0]
    given = f"a batch of {shape[0]} texts" if len(shape) == n_axes + 1 else f"shape {shape}"
    raise CacheError(
        f"{name} has {given}",
        f"expected {n_axes} axes for one text, or one more of size 1: pass one text at a time",
    )


def layer_number(layer: Any) -> int:
    """A layer as an `int`, counted from 0. Raises `CacheError` for a word, True or -1.

    >>> layer_number("01")
    Traceback (most recent call last):
    secondary_sinks.errors.CacheError: a layer is '01'; expected a whole number of at least 0
    """
    return whole_number("a layer", layer, CacheError, 0)


def has_activations(cache: Cache, layer: int, *points: str) -> bool:
    """Whether the cache has all of these hook points of a layer."""
    return {hook_name(layer, point) for point in points} <= set(cache.keys())


def require_activations(cache: Cache, names: Iterable[str]) -> None:
    """Raise `CacheError` if any of `names` are missing in the cache; it lists them."""
    held = set(cache.keys())
    missing = [name for name in names if name not in held]
    if missing:
        raise CacheError(
            f"the cache lacks {', '.join(missing)}; run_with_cache with a names_filter that "
            f"keeps them (it holds {len(held)} activations)"
        )


def hook_name(layer: int, point: str) -> str:
    """Full name of a hook point, the same for both classes of TransformerLens.

    >>> hook_name(3, "mlp_out"), hook_name(3, "pattern"), hook_name(3, "post")
    ('blocks.3.hook_mlp_out', 'blocks.3.attn.hook_pattern', 'blocks.3.mlp.hook_post')
    >>> hook_name(0, "embed")
    'hook_embed'
    """
    if (layer, point) == (0, "embed"):
        return EMBED
    module = "attn." if point in IN_ATTENTION else "mlp." if point in IN_MLP else ""
    return f"blocks.{layer}.{module}hook_{point}"


def n_layers(cache: Cache) -> int:
    """Number of layers: one more than the last layer in the cache; `CacheError` without any.

    >>> import torch
    >>> n_layers({"hook_embed": torch.zeros(1), "blocks.11.hook_mlp_out": torch.zeros(1)})
    12
    """
    parts = [str(name).split(".") for name in set(cache.keys())]
    layers = [int(part[1]) for part in parts if part[0] == "blocks" and part[1].isdigit()]
    if not layers:
        raise CacheError("expected hook names like blocks.0.hook_resid_post; the cache has none")
    return max(layers) + 1
