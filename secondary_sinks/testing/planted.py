"""Planted models: small hooked models with hand-set weights, whose sinks are known.

They are the ground truth for detection and causal tests. The residual stream has an axis for the
sink direction, one that marks tokens which attention copies from, a marker and an own axis for each
plant, and further axes for ordinary content. A planted MLP neuron reads one marker and writes along
the sink direction. Heads attend to keys by their component along the sink axis after the norm, and
optionally a little by content. Everything else in attention and MLPs moves content only, so that a
planted token has exactly the creation layer, lifetime and writers that were asked for. MLPs read
the residual without a norm, so that the output of a planted neuron does not depend on other
components, and contributions add up, also after an ablation.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformer_lens
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.errors import PlantError
from secondary_sinks.testing.plant_spec import ExpectedSink, Plant, check_plants, expected_sinks

D_HEAD, N_HEADS, D_CONTENT, N_ORDINARY = 8, 4, 48, 16
SINK, GIVER = 0, 1
"""Residual axes: the sink direction, and the marker of tokens that attention copies from."""
SINK_DIM, GIVER_DIM, COPY_DIM = 4, 5, 7
"""Dimensions of a head: keys by the sink axis, keys of givers, and the copied value. The first four
hold content, and are rotated if positions are rotary."""
MARK = 2.0
CONTENT_LENGTH = 0.9 * D_CONTENT**0.5
PRIMARY_SCORE = 4.5
"""Attention score of a token of strength 400; ordinary tokens have 0."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlantedModel:
    """A planted model, its text, and the sinks that this text must have."""

    model: Any
    tokens: Int[Tensor, "pos"]
    plants: tuple[Plant, ...]
    direction: Float[Tensor, "d_model"]
    """Unit vector of the sink direction."""

    def expected_sinks(self) -> tuple[ExpectedSink, ...]:
        """The true sinks of `tokens`: primaries first, then by position."""
        n_layers, n_pos = self.model.cfg.n_layers, len(self.tokens)
        return expected_sinks(self.plants, n_layers, n_pos, last_head=N_HEADS - 1)


def plant(
    plants: Sequence[Plant],
    *,
    n_layers: int = 8,
    n_pos: int = 64,
    n_kv_heads: int | None = None,
    anisotropy: float = 0.0,
    gated: bool = False,
    positions: str = "learned",
    content_queries: bool = False,
    twins: int = 1,
    seed: int = 0,
) -> PlantedModel:
    """A small hooked model with exactly the sinks of `plants`, and the text that has them.

    Ordinary tokens have random content of length about 6. `anisotropy` adds a common direction of
    this length to every token, and the sink direction leans towards it: at 30, nearly all tokens
    have a raw cosine above 0.9 with the primary. `n_kv_heads` (2 or 4) makes grouped queries,
    `gated` makes gated MLPs. With "learned" `positions` the markers belong to positions, and every
    planted token id also occurs `twins` times as an ordinary token, so that an id alone makes no
    sink. With "rotary" positions the markers belong to token ids, and there are no twins. Queries
    are the same for all tokens, so that freezing them changes nothing, unless `content_queries` is
    set.

    Raises `PlantError` for plants that are impossible or have no clear truth.

    >>> planted = plant([Plant(pos=0, forming=(1,), strength=400.0), Plant(pos=20, forming=(3,))])
    >>> [(sink.pos, sink.kind, sink.l_start) for sink in planted.expected_sinks()]
    [(0, 'primary', 1), (20, 'secondary', 3)]
    """
    check_plants(plants, n_layers, n_pos)
    if positions not in ("learned", "rotary"):
        raise PlantError(f"positions are 'learned' or 'rotary'; got {positions!r}")
    if any(one.identity is not None for one in plants) and (gated or positions == "rotary"):
        raise PlantError("identity needs learned positions and MLPs without a gate")
    layout = _Layout(plants, anisotropy, seed)
    model = _empty_model(layout, n_layers, n_pos, n_kv_heads, gated, positions, seed)
    with torch.no_grad():
        tokens = layout.tokens(n_pos, int(twins) if positions == "learned" else 0)
        _embed(model, layout, tokens)
        residual = model(tokens[None], stop_at_layer=0)
        for layer, block in enumerate(model.blocks):
            _set_ordinary_weights(block, layout, content_queries)
            residual = _set_planted_weights(block, layer, layout, residual)
        model.ln_final.w.fill_(1.0)
        model.unembed.W_U.copy_(0.1 * layout.randn(*model.unembed.W_U.shape))
    return PlantedModel(
        model=model, tokens=tokens, plants=tuple(plants), direction=layout.direction
    )


