"""Exact replay: one replayed token per cell, all cells in one pass through the model.

Attention is causal and an edit touches one position p, so the positions before p keep the keys
and values of the clean run, and the residual of p itself depends on nothing later. When the clean
pass reaches the layer of a cell's first edit, a copy of the cell's token joins a batch of replayed
tokens. From there on the batch runs through the layers with the clean text; each replayed token
attends to the clean keys before p and to itself. An edit at layer l costs nothing below l. A cell
that has changed nothing keeps the clean values, bit by bit.

For the attention that later tokens pay, the key of the replayed token replaces the clean one in
their softmax, with their own queries as in the clean run: the *direct* effect.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.causal.apply import LayerEdits
from secondary_sinks.causal.batches import in_batches, replayed_at_once
from secondary_sinks.causal.check import Means, by_id, check_cells, means_given, positions_in
from secondary_sinks.causal.direct import direct_mass, direct_masses
from secondary_sinks.causal.donors import Donors, resolve_donors
from secondary_sinks.causal.losses import divergence
from secondary_sinks.causal.replayed import Replay
from secondary_sinks.causal.states import STATES, refuse_overflow, states_of
from secondary_sinks.errors import EditError, TraceError
from secondary_sinks.layerwise.begin import layerwise_forward
from secondary_sinks.layerwise.interface import ReplayedTokens
from secondary_sinks.layerwise.protocol import Hook, HookedModel, keep_last
from secondary_sinks.layerwise.visibility import refuse_unreplayable
from secondary_sinks.measures import norms
from secondary_sinks.measures.hook_names import hook_name
from secondary_sinks.numbers import true_or_false
from secondary_sinks.observation import LayerView, iter_layers
from secondary_sinks.observation.cached_pass import CachedPass
from secondary_sinks.observation.layers import check_same_states, check_trace
from secondary_sinks.progress import Progress, shows_progress
from secondary_sinks.types import Cell, Edit, Trace, as_cells, format_layers
from secondary_sinks.types.edit_sites import SITE_OF
from secondary_sinks.types.edits import positions_of

LayerHooks = Callable[[int], list[Hook]]


@shows_progress
def replay(
    model: HookedModel,
    trace: Trace,
    edits: Edit | Sequence[Edit | Sequence[Edit]],
    *,
    attention: bool = True,
    kl: bool = False,
    watch: Sequence[int] = (),
    others: Sequence[Trace] = (),
    reference: Means | None = None,
    kept: CachedPass | None = None,
    progress: Progress | None = None,
) -> Replay:
    """Effects of edits on the edited token itself, at every layer: exact states, direct attention.

    A cell is an edit, or several of one token that are made together; each is run on its own. State
    measures equal those of a whole forward pass with the edit. The attention mass is the direct
    effect: later queries are those of the clean run. `trace` must come from `model`: its tokens are
    run again, and edited states are measured against its primary, typical token and medians.
    `others` are traces of texts that donors come from, `reference` the result of `reference_means`.
    `attention=False` skips the attention mass and is faster. `kl=True` also compares the prediction
    at the token, at the cost of one unembedding per cell. `watch` are other positions whose mass is
    measured. `kept` is a clean pass of the same text that is still in memory; the text is then not
    run again. `progress` is called with (layers done, layers).

    Raises `EditError` for edits that are not possible or make a residual infinite, and for a cell
    that edits several tokens (use `recompute`: the later of them depend on the earlier ones);
    `TraceError` for a trace of another model, and for two `others` with the same id.
    """
    asked: dict[str, Any] = {"attention": attention, "kl": kl, "watch": watch, "others": others}
    asked |= {"reference": reference, "kept": kept, "progress": progress}
    (found,) = replay_groups(model, trace, [edits], **asked)
    return found


def replay_groups(
    model: HookedModel,
    trace: Trace,
    groups: Sequence[Edit | Sequence[Edit | Sequence[Edit]]],
    *,
    attention: bool = True,
    kl: bool = False,
    watch: Sequence[int] = (),
    others: Sequence[Trace] = (),
    reference: Means | None = None,
    kept: CachedPass | None = None,
    progress: Progress | None = None,
) -> tuple[Replay, ...]:
    """`replay` of several lists of cells in one pass, one result per list.

    Cells of different lists share neither batches nor collected donor activations. So the result
    of a list is the same to the last bit, whichever other lists run with it, and an interrupted
    sweep can continue with the missing lists.
    """
    for name, switch in (("attention", attention), ("kl", kl)):
        true_or_false(name, switch, EditError)
    check_trace(model, trace)
    watched = positions_in("watch", watch, len(trace.tokens))
    attention = attention or bool(watched)
    known, means = by_id(model, others), means_given(reference)
    lists = [as_cells(edits) for edits in groups]
    for cells in lists:
        check_cells(model, trace, cells, known, means)
    where = [tuple(map(_only_position, cells)) for cells in lists]
    refuse_unreplayable(model)
    passes = [
        _ReplayPass(model, trace, cells, positions, known, means, attention, kl, watched)
        for cells, positions in zip(lists, where, strict=True)
    ]
    n_layers = len(trace.norm)

    def hooks(layer: int) -> list[Hook]:
        return [hook for one in passes for hook in one.donors.hooks(layer)]

    for view in _views(model, trace, attention, hooks, kept):
        check_same_states(view, trace)
        for one in passes:
            one.step(view)
        if progress:
            progress(view.layer + 1, n_layers)
        del view
    return tuple(one.replay() for one in passes)


def _views(
    model: HookedModel, trace: Trace, attention: bool, hooks: LayerHooks, kept: CachedPass | None
) -> Iterator[LayerView]:
    """The layers of the clean text: from the pass in memory, or from a new one."""
    if kept is None:
        needed: dict[str, Any] = {"denominators": attention, "received": False}
        return iter_layers(model, trace.tokens, **needed, hooks=hooks)
    if kept.model is not model or not torch.equal(kept.tokens, trace.tokens):
        raise TraceError(
            "the cached pass is of another model or text than the trace",
            "make one for this text: CachedPass(model, trace.tokens)",
        )
    return kept.iter_layers(hooks)


def _only_position(cell: Cell) -> int:
    positions = positions_of(cell)
    if len(positions) > 1:
        raise EditError(
            f"a replay is exact for edits of one token; this cell edits positions "
            f"{format_layers(positions)}: use recompute, which runs all positions from the first "
            "of them on"
        )
    return positions[0]


class _ReplayPass:
    """The cells of one list, taken through the layers, and the columns that they fill."""

    def __init__(
        self,
        model: HookedModel,
        trace: Trace,
        cells: tuple[Cell, ...],
        positions: tuple[int, ...],
        others: Mapping[str, Trace],
        reference: Means,
        attention: bool,
        kl: bool,
        watch: tuple[int, ...],
    ) -> None:
        self.model, self.trace, self.positions = model, trace, positions
        self.asked, self.cells = cells, [resolve_donors(trace, cell) for cell in cells]
        self.donors = Donors(model, trace, self.cells, others, reference)
        self.columns = {name: getattr(trace, name)[:, positions].clone() for name in STATES}
        self.columns["mass"] = trace.mass[:, positions].clone()
        self.watch = watch
        self.columns["watched"] = trace.mass[:, None, watch].repeat(1, len(cells), 1)
        pairs = any(SITE_OF[edit.site].of_pair for cell in cells for edit in cell)
        self.size = replayed_at_once(model, len(trace.tokens), patterns=bool(watch) or pairs)
        self.attention = attention
        if not attention:
            self.columns["mass"].fill_(torch.nan)
        self.compares, self.kl = kl, torch.full((len(cells),), 0.0 if kl else torch.nan)
        self._layers = [{layer for edit in cell for layer in edit.layers} for cell in cells]
        self._states = trace.typical.new_empty(0)  # of the cells that have changed
        self._changed = torch.zeros(len(cells), dtype=torch.bool)

    def replay(self) -> Replay:
        """The result, once the last layer is done."""
        own = torch.tensor(self.positions)[:, None] == torch.tensor(self.watch)
        self.columns["watched"].masked_fill_(own, torch.nan)
        where: dict[str, Any] = {"cells": self.asked, "positions": self.positions}
        return Replay(**where, watch=self.watch, kl=self.kl, **self.columns)

    def step(self, view: LayerView) -> None:
        """Run one layer for all cells that have changed or are edited here."""
        self.donors.finish_layer(view.layer)
        at = view.layer
        changed = self._changed.tolist()
        active = [n for n, layers in enumerate(self._layers) if changed[n] or at in layers]
        active.sort(key=self.positions.__getitem__)  # tokens of a batch then see similar keys
        self.size = in_batches(active, self.size, lambda batch: self._batch(view, batch))
        if self.compares and self._changed.any() and at == len(self.trace.norm) - 1:
            self._compare_predictions(view)

    def _compare_predictions(self, view: LayerView) -> None:
        numbers = self._changed.nonzero()[:, 0]
        where = [self.positions[number] for number in numbers.tolist()]
        places = sorted(set(where))
        row = torch.tensor([places.index(pos) for pos in where])
        passage = layerwise_forward(self.model, self.trace.tokens[:1])
        edited = self._states[numbers.to(self._states.device)]
        self.kl[numbers] = divergence(passage, view.resid_post[places], edited, row)

    def _batch(self, view: LayerView, batch: list[int]) -> None:
        """Run a layer for some cells, and keep those that have changed."""
        numbers, positions = torch.tensor(batch), torch.tensor([self.positions[n] for n in batch])
        edits = LayerEdits(self.model, view.layer, [self.cells[n] for n in batch], self.donors)
        hooks, seen = edits.on_replayed(), dict[str, Tensor]()
        if self.watch:
            hooks = [*hooks, (hook_name(view.layer, "pattern"), keep_last(seen, "pattern"))]
        after = view.run.run_replayed(self._before(view, numbers, positions), positions, hooks)
        moved = self._changed[numbers]
        moved[list(edits.changed)] = True
        if not moved.any():
            return
        numbers, states = numbers[moved], after.resid_post[moved.to(after.resid_post.device)]
        refuse_overflow(view.layer, [self.asked[n] for n in numbers.tolist()], states)
        rows = moved.nonzero()[:, 0].to(states.device)
        values = self._measured(view, after, rows, positions[moved], seen.get("pattern"))
        for name, value in values.items():
            self.columns[name][view.layer, numbers] = value
        self._keep(numbers, states)

    def _before(
        self, view: LayerView, numbers: Int[Tensor, "cell"], positions: Int[Tensor, "cell"]
    ) -> Float[Tensor, "cell d_model"]:
        """What enters the layer: the clean residual, or the cell's own if it has changed."""
        before = view.resid_pre[positions.to(view.resid_pre.device)]
        known = self._changed[numbers]
        if known.any():
            own = self._states[numbers[known].to(self._states.device)]
            before[known.to(before.device)] = own.to(before.device)
        return before

    def _keep(self, numbers: Int[Tensor, "cell"], states: Float[Tensor, "cell d_model"]) -> None:
        if not len(self._states):
            self._states = states.new_empty(len(self.cells), states.shape[1])
        self._states[numbers.to(self._states.device)] = states.to(self._states.device)
        self._changed[numbers] = True

    def _measured(
        self,
        view: LayerView,
        after: ReplayedTokens,
        moved: Int[Tensor, "moved"],
        positions: Int[Tensor, "moved"],
        pattern: Float[Tensor, "1 head cell key"] | None,
    ) -> dict[str, Tensor]:
        """What the columns get of the cells that have changed."""
        keys = after.keys[moved]
        values = states_of(self.trace, view.layer, after.resid_post[moved], norms(keys).mean(-1))
        if self.attention:
            own = after.self_attention[moved]
            values["mass"] = direct_mass(view, keys, own, positions).cpu()
        if pattern is not None:
            paid = pattern[0, :, moved][..., list(self.watch)].float().mean(0)
            values["watched"] = direct_masses(view, keys, paid, positions, self.watch).cpu()
        return values
