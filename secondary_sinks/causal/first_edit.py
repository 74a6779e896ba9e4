"""The layer of the first edit of each cell.

There a cell differs from the clean text only in its edited tokens, so only these are replayed,
each on its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.causal.apply import LayerEdits
from secondary_sinks.causal.batches import in_batches, replayed_at_once
from secondary_sinks.causal.donors import Donors
from secondary_sinks.causal.recorded import Recorded, Seen
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.observation import LayerView
from secondary_sinks.types import Cell, Edit


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EditedToken:
    """A token that an edit has changed."""

    number: int
    """Index of the cell."""
    pos: int
    resid_post: Float[Tensor, "d_model"]
    rows: dict[str, Tensor]
    """Its recorded activations in this layer, by hook name."""


def first_edits(
    model: HookedModel,
    view: LayerView,
    cells: Mapping[int, Cell],
    donors: Donors,
    recorded: Recorded,
) -> list[EditedToken]:
    """Every token that an edit at this layer changes; `cells` maps indices to still clean cells."""
    here = {
        number: [edit for edit in cell if view.layer in edit.layers]
        for number, cell in cells.items()
    }
    tokens = [(number, pos) for number, edits in here.items() for pos in _positions(edits)]
    found: list[EditedToken] = []

    def run(batch: list[tuple[int, int]]) -> None:
        edits = LayerEdits(
            model, view.layer, [_of(here[number], pos) for number, pos in batch], donors
        )
        positions = torch.tensor([pos for _, pos in batch])
        clean = view.resid_pre[positions.to(view.resid_pre.device)]
        seen: Seen = {}
        hooks = [*edits.on_replayed(), *recorded.hooks(view.layer, seen)]
        after = view.run.run_replayed(clean, positions, hooks)
        for index in sorted(edits.changed):
            number, pos = batch[index]
            rows = {name: part[0, index] for name, (part,) in seen.items()}
            resid_post = after.resid_post[index]
            found.append(EditedToken(number=number, pos=pos, resid_post=resid_post, rows=rows))

    in_batches(tokens, replayed_at_once(model, len(view.resid_pre)), run)
    return found


def _positions(edits: Sequence[Edit]) -> list[int]:
    return sorted({pos for edit in edits for pos in edit.positions})


def _of(edits: Sequence[Edit], pos: int) -> Cell:
    """The edits of one token, each reduced to that token."""
    return tuple(replace(edit, pos=pos) for edit in edits if pos in edit.positions)
