"""Planted models: small hooked models whose sinks are known, because they were put there by hand.

Ground truth for detection and causality. The residual stream has one axis for the sink
direction, one marker axis per planted token, and the rest for ordinary content. A planted MLP
neuron reads one marker and writes along the sink direction; heads attend to keys by how much of
the sink direction they have after the norm. Attention moves content only, so a planted token's
creation layer, lifetime and forming MLPs are exactly those that were asked for.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformer_lens
from jaxtyping import Float, Int
from torch import Tensor

SINK_AXIS = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """A token to plant: at `pos`, `strength` along the sink direction from layer to layer.

    The MLPs of `forming` write it together, in equal parts. The MLP of `dies` takes it away
    (None: it stays). With `sideways` the same strength goes along an axis of its own: massive,
    but not aligned. `attended` gives the token attention for its content, without a word along
    the sink direction.
    """

    pos: int
    forming: tuple[int, ...] = ()
    dies: int | None = None
    strength: float = 60.0
    sideways: bool = False
    attended: bool = False

    @property
    def l_start(self) -> int:
        """Creation layer, where the first part alone is strong enough to make a sink."""
        return min(self.forming)

    def lifetime(self, n_layers: int) -> int:
        """Number of layers whose resid_post holds the sink."""
        return (n_layers if self.dies is None else self.dies) - self.l_start


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlantedModel:
    """A planted model, the text to feed it, and the truth about both."""

    model: Any
    tokens: Int[Tensor, "pos"]
    plants: tuple[Plant, ...]


def plant(
    plants: Sequence[Plant],
    *,
    n_layers: int = 8,
    n_pos: int = 64,
    n_kv_heads: int | None = None,
    anisotropy: float = 0.0,
    twins: bool = True,
    seed: int = 0,
) -> PlantedModel:
    """A model in which exactly `plants` happen, each at its position of the returned text.

    Ordinary tokens have random content of length about 6. `anisotropy` adds that much of one
    common direction to every token. With `twins`, every planted token id also occurs as an
    ordinary token: an id alone makes no sink, the position embedding carries the marker.
    """
    d_content, n_markers = 48, len(plants)
    d_model = 1 + 2 * n_markers + d_content
    generator = torch.Generator().manual_seed(seed)
    cfg = transformer_lens.HookedTransformerConfig(
        n_layers=n_layers,
        d_model=d_model,
        n_ctx=n_pos,
        d_head=8,
        n_heads=4,
        n_key_value_heads=n_kv_heads,
        d_mlp=8 * max(n_markers, 1),
        d_vocab=32,
        act_fn="relu",
        normalization_type="RMS",
        model_name="planted",
        device="cpu",
        seed=seed,
        default_prepend_bos=False,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*HookedTransformer is deprecated.*")
        model = transformer_lens.HookedTransformer(cfg)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        content = slice(1 + 2 * n_markers, None)
        _embed(model, plants, content, anisotropy, generator)
        for block in model.blocks:
            block.ln1.w.fill_(1.0)
            block.ln2.w.fill_(1.0)
            _attend(block.attn, plants, content, generator)
        tokens = _tokens(plants, n_pos, twins, generator)
        _write(model, plants, tokens)
        model.ln_final.w.fill_(1.0)
        model.unembed.W_U.copy_(0.1 * torch.randn(model.unembed.W_U.shape, generator=generator))
    return PlantedModel(model=model, tokens=tokens, plants=tuple(plants))


def marker_axis(index: int) -> int:
    """Residual axis that marks plant number `index`."""
    return 1 + 2 * index


def _embed(
    model: Any,
    plants: Sequence[Plant],
    content: slice,
    anisotropy: float,
    generator: torch.Generator,
) -> None:
    """Random content by token; the marker of a plant by its position."""
    shape = model.embed.W_E[:, content].shape
    common = torch.nn.functional.normalize(torch.randn(shape[1], generator=generator), dim=0)
    model.embed.W_E[:, content] = 0.9 * torch.randn(shape, generator=generator)
    model.embed.W_E[:, content] += anisotropy * common
    for index, one in enumerate(plants):
        model.pos_embed.W_pos[one.pos, marker_axis(index)] = 2.0


def _attend(
    attention: Any, plants: Sequence[Plant], content: slice, generator: torch.Generator
) -> None:
    """Keys by the sink direction; values carry content to content, weakly."""
    keys = attention._W_K if hasattr(attention, "_W_K") else attention.W_K
    values = attention._W_V if hasattr(attention, "_W_V") else attention.W_V
    d_model = keys.shape[1]
    attention.b_Q[:, 0] = attention.cfg.d_head**0.5
    keys[:, SINK_AXIS, 0] = 4.5 / d_model**0.5
    for index, one in enumerate(plants):
        if one.attended:
            keys[:, marker_axis(index), 0] = 2.0
    values[:, content] = 0.1 * torch.randn(values[:, content].shape, generator=generator)
    output = attention.W_O[:, :, content]
    attention.W_O[:, :, content] = 0.1 * torch.randn(output.shape, generator=generator)


def _write(model: Any, plants: Sequence[Plant], tokens: Int[Tensor, "pos"]) -> None:
    """One neuron per plant, at each layer that changes it: it reads the marker and writes."""
    for layer in range(len(model.blocks)):
        for index, one in enumerate(plants):
            change = _change(one, layer)
            if change:
                _add_neuron(model, layer, index, one, change, tokens)


def _change(one: Plant, layer: int) -> float:
    if layer in one.forming:
        return one.strength / len(one.forming)
    return -one.strength if layer == one.dies else 0.0


def _add_neuron(
    model: Any, layer: int, index: int, one: Plant, change: float, tokens: Int[Tensor, "pos"]
) -> None:
    """The neuron reads a marker divided by the residual's norm; a run tells by how much."""
    mlp, axis = model.blocks[layer].mlp, marker_axis(index)
    target = axis + 1 if one.sideways else SINK_AXIS
    mlp.W_in[axis, index] = 1.0
    _, cache = model.run_with_cache(tokens[None, : one.pos + 1], stop_at_layer=layer + 1)
    read = cache[f"blocks.{layer}.mlp.hook_post"][0, one.pos, index]
    mlp.W_out[index, target] = change / read


def _tokens(
    plants: Sequence[Plant], n_pos: int, twins: bool, generator: torch.Generator
) -> Int[Tensor, "pos"]:
    """Random ids; planted positions have ids of their own, repeated elsewhere as twins."""
    tokens = torch.randint(16, 32, (n_pos,), generator=generator)
    taken = {one.pos for one in plants}
    for index, one in enumerate(plants):
        tokens[one.pos] = index % 16
        free = [pos for pos in range(1, n_pos - 16) if pos not in taken]
        if twins and free:
            twin = min(free, key=lambda pos: abs(pos - one.pos))
            tokens[twin] = tokens[one.pos]
            taken.add(twin)
    return tokens


def sink_direction(planted: PlantedModel) -> Float[Tensor, "d_model"]:
    """Unit vector of the planted sink direction."""
    direction = torch.zeros(planted.model.cfg.d_model)
    direction[SINK_AXIS] = 1.0
    return direction
