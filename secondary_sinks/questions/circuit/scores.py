"""What makes an attention score: parts of q.k that add up to it exactly.

The score is the mean over the queries after a key, before any soft-cap, per head. It is linear in
the key, so that the key's parts give parts of the score:

    score = bias + primary + rest + position

A key is made from x, the input of the attention at its token: k = g * (x W_K + b_K), where g is the
gain of a norm of keys, held fixed (1 without such a norm). x is split into its component along the
primary's input of the same attention, and what is perpendicular to that. *bias*, *primary* and
*rest* are the scores of b_K, of the component and of the perpendicular part, with the key at the
position of each query, where a rotary embedding turns nothing. *position* is the score as it is
minus the score there: 0 in models without rotary positions, whose positions are part of x.

A second split says what the key's length adds: score x (1 - |k control| / |k|) is the score minus
what it would be at the length of the control's key.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.layerwise.submodules import keys_of
from secondary_sinks.measures.hook_names import hook_name
from secondary_sinks.observation import LayerView

PARTS = ("bias", "primary", "rest")
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}
"""Largest difference between a key and the sum of its parts, relative to the longest of them; 0.05
in half precision. Beyond it the parts are NaN: this attention makes its keys in another way."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """Mean scores of later queries on the watched keys, and their parts; per head."""

    score: Float[Tensor, "watch head"]
    parts: Float[Tensor, "part watch head"]
    """In the order of `PARTS`; NaN where the parts of a key could not be told apart."""
    position: Float[Tensor, "watch head"]
    key_norm: Float[Tensor, "watch head"]
    """Length of the key that the scores use."""


def scores_of(
    view: LayerView,
    inputs: Float[Tensor, "watch d_model"],
    watch: Int[Tensor, "watch"],
    primary: int,
) -> Scores:
    """Scores on the watched keys in one layer; `primary` is the index of the primary among them.

    `inputs` are the inputs of the attention at the watched tokens.
    """
    run, device = view.run, view.queries.device
    group = view.queries.shape[1] // run.keys.shape[1]
    watch = watch.to(device)
    used = run.keys[watch].float()
    unrotated, gain = _rotate_back(view, used, watch)
    known = _parts(view, inputs.to(device), watch, primary) / gain
    known = known.where(_adds_up(view, known, unrotated / gain), torch.nan)
    as_is, in_place = (
        _mean_over_later(view, queries, watch)
        for queries in (view.queries.float(), queries_in_place(view))
    )

    def dot(queries: Tensor, keys: Tensor) -> Tensor:
        return (queries * keys.repeat_interleave(group, dim=-2)).sum(-1).cpu() * run.scale

    score = dot(as_is, used)
    return Scores(
        score=score,
        parts=torch.stack([dot(in_place, part) for part in known]),
        position=score - dot(in_place, unrotated / gain),
        key_norm=used.norm(dim=-1).repeat_interleave(group, dim=-1).cpu(),
    )


def queries_in_place(view: LayerView) -> Float[Tensor, "pos head d_head"]:
    """Queries whose product with a key *before* rotation is the score at their own position."""
    positions = torch.arange(len(view.queries), device=view.queries.device)
    return view.run.rotate(view.queries, positions, back=True).float()


def _rotate_back(
    view: LayerView, keys: Float[Tensor, "*part watch kv_head d_head"], watch: Int[Tensor, "watch"]
) -> tuple[Tensor, Tensor]:
    """Keys turned back, and the factor by which rotation there and back multiplies each number.

    The factor is 1, unless the rope also rescales.
    """
    flat = keys.reshape(-1, *keys.shape[-2:]).to(view.queries.dtype)
    at = watch.repeat(len(flat) // len(watch))
    turned = view.run.rotate(flat, at, back=True).float()
    ones = torch.ones_like(flat[: len(watch)])
    gain = view.run.rotate(view.run.rotate(ones, watch), watch, back=True).float()
    return turned.view(keys.shape), gain


def _parts(
    view: LayerView,
    inputs: Float[Tensor, "watch d_model"],
    watch: Int[Tensor, "watch"],
    primary: int,
) -> Float[Tensor, "part watch kv_head d_head"]:
    """The parts of the watched keys, turned back: gain of the rope included."""
    weights, bias = keys_of(view.run.model, view.layer, view.run.keys.shape[1])
    inputs, weights = inputs.float(), weights.float()
    along = inputs[primary] / inputs[primary].norm()
    component = (inputs @ along)[:, None] * along
    raw = torch.stack(
        [
            bias.float().expand(len(inputs), -1, -1),
            torch.einsum("wm,kmd->wkd", component, weights),
            torch.einsum("wm,kmd->wkd", inputs - component, weights),
        ]
    )
    return _rotate_back(view, _as_used(view, raw, watch), watch)[0]


def _as_used(
    view: LayerView, raw: Float[Tensor, "part watch kv_head d_head"], watch: Int[Tensor, "watch"]
) -> Float[Tensor, "part watch kv_head d_head"]:
    """Parts of keys after norm and rotation, with the norm's gain held fixed.

    The layer itself norms and rotates them. Each part is first brought to the length of the whole
    key, head by head, so that the norm, which sees lengths only, multiplies it by the same gain.
    Parts that cancel exactly make a key without length; they are sent as very short ones.
    """
    shortest = torch.finfo(raw.dtype).tiny ** 0.5
    length = raw.sum(0).norm(dim=-1, keepdim=True).clamp(min=shortest)
    own = raw.norm(dim=-1, keepdim=True)
    sent = raw * (length / own).where(own > 0, 0.0)
    flat = sent.flatten(0, 1)

    def put(keys: Tensor, hook: object) -> Tensor:
        return flat.reshape(keys.shape).to(keys.dtype)

    hooks = [(hook_name(view.layer, "k"), put)]
    at = watch.repeat(len(raw))
    made = view.run.run_replayed(view.resid_pre[at], at, hooks).keys
    return made.float().view(raw.shape) * (own / length)


def _adds_up(view: LayerView, known: Tensor, key: Tensor) -> Tensor:
    """Whether the parts of each key add up to it, `[watch, 1, 1]`."""
    most = TOLERANCE.get(view.queries.dtype, 5e-2)
    error = (known.sum(0) - key).flatten(1).norm(dim=1)
    size = torch.stack([key, *known]).flatten(2).norm(dim=2).amax(0)
    return (error <= most * size)[:, None, None]


def _mean_over_later(
    view: LayerView, queries: Float[Tensor, "pos head d_head"], watch: Int[Tensor, "watch"]
) -> Float[Tensor, "watch head d_head"]:
    """Mean of the queries after each watched key that see it; NaN without any."""
    behind = torch.arange(len(queries), device=queries.device) - watch[:, None]
    sees = (behind > 0) & (behind < (view.window or len(queries)))
    weights = sees.float() / sees.sum(1, keepdim=True)
    return torch.einsum("wp,phd->whd", weights, queries)
