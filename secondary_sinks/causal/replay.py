"""Exact replay: one replica of the edited token per edit, all edits in one walk through the model.

Attention is causal and an edit touches one position p, so the positions before p keep the keys
and values of the clean run, and the residual of p itself depends on nothing later. While the
clean text walks through a layer, every edit at that layer adds one replica of its token to a
batch; from there on the batch walks along, each replica seeing the clean keys before p and
itself. An edit at layer l costs nothing below l.

For the attention that later tokens pay, the replica's key replaces the clean one in their
softmax, with their own queries as in the clean run: the *direct* effect.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.causal.edits import apply_edits, check_edits
from secondary_sinks.errors import EditError
from secondary_sinks.measures import (
    alignment,
    attention_to_replaced_key,
    centred_alignment,
    norms,
    seeing_queries,
)
from secondary_sinks.models.layers import hook_name, refuse_unreplicable
from secondary_sinks.models.protocol import HookedModel
from secondary_sinks.observation import LayerView, walk
from secondary_sinks.types import Edit, Trace

SCORES_AT_ONCE = 1 << 24
"""Attention scores (heads x positions x cells) of one batch: bounds the memory of a replay."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Replay:
    """The edited token by layer and edit; layers below an edit hold the clean values."""

    edits: tuple[Edit, ...]
    norm: Float[Tensor, "layer cell"]
    deviation_ratio: Float[Tensor, "layer cell"]
    alignment: Float[Tensor, "layer cell"]
    alignment_centred: Float[Tensor, "layer cell"]
    key_norm: Float[Tensor, "layer cell"]
    mass: Float[Tensor, "layer cell"]
    """Direct effect: attention mass of the token with the queries of later tokens frozen."""


Progress = Callable[[int, int], None]


def replay(
    model: HookedModel,
    trace: Trace,
    edits: Sequence[Edit],
    *,
    progress: Progress | None = None,
) -> Replay:
    """Run every edit, each alone, and measure what becomes of its token at every layer.

    `trace` must be of `model`: its tokens are walked through again, and its primary, typical
    token and medians are what the edited states are measured against. `progress` is called with
    (layers done, layers). Raises `EditError` for edits that are not possible.
    """
    n_layers, n_pos = trace.norm.shape
    check_edits(edits, n_layers, n_pos)
    refuse_unreplicable(model)
    columns = _Columns(trace, edits)
    states: dict[int, Tensor] = {}
    for view in walk(model, trace.tokens, denominators=True):
        _check_same(view, trace)
        entering = [cell for cell, edit in enumerate(edits) if edit.layer == view.layer]
        states.update({cell: view.resid_pre[edits[cell].pos] for cell in entering})
        cells = list(states)
        batch = max(1, SCORES_AT_ONCE // (model.cfg.n_heads * n_pos))
        for start in range(0, len(cells), batch):
            _step(view, edits, cells[start : start + batch], states, columns)
        if progress:
            progress(view.layer + 1, n_layers)
    return columns.result()


def _check_same(view: LayerView, trace: Trace) -> None:
    """The walk must see what the trace saw: same weights, same tokens, no hooks."""
    measured, seen = trace.norm[view.layer], norms(view.resid_post).cpu()
    tolerance = 1e-3 if view.resid_post.dtype == torch.float32 else 5e-2
    if not torch.allclose(seen, measured, rtol=tolerance, atol=tolerance):
        raise EditError(
            f"the trace is of another model: norms differ from layer {view.layer} on; "
            "observe the text with this model"
        )


def _step(
    view: LayerView,
    edits: Sequence[Edit],
    cells: list[int],
    states: dict[int, Tensor],
    columns: "_Columns",
) -> None:
    """Take some cells through one layer and note what they have become."""
    positions = torch.tensor([edits[cell].pos for cell in cells])
    kinds = [edits[cell].kind if edits[cell].layer == view.layer else "none" for cell in cells]

    def edit_rows(mlp_out: Tensor, hook: Any) -> Tensor:
        return apply_edits(mlp_out[0], kinds, view)[None]

    before = torch.stack([states[cell] for cell in cells])
    hooks = [(hook_name(view.layer, "mlp_out"), edit_rows)]
    after = view.run.run_replicas(before, positions, hooks)
    states.update(zip(cells, after.resid_post, strict=True))
    mass = direct_mass(view, after.keys, after.self_attention, positions)
    columns.note(view.layer, cells, after.resid_post, norms(after.keys).mean(-1), mass)


def direct_mass(
    view: LayerView,
    keys: Float[Tensor, "cell kv_head d_head"],
    self_attention: Float[Tensor, "cell head"],
    positions: Int[Tensor, "cell"],
) -> Float[Tensor, "cell"]:
    """Attention mass of each replica, were it there instead of the clean token.

    Queries of later tokens are frozen; the token's own query is the edited one.
    """
    assert view.denominator is not None
    n_pos, device = len(view.queries), view.queries.device
    positions = positions.to(device)
    old_keys = view.run.keys[positions]
    new, old = (view.run.scores(view.queries, k).float() for k in (keys, old_keys))
    paid = attention_to_replaced_key(new, view.denominator.without(positions, old))
    reach = view.run.window
    later = torch.arange(n_pos, device=device)[:, None] - positions
    sees = (later > 0) & (later < (reach or n_pos))
    # Where a query sees nothing but itself, `without` has no meaning and gives NaN.
    received = paid.mean(0).where(sees, 0.0).sum(0) + self_attention.mean(-1)
    return received / seeing_queries(n_pos, reach).to(device)[positions]


class _Columns:
    """The table that a replay fills: clean values first, then what the replicas show."""

    def __init__(self, trace: Trace, edits: Sequence[Edit]) -> None:
        positions = [edit.pos for edit in edits]
        names = ("norm", "deviation_ratio", "alignment", "alignment_centred", "key_norm", "mass")
        self.trace, self.edits = trace, tuple(edits)
        self.columns = {name: getattr(trace, name)[:, positions].clone() for name in names}

    def note(
        self, layer: int, cells: list[int], resid_post: Tensor, key_norm: Tensor, mass: Tensor
    ) -> None:
        typical = self.trace.typical[layer]
        primary = self.trace.primary_resid[layer]
        resid_post = resid_post.float().cpu()
        deviation = norms(resid_post - typical) / self.trace.median_deviation[layer]
        values = {
            "norm": norms(resid_post),
            "deviation_ratio": deviation,
            "alignment": alignment(resid_post, primary),
            "alignment_centred": centred_alignment(resid_post, primary, typical),
            "key_norm": key_norm.cpu(),
            "mass": mass.cpu(),
        }
        for name, value in values.items():
            self.columns[name][layer, cells] = value

    def result(self) -> Replay:
        return Replay(edits=self.edits, **self.columns)
