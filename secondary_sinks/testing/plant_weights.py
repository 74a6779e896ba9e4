"""Set the weights of a planted model: ordinary ones, then those that write the plants."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.testing.plant_layout import (
    COPY_DIM,
    D_CONTENT,
    D_HEAD,
    GIVER,
    GIVER_DIM,
    MARK,
    N_HEADS,
    N_ORDINARY,
    PRIMARY_SCORE,
    SINK,
    SINK_DIM,
    Layout,
)


def set_embeddings(model: Any, layout: Layout, tokens: Int[Tensor, "pos"]) -> None:
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


def set_ordinary_weights(block: Any, layout: Layout, content_queries: bool) -> None:
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


def set_planted_weights(block: Any, layer: int, layout: Layout, residual: Tensor) -> Tensor:
    """Set the planted weights of a layer; returns its resid_post.

    Heads read the residual after a norm; the scale of that norm is taken from the text's own
    residual.
    """
    normed = block.ln1(residual)
    _set_attended(block.attn, layout, normed[0])
    for index, one in enumerate(layout.plants):
        if layer in one.copied_at:
            _set_copying_head(block.attn, layout, index, normed)
    middle = residual + block.attn(normed, normed, normed)
    _set_neurons(block.mlp, layer, layout)
    return middle + block.mlp(middle)


def _set_attended(attention: Any, layout: Layout, normed: Float[Tensor, "pos d_model"]) -> None:
    """Keys and values of plants by their own axis: who attends to them, and what they tell."""
    keys, values = _key_value_weights(attention)
    for index, one in enumerate(layout.plants):
        if not one.has_own_axis:
            continue
        state = normed[one.pos]
        axis = layout.own_axis(index) if one.forming else layout.marker(index)
        if state[axis] == 0:
            continue
        natural = layout.key_weight() * state[SINK]
        for head in range(len(keys)):
            wanted = natural if one.attended is None else PRIMARY_SCORE * one.attended
            read = one.read_by is None or head in one.read_by
            keys[head, axis, SINK_DIM] = ((wanted if read else 0.0) - natural) / state[axis]
        values[:, axis] = _value(attention.W_O, len(values)) * one.value / state[axis]


def _value(
    w_o: Float[Tensor, "head d_head d_model"], n_kv_heads: int
) -> Float[Tensor, "kv_head d_head"]:
    """Values of which the heads that share them write a length of one, in the mean over heads."""
    chance = torch.Generator().manual_seed(0)
    drawn = torch.randn(w_o.shape[1], generator=chance)
    written = (drawn @ w_o).norm(dim=-1).unflatten(0, (n_kv_heads, -1)).mean(1)
    return drawn / written[:, None]


def _set_copying_head(
    attention: Any, layout: Layout, index: int, normed: Float[Tensor, "1 pos d_model"]
) -> None:
    """The last head copies from the giver to the plant's token, and to no other token."""
    one, marker, head = layout.plants[index], layout.marker(index), N_HEADS - 1
    keys, values = _key_value_weights(attention)
    group = N_HEADS // len(keys)
    target, amount = _copied(layout, index)
    certain = (one.trigger_score if one.trigger else 20.0) * D_HEAD**0.5
    attention.W_Q[head, marker, GIVER_DIM] = 2 * certain / normed[0, one.pos, marker]
    attention.b_Q[head, GIVER_DIM] = -certain
    keys[-1, GIVER, GIVER_DIM] = 1 / normed[0, one.giver, GIVER]
    values[-1, :, COPY_DIM] = 0.0
    values[-1, GIVER, COPY_DIM] = 1.0
    attention.W_O[-group:, COPY_DIM] = 0.0
    before = attention(normed, normed, normed)[0, one.pos]
    attention.W_O[head, COPY_DIM] = target
    after = attention(normed, normed, normed)[0, one.pos]
    copied = (after - before) @ target / target.square().sum()
    attention.W_O[head, COPY_DIM] *= amount / copied


def _copied(layout: Layout, index: int) -> tuple[Float[Tensor, "d_model"], float]:
    """What a head writes at a plant's token: all of its strength, or a part of what triggers it."""
    one = layout.plants[index]
    if one.by == "attention":
        return layout.written_along(index), one.strength
    return torch.eye(layout.d_model)[layout.own_axis(index)], MARK / len(one.trigger)


def _set_neurons(mlp: Any, layer: int, layout: Layout) -> None:
    """One neuron for each plant that this layer writes: it reads the plant's marker."""
    for index, one in enumerate(layout.plants):
        change, target, mark = one.change(layer), layout.written_along(index), layout.marker(index)
        link = layout.own_axis(index)
        if one.chain and layer == one.forming[0]:
            change, target = MARK, torch.eye(layout.d_model)[link]
        elif (one.chain and layer == one.forming[1]) or one.trigger:
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


def attend_to_marks(block: Any, layout: Layout) -> None:
    """Scores of 4.5 at every planted token, whatever else its residual holds."""
    block.ln1 = torch.nn.Identity()
    keys, _ = _key_value_weights(block.attn)
    keys[:, SINK, SINK_DIM] = 0.0
    positions = [one.pos for one in layout.plants]
    for index, pos in enumerate(positions):
        keys[:, layout.marker(index), SINK_DIM] = PRIMARY_SCORE / MARK / positions.count(pos)
