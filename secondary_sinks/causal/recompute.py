"""Total effects: all positions from the edited token on, recomputed from the edited layer up.

Where the freed attention goes, how later tokens change, and what the model then predicts can only
be known by running later positions again. Earlier positions and layers below the edit stay clean.
In the layer of a cell's first edit only the edited tokens change, since all keys and values of that
layer are computed from residuals that no edit has reached. So, from the next layer on, each cell
runs next to the clean text as a *continuation*: the positions from its first edited token on,
which see the clean keys and values before them. Where the attention of the layer depends on the
edit (`Site.early`), its cell does so in that layer already. Cells that start at the same token
share a batch.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.causal.apply import EditedToken, LayerEdits, first_edits
from secondary_sinks.causal.batches import in_batches
from secondary_sinks.causal.check import Means, by_id, check_cells, means_given, positions_in
from secondary_sinks.causal.donors import Donors, resolve_donors
from secondary_sinks.causal.losses import losses
from secondary_sinks.causal.recomputed import Recomputed, RecomputedBuilder
from secondary_sinks.causal.recorded import Recorded, Seen
from secondary_sinks.causal.states import refuse_overflow, states_of
from secondary_sinks.errors import EditError
from secondary_sinks.layerwise.begin import layerwise_forward
from secondary_sinks.layerwise.protocol import Hook, HookedModel
from secondary_sinks.layerwise.visibility import refuse_unreplayable
from secondary_sinks.measures import norms, seeing_queries
from secondary_sinks.numbers import true_or_false
from secondary_sinks.observation import LayerView, iter_layers
from secondary_sinks.observation.layers import attention_paid_to, check_same_states, check_trace
from secondary_sinks.progress import Progress, shows_progress
from secondary_sinks.types import Cell, Edit, Trace, as_cells
from secondary_sinks.types.edit_sites import SITE_OF
from secondary_sinks.types.edits import positions_of

STATES_AT_ONCE = 1 << 28
"""Largest number of values (cells x positions x d_model) held between layers: 1 GiB in float32.
Cells that do not fit are run in further passes."""


@shows_progress
def recompute(
    model: HookedModel,
    trace: Trace,
    edits: Edit | Sequence[Edit | Sequence[Edit]],
    *,
    watch: Sequence[int] = (),
    others: Sequence[Trace] = (),
    reference: Means | None = None,
    loss: bool = True,
    by_query: bool = False,
    progress: Progress | None = None,
) -> Recomputed:
    """Total effects of edits, on all tokens: exactly those of a whole forward pass per cell.

    A cell is an edit, or several that are made together, of one token or of many. Results are kept
    for the edited tokens, the references of the trace, and the positions in `watch`. `loss=False`
    skips the unembedding: losses and divergences are then NaN. `by_query=True` also keeps the
    attention that each query pays to the primary (`[layer, cell, pos]`). A cell that changes
    nothing keeps the clean values, bit by bit. Other arguments, and errors, are those of `replay`.
    """
    for name, switch in (("loss", loss), ("by_query", by_query)):
        true_or_false(name, switch, EditError)
    check_trace(model, trace)
    cells = as_cells(edits)
    known, means = by_id(model, others), means_given(reference)
    check_cells(model, trace, cells, known, means)
    refuse_unreplayable(model)
    watched = watched_of(trace, cells, watch)
    passes = passes_of(trace, cells)
    result = RecomputedBuilder(trace, cells, watched, by_query)
    for done, numbers in enumerate(passes):
        ready = done * len(trace.norm), len(passes) * len(trace.norm)
        one_pass = RecomputePass(model, trace, numbers, cells, known, means, result)
        one_pass.run(ready, progress)
        if loss:
            one_pass.predict()
    return result.recomputed()


def watched_of(trace: Trace, cells: Sequence[Cell], watch: Sequence[int]) -> tuple[int, ...]:
    """Positions whose results are kept: edited tokens, references, and those in `watch`.

    Of an edit of attention these are the key, and the query if there is one only: a result for each
    of all later queries would need memory that grows with the square of the text.
    """
    asked = positions_in("watch", watch, len(trace.tokens))
    edited = {pos for cell in cells for edit in cell for pos in _measured(edit)}
    return tuple(sorted(edited | set(asked) | set(trace.reference.tolist())))


def _measured(edit: Edit) -> set[int]:
    """Tokens whose results are kept: those edited, but of attention the key and a single query."""
    if edit.key is None:
        return set(edit.positions)
    return {edit.key, *(edit.positions if len(edit.positions) == 1 else ())}


def _start(cell: Cell) -> int:
    return positions_of(cell)[0]


def passes_of(trace: Trace, cells: Sequence[Cell], copies: int = 1) -> list[list[int]]:
    """Cells in groups that fit into memory for one pass, sorted by their first edited position.

    `copies` is the number of activations that are kept of each cell.
    """
    (_, n_pos), width = trace.norm.shape, trace.typical.shape[1]
    passes: list[list[int]] = []
    room = 0
    for number in sorted(range(len(cells)), key=lambda number: _start(cells[number])):
        size = (n_pos - _start(cells[number])) * width * copies
        if size > room:
            passes.append([])
            room = STATES_AT_ONCE
        passes[-1].append(number)
        room -= size
    return passes


class RecomputePass:
    """The cells of one pass, taken through the layers."""

    def __init__(
        self,
        model: HookedModel,
        trace: Trace,
        numbers: Sequence[int],
        cells: Sequence[Cell],
        others: Mapping[str, Trace],
        reference: Means,
        table: RecomputedBuilder,
        recorded: Recorded | None = None,
    ) -> None:
        """Nothing has been run yet; `recorded` takes further activations down."""
        self.model, self.trace, self.table, self.numbers = model, trace, table, numbers
        self.cells = {number: resolve_donors(trace, cells[number]) for number in numbers}
        self.donors = Donors(model, trace, list(self.cells.values()), others, reference)
        self.groups: dict[int, list[int]] = {}
        for number, cell in self.cells.items():
            self.groups.setdefault(_start(cell), []).append(number)
        self.size, self.recorded = len(numbers), recorded or Recorded(model, ())
        self.states: dict[int, Float[Tensor, "suffix d_model"]] = {}
        self.beginning: set[int] = set()
        self.clean: Float[Tensor, "pos d_model"]

    def run(self, ready: tuple[int, int], progress: Progress | None) -> None:
        """Take all cells through all layers."""
        seen: Seen = {}

        def hooks(layer: int) -> list[Hook]:
            seen.clear()
            return [*self.donors.hooks(layer), *self.recorded.hooks(layer, seen)]

        needed: dict[str, Any] = {"denominators": True, "received": False}
        for view in iter_layers(self.model, self.trace.tokens, **needed, hooks=hooks):
            check_same_states(view, self.trace)
            self.recorded.note_clean(seen)
            self.donors.finish_layer(view.layer)
            self._begin_early(view)
            unchanged = {n: cell for n, cell in self.cells.items() if n not in self.states}
            if self.states:
                self._step(view)
            for one in first_edits(self.model, view, unchanged, self.donors, self.recorded):
                self._enter(view, one)
            self.clean = view.resid_post
            if progress:
                progress(ready[0] + view.layer + 1, ready[1])
            del view

    def _begin_early(self, view: LayerView) -> None:
        """Begin the continuations of cells on whose edits the attention of this layer depends."""
        self.beginning = {
            number
            for number, cell in self.cells.items()
            if number not in self.states
            and any(view.layer in edit.layers and SITE_OF[edit.site].early for edit in cell)
        }
        for number in self.beginning:
            self.states[number] = view.resid_pre[_start(self.cells[number]) :]

    def _step(self, view: LayerView) -> None:
        """Take the cells that have changed through one layer."""
        paid = attention_paid_to(view, self.table.watch)
        for start, group in self.groups.items():
            active = [number for number in group if number in self.states]
            before = paid[:start].sum(0).cpu()
            run = partial(self._batch, view, start, before)
            self.size = in_batches(active, self.size, run)

    def _batch(
        self, view: LayerView, start: int, before: Float[Tensor, "watch"], batch: list[int]
    ) -> None:
        edits = LayerEdits(
            self.model, view.layer, [self.cells[number] for number in batch], self.donors
        )
        states = torch.stack([self.states[number] for number in batch])
        watch = self.table.watch
        seen: Seen = {}
        hooks = [*edits.on_continuations(start), *self.recorded.hooks(view.layer, seen)]
        after = view.run.run_continuations(states, hooks, watch)
        changed = edits.changed
        cells = [self.cells[number] for number in batch]
        refuse_overflow(view.layer, cells, after.resid_post)
        for index, number in enumerate(batch):
            if number in self.beginning and index not in changed:
                del self.states[number]  # still clean, bit by bit
                continue
            self.recorded.note(number, index, seen)
            self.states[number] = after.resid_post[index].clone()
            received = before + after.received[index, list(watch)].cpu()
            self._note(view, number, start, after.keys[index], received)
            self._note_paid(view.layer, number, after.paid[index])

    def _enter(self, view: LayerView, changed: EditedToken) -> None:
        """Put an edited token into the continuation of its cell, which begins at this layer."""
        number, start = changed.number, _start(self.cells[changed.number])
        refuse_overflow(view.layer, [self.cells[number]], changed.resid_post[None])
        state = self.states.setdefault(number, view.resid_post[start:].clone())
        state[changed.pos - start] = changed.resid_post
        self.recorded.enter(number, changed.pos, changed.rows)
        column = self.table.watch.index(changed.pos)
        key_norm = norms(view.run.keys[changed.pos]).mean()  # still clean: from the layer's input
        states = states_of(self.trace, view.layer, changed.resid_post, key_norm)
        for name, value in states.items():
            self.table.columns[name][view.layer, number, column] = value

    def _note(
        self,
        view: LayerView,
        number: int,
        start: int,
        keys: Float[Tensor, "suffix kv_head d_head"],
        received: Float[Tensor, "watch"],
    ) -> None:
        watch, columns = torch.tensor(self.table.watch), self.table.columns
        later = watch >= start
        rows = (watch[later] - start).to(keys.device)
        states = states_of(
            self.trace, view.layer, self.states[number][rows], norms(keys[rows]).mean(-1)
        )
        for name, value in states.items():
            columns[name][view.layer, number, later] = value
        seen = seeing_queries(len(view.resid_pre), view.run.window)[watch]
        columns["mass"][view.layer, number] = received / seen

    def _note_paid(self, layer: int, number: int, paid: Float[Tensor, "suffix watch"]) -> None:
        """Store the attention that queries pay to the reference of the state this block reads."""
        if self.table.paid_to_primary is None:
            return
        column = self.table.watch.index(int(self.trace.reference[max(layer - 1, 0)]))
        row = self.table.paid_to_primary[layer, number, -len(paid) :]
        row.copy_(paid[:, column].where(row.isfinite(), torch.nan))

    def predict(self) -> None:
        """Losses and divergences of all cells, after the last layer."""
        table, tokens = self.table, self.trace.tokens
        found = losses(layerwise_forward(self.model, tokens[:1]), tokens, self.clean, self.states)
        table.loss_clean[:-1] = found.clean
        for number in self.numbers:
            start = _start(self.cells[number])
            table.loss[number], table.kl[number, :-1] = table.loss_clean, 0.0
            if number in self.states:
                table.loss[number, start:-1] = found.edited[number]
                table.kl[number, start:-1] = found.kl[number]
