"""Hooks that make the edits of some cells at one layer, on replayed tokens or continuations."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.causal.batches import in_batches, replayed_at_once
from secondary_sinks.causal.donors import Donors, shaped
from secondary_sinks.causal.recorded import Recorded, Seen
from secondary_sinks.errors import EditError
from secondary_sinks.layerwise.protocol import Hook, HookedModel
from secondary_sinks.measures.hook_names import hook_name
from secondary_sinks.observation import LayerView
from secondary_sinks.types import Cell, Edit
from secondary_sinks.types.edit_kinds import KINDS, Given, Row
from secondary_sinks.types.edit_sites import ALL_SITES, SITE_OF
from secondary_sinks.types.edits import positions_of

Target = tuple[int, Edit, int]
"""(index of the cell in its batch, edit, position)."""
Locate = Callable[[int, int, int, int], tuple[int, int] | None]
"""(cell index, position, columns in earlier chunks, columns in this chunk) -> row and column in
the tensor, or None if the position is not in this chunk."""


class LayerEdits:
    """Hooks of one layer for a batch of cells; records which cells were changed."""

    def __init__(
        self, model: HookedModel, layer: int, cells: Sequence[Cell], donors: Donors
    ) -> None:
        """Sort the edits at this layer by site, in the order in which they are made."""
        self.model, self.layer, self.donors = model, layer, donors
        self._changed: set[int] = set()
        self._fired: set[str] = set()
        self._targets: dict[str, list[Target]] = {}
        for number, cell in enumerate(cells):
            for edit in cell:
                if layer in edit.layers:
                    targets = [(number, edit, pos) for pos in edit.positions]
                    self._targets.setdefault(edit.site, []).extend(targets)

    @property
    def changed(self) -> set[int]:
        """Indices of the cells in which an edit changed anything, even one bit.

        To be read after the run. Raises `EditError` for a site whose hook point has not fired.
        """
        for site in self._targets.keys() - self._fired:
            raise EditError(
                f"hook point {hook_name(self.layer, site)!r} of site {site!r} never fires in this "
                "model",
                "expected another site, such as resid_pre or mlp_out",
            )
        return self._changed

    def on_replayed(self) -> list[Hook]:
        """Hooks for activations of replayed tokens, `[1, cell, ...]`."""
        return self._hooks(lambda number, pos, done, now: (0, number))

    def on_continuations(self, start: int) -> list[Hook]:
        """Hooks for continuations from position `start` on, in chunks of `[cell, query, ...]`."""

        def locate(number: int, pos: int, done: int, now: int) -> tuple[int, int] | None:
            column = pos - start - done
            return (number, column) if 0 <= column < now else None

        return self._hooks(locate)

    def _hooks(self, locate: Locate) -> list[Hook]:
        sites = [site for site in ALL_SITES if site in self._targets]
        return [(hook_name(self.layer, site), self._hook(site, locate)) for site in sites]

    def _hook(self, site: str, locate: Locate) -> Callable[..., Tensor]:
        done = 0

        def hook(tensor: Tensor, hook: Any) -> Tensor:
            nonlocal done
            self._fired.add(site)
            new = tensor.clone()
            rows = new.transpose(1, 2) if SITE_OF[site].of_pair else new
            now = rows.shape[1]
            for number, edit, pos in self._targets[site]:
                place = locate(number, pos, done, now)
                if place is not None:
                    part = rows[place] if edit.key is None else rows[place][:, edit.key]
                    row = shaped(self.model, edit.site, part)
                    result = edited(row, edit, self.donors.given(edit, pos, self.layer, row.device))
                    if not torch.equal(result, row):
                        self._changed.add(number)
                        part.copy_(result.reshape(part.shape))
            done += now
            return new

        return hook


def edited(row: Row, edit: Edit, given: Given) -> Row:
    """The edited activation of one token at one site; `row` itself is not changed.

    Computed in float32 and returned in the dtype of `row`. Bit-equal to `row` if the edit changes
    nothing.
    """
    units = list(edit.units)
    part = row[units] if units else row
    given_row = given.row if given.row is None or not units else given.row[units]
    new = KINDS[edit.kind].apply(part.float(), replace(given, row=given_row)).to(row.dtype)
    if not units:
        return new.expand_as(row)
    whole = row.clone()
    whole[units] = new
    return whole


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
    tokens = [(number, pos) for number, edits in here.items() for pos in positions_of(edits)]
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

    in_batches(tokens, replayed_at_once(model, len(view.resid_pre), patterns=True), run)
    return found


def _of(edits: Sequence[Edit], pos: int) -> Cell:
    """The edits of one token, each reduced to that token."""
    return tuple(replace(edit, pos=pos) for edit in edits if pos in edit.positions)
