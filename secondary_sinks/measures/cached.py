"""The same measures, computed from the activations in a cache.

A cache is what `run_with_cache` of a TransformerLens model returns, or any mapping from hook
names to tensors. It holds one text; a batch axis of size 1 is dropped. Layers are 0-based.

    from secondary_sinks.measures import cached
    mass = cached.attention_mass(cache, 5)

The docstring of each function names the hook points that it reads. Weights are not in a cache, so
they are passed as arguments. Raises `CacheError` for missing activations, by name.

>>> import torch
>>> cache = {"blocks.0.attn.hook_pattern": torch.tensor([[[[1.0, 0.0], [0.25, 0.75]]]])}
>>> attention_mass(cache, 0).tolist()
[0.625, 0.75]
>>> chunk = {"blocks.0.attn.hook_pattern": torch.tensor([[[[0.25, 0.75, 0.0]]]])}
>>> head_mass(chunk, 0, offset=1).tolist()  # the earlier keys came from a key-value cache
[[0.25, 0.75, nan]]
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.errors import MeasureError
from secondary_sinks.measures import (
    attention,
    contributions,
    entropy,
    from_qk,
    geometry,
    massive,
    scores,
    values,
)
from secondary_sinks.measures.contributions import LayerContributions
from secondary_sinks.measures.hook_names import (
    Cache,
    get_activation,
    hook_name,
    layer_number,
    n_layers,
    require_activations,
)
from secondary_sinks.measures.on_cache import on_cache
from secondary_sinks.numbers import whole_number

received_attention = on_cache(attention.received_attention, "pattern")
paid_attention = on_cache(attention.paid_attention, "pattern")
head_mass = on_cache(attention.head_mass, "pattern")
attention_mass = on_cache(attention.attention_mass, "pattern")
virtual_mass = on_cache(attention.virtual_mass, "pattern")

received_from_qk = on_cache(from_qk.received_from_qk, "rot_q", "rot_k")
mass_from_qk = on_cache(from_qk.mass_from_qk, "rot_q", "rot_k")
mean_score = on_cache(scores.mean_score, "rot_q", "rot_k")

residual_norms = on_cache(
    geometry.norms, "resid_post", name="residual_norms", returns=Float[Tensor, "pos"]
)
raw_key_norms = on_cache(
    geometry.norms, "k", name="raw_key_norms", returns=Float[Tensor, "pos kv_head"]
)
value_norms = on_cache(
    geometry.norms, "v", name="value_norms", returns=Float[Tensor, "pos kv_head"]
)
value_drain = on_cache(values.value_drain, "v")

norm_ratio = on_cache(geometry.norm_ratio, "resid_post")
deviation_ratio = on_cache(geometry.deviation_ratio, "resid_post")
is_ordinary = on_cache(geometry.is_ordinary, "resid_post")
typical_token = on_cache(geometry.typical_token, "resid_post")
massive_activations = on_cache(massive.massive_activations, "resid_post")
projection = on_cache(contributions.projection, "resid_post", returns=Float[Tensor, "pos"])
matrix_entropy = on_cache(entropy.matrix_entropy, "resid_post")
prefix_entropies = on_cache(entropy.prefix_entropies, "resid_post")
neuron_contributions = on_cache(contributions.neuron_contributions, "post")


def key_norms(cache: Cache, layer: int, *, rotary: bool = True) -> Float[Tensor, "pos kv_head"]:
    """`measures.norms` of `attn.hook_rot_k`: keys as the scores use them, after norm and rotation.

    With `rotary=False`, of `attn.hook_k`, in models that do not rotate. `raw_key_norms` are always
    those of the output of k_proj.
    """
    return geometry.norms(get_activation(cache, layer, "rot_k" if rotary else "k"))


def mass_excess(
    cache: Cache, layer: int, window: int | None = None, *, offset: int = 0
) -> Float[Tensor, "key"]:
    """`measures.mass_excess` of `attn.hook_pattern`: attention mass beyond the uniform null.

    `window` and `offset` as in `attention_mass`.
    """
    n_queries, n_keys = get_activation(cache, layer, "pattern").shape[-2:]
    mass = attention_mass(cache, layer, window, offset=offset)
    null = attention.uniform_mass(n_keys, window, offset=offset, n_queries=n_queries)
    return attention.mass_excess(mass, null.to(mass.device))


def local_mass(
    cache: Cache, layer: int, window: int | None = None, *, reach: int = 16, offset: int = 0
) -> Float[Tensor, "key"]:
    """`measures.local_mass` of `attn.hook_pattern`: median mass of the keys within `reach`.

    `window` and `offset` as in `attention_mass`.
    """
    return attention.local_mass(attention_mass(cache, layer, window, offset=offset), reach)


def sink_share(
    cache: Cache,
    layers: Sequence[int] | None = None,
    *,
    eps: float = 0.3,
    windows: Sequence[int | None] | None = None,
) -> Float[Tensor, "key"]:
    """`measures.sink_share` of `attn.hook_pattern`, over heads and `layers` (by default, all).

    `windows` are the sliding windows of those layers, None where a layer has none. Raises
    `MeasureError` for another number of windows, no layers, or one twice.
    """
    layers = range(n_layers(cache)) if layers is None else layers
    layers = [layer_number(layer) for layer in layers]
    if not len(layers) or len(set(layers)) < len(layers):
        raise MeasureError(f"layers are {list(layers)}", "expected at least one, and each once")
    require_activations(cache, [hook_name(layer, "pattern") for layer in layers])
    windows = [None] * len(layers) if windows is None else windows
    if len(windows) != len(layers):
        raise MeasureError(f"got {len(windows)} windows", f"expected one per layer ({len(layers)})")
    pairs = zip(layers, windows, strict=True)
    return attention.sink_share(torch.stack([head_mass(cache, *pair) for pair in pairs]), eps)


def alignment(cache: Cache, layer: int, pos: int) -> Float[Tensor, "pos"]:
    """`measures.alignment` of each `hook_resid_post` with that of position `pos`."""
    residual = get_activation(cache, layer, "resid_post")
    return geometry.alignment(residual, _at(residual, pos))


def centred_alignment(cache: Cache, layer: int, pos: int) -> Float[Tensor, "pos"]:
    """`measures.centred_alignment` of each `hook_resid_post` with that of position `pos`.

    Centred on `measures.typical_token` of the text at that layer.
    """
    residual = get_activation(cache, layer, "resid_post")
    typical = geometry.typical_token(residual)
    return geometry.centred_alignment(residual, _at(residual, pos), typical)


def _at(residual: Float[Tensor, "pos d_model"], pos: Any) -> Float[Tensor, "d_model"]:
    """The residual of one position, counted from 0. Raises `MeasureError` for no position."""
    if whole_number("pos", pos, MeasureError, 0) >= len(residual):
        raise MeasureError(f"pos is {pos}", f"expected a position from 0 to {len(residual) - 1}")
    return residual[pos]


def layer_contributions(cache: Cache, direction: Float[Tensor, "d_model"]) -> LayerContributions:
    """`measures.layer_contributions` of `hook_attn_out` and `hook_mlp_out` of all layers.

    The embedding is `hook_resid_pre` of layer 0. Layers are read one at a time, so their outputs
    are never stacked in memory.
    """
    layers = range(n_layers(cache))
    written = [hook_name(layer, point) for layer in layers for point in ("attn_out", "mlp_out")]
    require_activations(cache, [hook_name(0, "resid_pre"), *written])

    def along(layer: int, point: str) -> Float[Tensor, "pos"]:
        return contributions.projection(get_activation(cache, layer, point), direction)

    return LayerContributions(
        embed=along(0, "resid_pre"),
        attention=torch.stack([along(layer, "attn_out") for layer in layers]),
        mlp=torch.stack([along(layer, "mlp_out") for layer in layers]),
    )
