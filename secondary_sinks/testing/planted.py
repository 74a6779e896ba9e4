"""Planted models: small hooked models whose sinks are known, because they were put there by hand.

Ground truth for detection and causality. The residual stream has an axis for the sink direction,
one for tokens that attention copies from, a marker and an own axis per plant, and the rest for
ordinary content. A planted MLP neuron reads one marker and writes along the sink direction; heads
attend to keys by how much of the sink axis they have after the norm, and perhaps a little by
content. All else that attention and MLPs do moves content only, so a planted token's creation
layer, lifetime and writers are exactly those that were asked for. MLPs read the residual without
a norm: what a planted neuron writes does not depend on what others wrote, so parts simply add up,
also after an ablation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.errors import PlantError
from secondary_sinks.testing.empty_model import D_HEAD, N_HEADS, empty_model
from secondary_sinks.testing.plant_spec import ExpectedSink, Plant, check_plants, expected_sinks

D_CONTENT, N_ORDINARY = 48, 16
SINK, GIVER = 0, 1
"""Residual axes: the sink's, and the mark of tokens that attention copies from."""
SINK_DIM, GIVER_DIM, COPY_DIM = 4, 5, 7
"""Dimensions of a head: keys by sink axis, keys of givers, and the value that is copied. The
first four hold content, and are rotated where positions are rotary."""
MARK = 2.0
CONTENT_LENGTH = 0.9 * D_CONTENT**0.5
PRIMARY_SCORE = 4.5
"""Attention score of a token of strength 400, against 0 for ordinary ones."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlantedModel:
    """A planted model, the text to feed it, and the truth about both."""

    model: Any
    tokens: Int[Tensor, "pos"]
    plants: tuple[Plant, ...]
    direction: Float[Tensor, "d_model"]
    """Unit vector of the sink direction."""

    def expected_sinks(self) -> tuple[ExpectedSink, ...]:
        """The sinks that must be found in `tokens`, primaries first, then by position."""
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
    by_marks: bool = False,
    twins: int = 1,
    seed: int = 0,
) -> PlantedModel:
    """A model in which exactly `plants` happen, each at its position of the returned text.

    Ordinary tokens have random content of length about 6. `anisotropy` adds that much of one
    common direction to every token, and the sink direction leans towards it: at 30 nearly all
    tokens have a raw cosine above 0.9 with the primary. With `n_kv_heads` (2 or 4) queries are
    grouped, with `gated` the MLPs are gated. Learned positions carry the markers, so every
    planted token id also occurs `twins` times as an ordinary token: an id alone makes no sink.
    With "rotary" positions the ids carry them, and there are no twins. Queries are the same for
    all tokens, so that freezing them changes nothing; with `content_queries` they are not.
    `by_marks`: heads attend to planted tokens for their marks, in all layers alike, so what is
    written along the sink direction has no say in what they draw.

    Raises `PlantError` for plants that cannot be or have no clear truth.

    >>> planted = plant([Plant(pos=0, forming=(1,), strength=400.0), Plant(pos=20, forming=(3,))])
    >>> [(sink.pos, sink.kind, sink.l_start) for sink in planted.expected_sinks()]
    [(0, 'primary', 1), (20, 'secondary', 3)]
    """
    check_plants(plants, n_layers, n_pos)
    if positions not in ("learned", "rotary"):
        raise PlantError(f"positions are 'learned' or 'rotary'; got {positions!r}")
    if any(one.identity is not None for one in plants) and (gated or positions == "rotary"):
        raise PlantError("identity needs learned positions and MLPs without a gate")
    if by_marks and any(one.by == "attention" or one.attended is not None for one in plants):
        raise PlantError("with by_marks no plant is copied by attention, and none is `attended`")
    garden = _Garden(plants, anisotropy, seed)
    model = empty_model(
        d_model=garden.d_model,
        d_mlp=garden.n_plants + N_ORDINARY,
        d_vocab=garden.n_special + N_ORDINARY,
        n_layers=n_layers,
        n_pos=n_pos,
        n_kv_heads=n_kv_heads,
        gated=gated,
        positions=positions,
        seed=seed,
    )
    with torch.no_grad():
        tokens = garden.tokens(n_pos, int(twins) if positions == "learned" else 0)
        _embed(model, garden, tokens)
        residual = model(tokens[None], stop_at_layer=0)
        for layer, block in enumerate(model.blocks):
            _do_ordinary_work(block, garden, content_queries)
            if by_marks:
                _attend_to_marks(block, garden)
            residual = _write(block, layer, garden, residual)
        model.setup()  # names the hook points again, without those of the norms that are gone
        model.ln_final.w.fill_(1.0)
        model.unembed.W_U.copy_(0.1 * garden.randn(*model.unembed.W_U.shape))
    return PlantedModel(
        model=model, tokens=tokens, plants=tuple(plants), direction=garden.direction
    )


class _Garden:
    """Where everything is: axes of the residual, token ids, directions; and the chance in it."""

    def __init__(self, plants: Sequence[Plant], anisotropy: float, seed: int) -> None:
        self.plants, self.n_plants, self.anisotropy = tuple(plants), len(plants), anisotropy
        self.generator = torch.Generator().manual_seed(seed)
        self.givers = sorted({one.giver for one in plants if one.by == "attention"})
        self.n_special = max(16, self.n_plants + len(self.givers))
        first = 2 + 2 * self.n_plants
        self.content = slice(first, first + D_CONTENT)
        known = [index for index, one in enumerate(plants) if one.identity is not None]
        self.names = {index: self.content.stop + rank for rank, index in enumerate(known)}
        """Axis that tells the token id of a plant with a carried identity."""
        self.d_model = self.content.stop + len(known)
        self.common = torch.zeros(self.d_model)
        self.common[self.content] = torch.nn.functional.normalize(self.randn(D_CONTENT), dim=0)
        lean = anisotropy / (anisotropy**2 + CONTENT_LENGTH**2) ** 0.5
        self.direction = lean * self.common
        self.direction[SINK] = (1 - lean**2) ** 0.5

    def randn(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator)

    def marker(self, index: int) -> int:
        return 2 + 2 * index

    def own(self, index: int) -> int:
        """The axis of its own that a sideways plant grows along, or a chain or identity uses."""
        return 3 + 2 * index

    def grows(self, index: int) -> Float[Tensor, "d_model"]:
        """Where plant `index` grows to: the sink direction, or its own axis.

        Attention that shall take a grown plant for what it is knows it by a little of its own
        axis.
        """
        own, one = torch.eye(self.d_model)[self.own(index)], self.plants[index]
        known = 0.0 if one.attended is None else 0.1
        return own if one.sideways else self.direction + known * own

    def tokens(self, n_pos: int, twins: int) -> Int[Tensor, "pos"]:
        """Random ids; special positions have ids of their own, planted ones repeated as twins."""
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
        """What turns the sink axis after the norm into a score of 4.5 for a strength of 400."""
        state = 400.0 * self.direction + self.anisotropy * self.common
        return PRIMARY_SCORE * float(state.norm() / state[SINK]) / self.d_model**0.5


def _embed(model: Any, garden: _Garden, tokens: Int[Tensor, "pos"]) -> None:
    """Content by token; marks by position, or by token where positions are rotary."""
    embed, content = model.embed.W_E, garden.content
    embed[:, content] = 0.9 * garden.randn(len(embed), D_CONTENT)
    learned = hasattr(model, "pos_embed")
    marks = model.pos_embed.W_pos if learned else embed
    for index, one in enumerate(garden.plants):
        row = one.pos if learned else int(tokens[one.pos])
        marks[row, garden.marker(index)] = MARK
        own = embed[tokens[one.pos], content].clone()
        marks[row, content] -= (1 - one.content) * own
        if index in garden.names:
            embed[tokens[one.pos], garden.names[index]] = MARK
    for giver in garden.givers:
        marks[giver if learned else int(tokens[giver]), GIVER] = MARK
    embed += garden.anisotropy * garden.common


def _do_ordinary_work(block: Any, garden: _Garden, content_queries: bool) -> None:
    """Attend by the sink axis, perhaps a little by content; move and mix content weakly."""
    attention, mlp, content = block.attn, block.mlp, garden.content
    keys, values = _key_value_weights(attention)
    attention.b_Q[:, SINK_DIM] = D_HEAD**0.5
    keys[:, SINK, SINK_DIM] = garden.key_weight()
    for weights in (attention.W_Q, keys) if content_queries else ():
        weights[:, content, :4] = 0.08 * garden.randn(len(weights), D_CONTENT, 4)
    values[:, content] = 0.1 * garden.randn(len(values), D_CONTENT, D_HEAD)
    attention.W_O[:, :, content] = 0.1 * garden.randn(N_HEADS, D_HEAD, D_CONTENT)
    neurons = slice(garden.n_plants, None)
    common = garden.common[content]
    for weights in _readers(mlp):
        reads = 0.15 * garden.randn(D_CONTENT, N_ORDINARY)
        weights[content, neurons] = reads - common[:, None] * (common @ reads)
    mlp.W_out[neurons, content] = 0.02 * garden.randn(N_ORDINARY, D_CONTENT)


def _attend_to_marks(block: Any, garden: _Garden) -> None:
    """Scores that are 4.5 at every planted token, whatever else its residual holds."""
    block.ln1 = torch.nn.Identity()
    keys, _ = _key_value_weights(block.attn)
    keys[:, SINK, SINK_DIM] = 0.0
    positions = [one.pos for one in garden.plants]
    for index, pos in enumerate(positions):
        keys[:, garden.marker(index), SINK_DIM] = PRIMARY_SCORE / MARK / positions.count(pos)


def _key_value_weights(attention: Any) -> tuple[Tensor, Tensor]:
    """Weights per KV head, `[kv_head, d_model, d_head]`."""
    grouped = hasattr(attention, "_W_K")
    return (attention._W_K, attention._W_V) if grouped else (attention.W_K, attention.W_V)


def _readers(mlp: Any) -> list[Tensor]:
    """Weights that read the residual, `[d_model, neuron]`."""
    return [mlp.W_in, mlp.W_gate] if hasattr(mlp, "W_gate") else [mlp.W_in]


def _write(block: Any, layer: int, garden: _Garden, residual: Tensor) -> Tensor:
    """Set what is planted in a layer, so that it writes what it shall; gives its resid_post.

    What a head reads is divided by the residual's length; the text itself, walking along, tells
    by how much.
    """
    normed = block.ln1(residual)
    _attend_for_what_it_is(block.attn, garden, normed[0])
    for index, one in enumerate(garden.plants):
        if one.by == "attention" and layer in one.forming:
            _copy(block.attn, garden, index, normed)
    middle = residual + block.attn(normed, normed, normed)
    _form(block.mlp, layer, garden)
    return middle + block.mlp(middle)


def _attend_for_what_it_is(
    attention: Any, garden: _Garden, normed: Float[Tensor, "pos d_model"]
) -> None:
    """Keys of tokens that are attended, or passed by, whatever their sink axis says."""
    keys, _ = _key_value_weights(attention)
    for index, one in enumerate(garden.plants):
        if one.attended is not None:
            state = normed[one.pos]
            known_by = garden.own(index) if one.forming else garden.marker(index)
            wanted = PRIMARY_SCORE if one.attended else 0.0
            missing = wanted - garden.key_weight() * state[SINK]
            if state[known_by] != 0:
                keys[:, known_by, SINK_DIM] = missing / state[known_by]


def _copy(
    attention: Any, garden: _Garden, index: int, normed: Float[Tensor, "1 pos d_model"]
) -> None:
    """The last head takes the plant's token to its giver, and no other token there."""
    one, marker, head = garden.plants[index], garden.marker(index), N_HEADS - 1
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
    attention.W_O[head, COPY_DIM] = garden.grows(index)
    after = attention(normed, normed, normed)[0, one.pos]
    copied = (after - before) @ garden.grows(index) / garden.grows(index).square().sum()
    attention.W_O[head, COPY_DIM] *= one.strength / copied


def _form(mlp: Any, layer: int, garden: _Garden) -> None:
    """One neuron per plant that this layer changes: it reads the plant's mark and writes."""
    for index, one in enumerate(garden.plants):
        change, target, mark = one.change(layer), garden.grows(index), garden.marker(index)
        link = garden.own(index)
        if one.chain and layer == one.forming[0]:
            change, target = MARK, torch.eye(garden.d_model)[link]
        elif one.chain and layer == one.forming[1]:
            mark = link
        if one.identity == layer:
            change, target, mark = MARK, torch.eye(garden.d_model)[link], garden.names[index]
        elif one.identity is not None and layer in one.forming:
            mlp.W_in[link, index], mlp.b_in[index] = 1.0, -MARK
        if change and not (one.by == "attention" and layer in one.forming):
            for weights in _readers(mlp):
                weights[mark, index] = 1.0
            gate = mlp.act_fn(torch.tensor(MARK))
            mlp.W_out[index] = change * target / (gate * MARK if len(_readers(mlp)) > 1 else gate)
