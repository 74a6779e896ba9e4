"""The same measures, of the activations that a cache holds.

A cache is what `run_with_cache` of a TransformerLens model returns, or any mapping from hook
names to tensors. It holds one text; a batch axis of size 1 is dropped. Layers are 0-based.

    from secondary_sinks.measures import cached
    mass = cached.attention_mass(cache, 5)

Each function names the hook points that it reads. Weights are no part of a cache: they are passed.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

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
from secondary_sinks.measures.hook_names import Cache, hook_name, n_layers, require, take


def received_attention(cache: Cache, layer: int) -> Float[Tensor, "key"]:
    """`measures.received_attention` of `attn.hook_pattern`."""
    return attention.received_attention(take(cache, layer, "pattern"))


def paid_attention(cache: Cache, layer: int, keys: Sequence[int]) -> Float[Tensor, "query watched"]:
    """`measures.paid_attention` of `attn.hook_pattern`: what each query pays to some keys."""
    return attention.paid_attention(take(cache, layer, "pattern"), keys)


def head_mass(
    cache: Cache, layer: int, window: int | None = None, *, offset: int = 0
) -> Float[Tensor, "head key"]:
    """`measures.head_mass` of `attn.hook_pattern`; `offset` where earlier keys came from a cache.

    >>> import torch
    >>> chunk = {"blocks.0.attn.hook_pattern": torch.tensor([[[[0.25, 0.75, 0.0]]]])}
    >>> head_mass(chunk, 0, offset=1).tolist()
    [[0.25, 0.75, nan]]
    """
    return attention.head_mass(take(cache, layer, "pattern"), window, offset=offset)


def attention_mass(
    cache: Cache, layer: int, window: int | None = None, *, offset: int = 0
) -> Float[Tensor, "key"]:
    """`measures.attention_mass` of `attn.hook_pattern`; `offset` as above.

    >>> import torch
    >>> cache = {"blocks.0.attn.hook_pattern": torch.tensor([[[[1.0, 0.0], [0.25, 0.75]]]])}
    >>> attention_mass(cache, 0).tolist()
    [0.625, 0.75]
    """
    return attention.attention_mass(take(cache, layer, "pattern"), window, offset=offset)


def mass_excess(
    cache: Cache, layer: int, window: int | None = None, *, offset: int = 0
) -> Float[Tensor, "key"]:
    """`measures.mass_excess` of `attn.hook_pattern` over the uniform null; `offset` as above."""
    n_queries, n_keys = take(cache, layer, "pattern").shape[-2:]
    mass = attention_mass(cache, layer, window, offset=offset)
    null = attention.uniform_mass(n_keys, window, offset=offset, n_queries=n_queries)
    return attention.mass_excess(mass, null.to(mass.device))


def local_mass(
    cache: Cache, layer: int, window: int | None = None, *, reach: int = 16, offset: int = 0
) -> Float[Tensor, "key"]:
    """`measures.local_mass` of `attn.hook_pattern`; `offset` as above."""
    return attention.local_mass(attention_mass(cache, layer, window, offset=offset), reach)


def virtual_mass(cache: Cache, layer: int) -> Float[Tensor, "head"]:
    """`measures.virtual_mass` of `attn.hook_pattern`."""
    return attention.virtual_mass(take(cache, layer, "pattern"))


def sink_share(
    cache: Cache,
    layers: Sequence[int] | None = None,
    *,
    eps: float = 0.3,
    windows: Sequence[int | None] | None = None,
) -> Float[Tensor, "key"]:
    """`measures.sink_share` of `attn.hook_pattern` over heads and `layers` (by default, all).

    `windows` are the sliding windows of those layers, None where a layer has none.
    """
    layers = range(n_layers(cache)) if layers is None else layers
    require(cache, [hook_name(layer, "pattern") for layer in layers])
    pairs = zip(layers, windows or [None] * len(layers), strict=True)
    return attention.sink_share(torch.stack([head_mass(cache, *pair) for pair in pairs]), eps)


def received_from_qk(
    cache: Cache, layer: int, *, scale: float, rotary: bool = True, **options: Any
) -> Float[Tensor, "head key"]:
    """`measures.received_from_qk` of `attn.hook_rot_q` and `attn.hook_rot_k`, with its options.

    `rotary=False` says that the model rotates nothing: `attn.hook_q` and `attn.hook_k` are read.
    """
    queries, keys = _queries_and_keys(cache, layer, rotary)
    return from_qk.received_from_qk(queries, keys, scale=scale, **options)


def mass_from_qk(
    cache: Cache, layer: int, *, scale: float, rotary: bool = True, **options: Any
) -> Float[Tensor, "head key"]:
    """`measures.mass_from_qk` of `attn.hook_rot_q` and `attn.hook_rot_k`; `rotary` as above."""
    queries, keys = _queries_and_keys(cache, layer, rotary)
    return from_qk.mass_from_qk(queries, keys, scale=scale, **options)


def mean_score(
    cache: Cache, layer: int, *, scale: float, window: int | None = None, rotary: bool = True
) -> Float[Tensor, "pos"]:
    """`measures.mean_score` of `attn.hook_rot_q` and `attn.hook_rot_k`; `rotary` as above."""
    queries, keys = _queries_and_keys(cache, layer, rotary)
    return scores.mean_score(queries, keys, scale, window)


def residual_norms(cache: Cache, layer: int) -> Float[Tensor, "pos"]:
    """`measures.norms` of `hook_resid_post`."""
    return geometry.norms(take(cache, layer, "resid_post"))


def key_norms(cache: Cache, layer: int, *, rotary: bool = True) -> Float[Tensor, "pos kv_head"]:
    """`measures.norms` of `attn.hook_rot_k`: keys as the scores use them.

    After k norm and rotation; `rotary` as above. `raw_key_norms` are those of the output of k_proj.
    """
    return geometry.norms(take(cache, layer, "rot_k" if rotary else "k"))


def raw_key_norms(cache: Cache, layer: int) -> Float[Tensor, "pos kv_head"]:
    """`measures.norms` of `attn.hook_k`: the output of k_proj, before k norm and rotation."""
    return geometry.norms(take(cache, layer, "k"))


def value_norms(cache: Cache, layer: int) -> Float[Tensor, "pos kv_head"]:
    """`measures.norms` of `attn.hook_v`."""
    return geometry.norms(take(cache, layer, "v"))


def value_drain(
    cache: Cache, layer: int, w_o: Float[Tensor, "head d_head d_model"]
) -> Float[Tensor, "pos head"]:
    """`measures.value_drain` of `attn.hook_v`."""
    return values.value_drain(take(cache, layer, "v"), w_o)


def is_ordinary(cache: Cache, layer: int) -> Bool[Tensor, "pos"]:
    """`measures.is_ordinary` of `hook_resid_post`."""
    return geometry.is_ordinary(take(cache, layer, "resid_post"))


def typical_token(cache: Cache, layer: int) -> Float[Tensor, "d_model"]:
    """`measures.typical_token` of `hook_resid_post`."""
    return geometry.typical_token(take(cache, layer, "resid_post"))


def massive_activations(
    cache: Cache, layer: int, least: float = 100.0, ratio: float = 1000.0
) -> Bool[Tensor, "pos d"]:
    """`measures.massive_activations` of `hook_resid_post`."""
    return massive.massive_activations(take(cache, layer, "resid_post"), least, ratio)


def alignment(cache: Cache, layer: int, pos: int) -> Float[Tensor, "pos"]:
    """`measures.alignment` of `hook_resid_post` with that of position `pos`."""
    residual = take(cache, layer, "resid_post")
    return geometry.alignment(residual, residual[pos])


def centred_alignment(cache: Cache, layer: int, pos: int) -> Float[Tensor, "pos"]:
    """`measures.centred_alignment` of `hook_resid_post` with that of position `pos`.

    Centred on `measures.typical_token` of the text at that layer.
    """
    residual = take(cache, layer, "resid_post")
    typical = geometry.typical_token(residual)
    return geometry.centred_alignment(residual, residual[pos], typical)


def projection(
    cache: Cache, layer: int, direction: Float[Tensor, "d_model"]
) -> Float[Tensor, "pos"]:
    """`measures.projection` of `hook_resid_post`."""
    return contributions.projection(take(cache, layer, "resid_post"), direction)


def matrix_entropy(cache: Cache, layer: int, alpha: float = 1.0) -> Float[Tensor, ""]:
    """`measures.matrix_entropy` of `hook_resid_post`."""
    return entropy.matrix_entropy(take(cache, layer, "resid_post"), alpha)


def prefix_entropies(
    cache: Cache, layer: int, lengths: Sequence[int], alpha: float = 1.0
) -> Float[Tensor, "length"]:
    """`measures.prefix_entropies` of `hook_resid_post`."""
    return entropy.prefix_entropies(take(cache, layer, "resid_post"), lengths, alpha)


def layer_contributions(cache: Cache, direction: Float[Tensor, "d_model"]) -> LayerContributions:
    """`measures.layer_contributions` of `hook_attn_out`, `hook_mlp_out`, and what enters layer 0.

    That is `hook_resid_pre` of layer 0. One layer is read at a time: no stack of all outputs.
    """
    layers = range(n_layers(cache))
    written = [hook_name(layer, point) for layer in layers for point in ("attn_out", "mlp_out")]
    require(cache, [hook_name(0, "resid_pre"), *written])

    def along(layer: int, point: str) -> Float[Tensor, "pos"]:
        return contributions.projection(take(cache, layer, point), direction)

    return LayerContributions(
        embed=along(0, "resid_pre"),
        attention=torch.stack([along(layer, "attn_out") for layer in layers]),
        mlp=torch.stack([along(layer, "mlp_out") for layer in layers]),
    )


def neuron_contributions(
    cache: Cache,
    layer: int,
    w_out: Float[Tensor, "d_mlp d_model"],
    direction: Float[Tensor, "d_model"],
) -> Float[Tensor, "pos d_mlp"]:
    """`measures.neuron_contributions` of `mlp.hook_post`."""
    return contributions.neuron_contributions(take(cache, layer, "post"), w_out, direction)


def _queries_and_keys(cache: Cache, layer: int, rotary: bool) -> tuple[Tensor, Tensor]:
    queries, keys = ("rot_q", "rot_k") if rotary else ("q", "k")
    require(cache, [hook_name(layer, queries), hook_name(layer, keys)])
    return take(cache, layer, queries), take(cache, layer, keys)