def _empty_model(
    layout: "_Layout",
    n_layers: int,
    n_pos: int,
    n_kv_heads: int | None,
    gated: bool,
    positions: str,
    seed: int,
) -> Any:
    """A model whose weights are zero, except those of its norms."""
    rotary = {"positional_embedding_type": "rotary", "rotary_dim": 4}
    cfg = transformer_lens.HookedTransformerConfig(
        n_layers=n_layers,
        d_model=layout.d_model,
        n_ctx=n_pos,
        d_head=D_HEAD,
        n_heads=N_HEADS,
        n_key_value_heads=n_kv_heads,
        d_mlp=layout.n_plants + N_ORDINARY,
        d_vocab=layout.n_special + N_ORDINARY,
        act_fn="silu" if gated else "relu",
        gated_mlp=gated,
        normalization_type="RMS",
        model_name="planted",
        device="cpu",
        seed=seed,
        default_prepend_bos=False,
        **(rotary if positions == "rotary" else {}),
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*HookedTransformer is deprecated.*")
        model = transformer_lens.HookedTransformer(cfg)
    for parameter in model.parameters():
        parameter.data.zero_()
    for block in model.blocks:
        block.ln1.w.data.fill_(1.0)
        block.ln2 = torch.nn.Identity()
    model.setup()  # hook points are named again, without those of the removed norms
    return model


class _Layout:
    """Axes of the residual, token ids and directions, with the random generator."""

    def __init__(self, plants: Sequence[Plant], anisotropy: float, seed: int) -> None:
        self.plants, self.n_plants, self.anisotropy = tuple(plants), len(plants), anisotropy
        self.generator = torch.Generator().manual_seed(seed)
        self.givers = sorted({one.giver for one in plants if one.by == "attention"})
        self.n_special = max(16, self.n_plants + len(self.givers))
        first = 2 + 2 * self.n_plants
        self.content = slice(first, first + D_CONTENT)
        identified = [index for index, one in enumerate(plants) if one.identity is not None]
        self.identity_axes = {
            index: self.content.stop + rank for rank, index in enumerate(identified)
        }
        """Axis that identifies the token id of a plant with `identity`."""
        self.d_model = self.content.stop + len(identified)
        self.common = torch.zeros(self.d_model)
        self.common[self.content] = torch.nn.functional.normalize(self.randn(D_CONTENT), dim=0)
        lean = anisotropy / (anisotropy**2 + CONTENT_LENGTH**2) ** 0.5
        self.direction = lean * self.common
        self.direction[SINK] = (1 - lean**2) ** 0.5

    def randn(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator)

    def marker(self, index: int) -> int:
        return 2 + 2 * index

    def own_axis(self, index: int) -> int:
        """The axis of one plant, which `sideways`, `chain` and `identity` use."""
        return 3 + 2 * index

    def written_along(self, index: int) -> Float[Tensor, "d_model"]:
        """Direction along which a plant is written: the sink direction, or its own axis.

        A plant with `attended` also has a small component along its own axis, which heads read.
        """
        own, one = torch.eye(self.d_model)[self.own_axis(index)], self.plants[index]
        own_share = 0.0 if one.attended is None else 0.1
        return own if one.sideways else self.direction + own_share * own

    def tokens(self, n_pos: int, twins: int) -> Int[Tensor, "pos"]:
        """Random ids; plants and givers have ids of their own, plants also have twins."""
        low, high = self.n_special, self.n_special + N_ORDINARY
        tokens = torch.randint(low, high, (n_pos,), generator=self.generator)
        special = [one.pos for one in self.plants] + self.givers
        tokens[special] = torch.arange(len(special))
        taken = set(special)
        for one in self.plants * twins:
            free = [pos for pos in range(1, n_pos - 16) if pos not in taken]
            if free:
                twin = min(free, key=lambda pos: abs(pos - one.pos))
                tokens[twin] = tokens[one.pos]
                taken.add(twin)
        return tokens

    def key_weight(self) -> float:
        """Key weight that gives a score of 4.5 to the sink axis of a token of strength 400."""
        state = 400.0 * self.direction + self.anisotropy * self.common
        return PRIMARY_SCORE * float(state.norm() / state[SINK]) / self.d_model**0.5


def _embed(model: Any, layout: _Layout, tokens: Int[Tensor, "pos"]) -> None:
    """Set embeddings: content by token; markers by position, or by token with rotary positions."""
    embed, content = model.embed.W_E, layout.content
    embed[:, content] = 0.9 * layout.randn(len(embed), D_CONTENT)
    learned = hasattr(model, "pos_embed")
    marks = model.pos_embed.W_pos if learned else embed
    for index, one in enumerate(layout.plants):
        row = one.pos if learned else int(tokens[one.pos])
        marks[row, layout.marker(index)] = MARK
        own = embed[tokens[one.pos], content].clone()
        marks[row, content] -= (1 - one.content) * own
        if index in layout.identity_axes:
            embed[tokens[one.pos], layout.identity_axes[index]] = MARK
    for giver in layout.givers:
        marks[giver if learned else int(tokens[giver]), GIVER] = MARK
    embed += layout.anisotropy * layout.common


def _set_ordinary_weights(block: Any, layout: _Layout, content_queries: bool) -> None:
    """Attention by the sink axis, optionally by content; weak movement and mixing of content."""
    attention, mlp, content = block.attn, block.mlp, layout.content
    keys, values = _key_value_weights(attention)
    attention.b_Q[:, SINK_DIM] = D_HEAD**0.5
    keys[:, SINK, SINK_DIM] = layout.key_weight()
    for weights in (attention.W_Q, keys) if content_queries else ():
        weights[:, content, :4] = 0.08 * layout.randn(len(weights), D_CONTENT, 4)
    values[:, content] = 0.1 * layout.randn(len(values), D_CONTENT, D_HEAD)
    attention.W_O[:, :, content] = 0.1 * layout.randn(N_HEADS, D_HEAD, D_CONTENT)
    neurons = slice(layout.n_plants, None)
    common = layout.common[content]
    for weights in _readers(mlp):
        reads = 0.15 * layout.randn(D_CONTENT, N_ORDINARY)
        weights[content, neurons] = reads - common[:, None] * (common @ reads)
    mlp.W_out[neurons, content] = 0.02 * layout.randn(N_ORDINARY, D_CONTENT)


def _key_value_weights(attention: Any) -> tuple[Tensor, Tensor]:
    """Weights per KV head, `[kv_head, d_model, d_head]`."""
    grouped = hasattr(attention, "_W_K")
    return (attention._W_K, attention._W_V) if grouped else (attention.W_K, attention.W_V)


def _readers(mlp: Any) -> list[Tensor]:
    """Weights that read the residual, `[d_model, neuron]`."""
    return [mlp.W_in, mlp.W_gate] if hasattr(mlp, "W_gate") else [mlp.W_in]


def _set_planted_weights(block: Any, layer: int, layout: _Layout, residual: Tensor) -> Tensor:
    """Set the planted weights of a layer; returns its resid_post.

    Heads read the residual after a norm; the scale of that norm is taken from the text's own
    residual.
    """
    normed = block.ln1(residual)
    _set_attended(block.attn, layout, normed[0])
    for index, one in enumerate(layout.plants):
        if one.by == "attention" and layer in one.forming:
            _set_copying_head(block.attn, layout, index, normed)
    middle = residual + block.attn(normed, normed, normed)
    _set_neurons(block.mlp, layer, layout)
    return middle + block.mlp(middle)


def _set_attended(attention: Any, layout: _Layout, normed: Float[Tensor, "pos d_model"]) -> None:
    """Keys of plants that are attended, or not attended, regardless of their sink axis."""
    keys, _ = _key_value_weights(attention)
    for index, one in enumerate(layout.plants):
        if one.attended is not None:
            state = normed[one.pos]
            axis = layout.own_axis(index) if one.forming else layout.marker(index)
            wanted = PRIMARY_SCORE if one.attended else 0.0
            missing = wanted - layout.key_weight() * state[SINK]
            if state[axis] != 0:
                keys[:, axis, SINK_DIM] = missing / state[axis]


def _set_copying_head(
    attention: Any, layout: _Layout, index: int, normed: Float[Tensor, "1 pos d_model"]
) -> None:
    """The last head copies from the giver to the plant's token, and to no other token."""
    one, marker, head = layout.plants[index], layout.marker(index), N_HEADS - 1
    keys, values = _key_value_weights(attention)
    group = N_HEADS // len(keys)
    certain = 20.0 * D_HEAD**0.5
    attention.W_Q[head, marker, GIVER_DIM] = 2 * certain / normed[0, one.pos, marker]
    attention.b_Q[head, GIVER_DIM] = -certain
    keys[-1, GIVER, GIVER_DIM] = 1 / normed[0, one.giver, GIVER]
    values[-1, :, COPY_DIM] = 0.0
    values[-1, GIVER, COPY_DIM] = 1.0
    attention.W_O[-group:, COPY_DIM] = 0.0
    before = attention(normed, normed, normed)[0, one.pos]
    attention.W_O[head, COPY_DIM] = layout.written_along(index)
    after = attention(normed, normed, normed)[0, one.pos]
    copied = (
        (after - before) @ layout.written_along(index) / layout.written_along(index).square().sum()
    )
    attention.W_O[head, COPY_DIM] *= one.strength / copied


def _set_neurons(mlp: Any, layer: int, layout: _Layout) -> None:
    """One neuron for each plant that this layer writes: it reads the plant's marker."""
    for index, one in enumerate(layout.plants):
        change, target, mark = one.change(layer), layout.written_along(index), layout.marker(index)
        link = layout.own_axis(index)
        if one.chain and layer == one.forming[0]:
            change, target = MARK, torch.eye(layout.d_model)[link]
        elif one.chain and layer == one.forming[1]:
            mark = link
        if one.identity == layer:
            change, target, mark = (
                MARK,
                torch.eye(layout.d_model)[link],
                layout.identity_axes[index],
            )
        elif one.identity is not None and layer in one.forming:
            mlp.W_in[link, index], mlp.b_in[index] = 1.0, -MARK
        if change and not (one.by == "attention" and layer in one.forming):
            for weights in _readers(mlp):
                weights[mark, index] = 1.0
            gate = mlp.act_fn(torch.tensor(MARK))
            mlp.W_out[index] = change * target / (gate * MARK if len(_readers(mlp)) > 1 else gate)
