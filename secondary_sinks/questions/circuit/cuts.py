"""Losses of a text when many queries no longer see some keys, or no longer get their values.

An `Edit` names each query and one key. Here a rule names them: keys, the first query, and how far
behind the query a key must be. So a cache without a thousand keys is one cut, and memory does not
grow with the number of (query, key) pairs. Exact: every cut is a run of the whole text, from the
first layer and query that it reaches on, next to the clean one (`recompute` is its slow twin, in
tests/questions/circuit/test_cuts.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from secondary_sinks.causal.batches import in_batches
from secondary_sinks.causal.donors import ordinary_throughout
from secondary_sinks.causal.losses import losses
from secondary_sinks.causal.recompute import STATES_AT_ONCE
from secondary_sinks.errors import EditError, expected_one_of
from secondary_sinks.layerwise.begin import layerwise_forward
from secondary_sinks.layerwise.protocol import Hook, HookedModel
from secondary_sinks.layerwise.visibility import refuse_unreplayable
from secondary_sinks.measures.hook_names import hook_name
from secondary_sinks.observation import LayerView, iter_layers
from secondary_sinks.observation.layers import check_same_states, check_trace
from secondary_sinks.progress import Progress
from secondary_sinks.types import Trace

_REPLACED = {"attention": -torch.inf, "value": 0.0, "mean_value": 0.0}
TAKEN = tuple(_REPLACED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What later queries no longer get from some keys; `taken` is one of

    * `attention`: they don't see the keys, and their other attention is normalised again;
    * `value`: they attend as before, but these keys give nothing;
    * `mean_value`: they attend as before, and get the mean value of the ordinary tokens that they
      see in place of the values of these keys (nothing if they see none).
    """

    keys: tuple[int, ...]
    """Positions of the keys, from 0."""
    layers: tuple[int, ...]
    """The blocks in which they are cut off."""
    taken: str = "attention"
    """One of `TAKEN`."""
    first: int = 1
    """Position of the first query that is cut off."""
    since: int = 1
    """A query is cut off from keys at least this many positions before it."""
    until: int | None = None
    """And less than this many positions before it; None: however far."""
    later: tuple[tuple[int, int], ...] = ()
    """Keys from which later queries than `first` are cut off: (key, the first such query)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CutLosses:
    """Losses and divergences in nats, by the position that predicts; NaN at the last position."""

    clean: Float[Tensor, "pos"]
    loss: Float[Tensor, "cut pos"]
    kl: Float[Tensor, "cut pos"]
    """KL(clean || cut)."""


def run_cuts(
    model: HookedModel, trace: Trace, cuts: Sequence[Cut], progress: Progress | None = None
) -> CutLosses:
    """The loss of a text under each cut, by position, and the divergence from the clean run.

    All cuts share one pass if their states fit into memory.

    Raises `EditError` for a cut that is not possible, and `TraceError` for a trace of another
    model.
    """
    check_trace(model, trace)
    refuse_unreplayable(model)
    n_pos = len(trace)
    for cut in cuts:
        _check(cut, len(trace.norm), n_pos)
    found = CutLosses(
        clean=torch.full((n_pos,), torch.nan),
        loss=torch.full((len(cuts), n_pos), torch.nan),
        kl=torch.full((len(cuts), n_pos), torch.nan),
    )
    at_once = max(1, STATES_AT_ONCE // (n_pos * trace.typical.shape[1]))
    numbers = sorted(range(len(cuts)), key=lambda number: cuts[number].first)
    waves = [numbers[at : at + at_once] for at in range(0, len(numbers), at_once)] or [[]]
    for done, wave in enumerate(waves):
        passing = _Passing(model, trace, {number: cuts[number] for number in wave})
        passing.run(progress, done, len(waves))
        passing.predict(found)
    return found


class _Passing:
    """The cuts of one pass, taken through the layers from their first query on."""

    def __init__(self, model: HookedModel, trace: Trace, cuts: dict[int, Cut]) -> None:
        self.model, self.trace, self.cuts = model, trace, cuts
        self.start = min((cut.first for cut in cuts.values()), default=0)
        self.ordinary = ordinary_throughout(trace)
        self.states: dict[int, Float[Tensor, "suffix d_model"]] = {}
        self.clean: Float[Tensor, "pos d_model"]
        self.size = max(1, len(cuts))

    def run(self, progress: Progress | None, done: int, waves: int) -> None:
        """Take all cuts through all layers."""
        n_layers = len(self.trace.norm)
        for view in iter_layers(self.model, self.trace.tokens, received=False):
            check_same_states(view, self.trace)
            for number, cut in self.cuts.items():
                if view.layer == min(cut.layers):
                    self.states[number] = view.resid_pre[self.start :]
            self.size = in_batches(list(self.states), self.size, partial(self._batch, view))
            self.clean = view.resid_post
            if progress:
                progress(done * n_layers + view.layer + 1, waves * n_layers)
            del view

    def _batch(self, view: LayerView, batch: list[int]) -> None:
        states = torch.stack([self.states[number] for number in batch])
        cuts = [self.cuts[number] for number in batch]
        here = [cut if view.layer in cut.layers else None for cut in cuts]
        after = view.run.run_continuations(states, self._hooks(view, here))
        for index, number in enumerate(batch):
            self.states[number] = after.resid_post[index].clone()

    def _hooks(self, view: LayerView, cuts: Sequence[Cut | None]) -> list[Hook]:
        sites = {"attention": "attn_scores", "value": "pattern", "mean_value": "pattern"}
        there = {sites[cut.taken] for cut in cuts if cut is not None}
        return [self._hook(view, site, cuts) for site in sorted(there)]

    def _hook(self, view: LayerView, site: str, cuts: Sequence[Cut | None]) -> Hook:
        done = self.start

        def hook(tensor: Tensor, hook: Any) -> Tensor:
            nonlocal done
            new, n_queries = tensor.clone(), tensor.shape[2]
            queries = torch.arange(done, done + n_queries)
            done += n_queries
            for row, cut in enumerate(cuts):
                if cut is None or (site == "attn_scores") != (cut.taken == "attention"):
                    continue
                lost = hidden(cut, queries, tensor.shape[3])
                kept = new[row].masked_fill(lost.to(new.device), _REPLACED[cut.taken])
                if cut.taken == "mean_value":
                    freed = (new[row] - kept).sum(-1, keepdim=True)
                    kept = kept + freed * self._instead(view, queries, lost).to(kept)
                new[row] = kept
            return new

        return hook_name(view.layer, site), hook

    def _instead(
        self, view: LayerView, queries: Tensor, lost: Bool[Tensor, "query key"]
    ) -> Float[Tensor, "query key"]:
        """Weights with which a query gets the values of ordinary tokens; they sum to 1, or 0."""
        behind = queries[:, None] - torch.arange(lost.shape[1])
        seen = (behind >= 0) & (behind < (view.window or len(self.trace)))
        able = (seen & self.ordinary[: lost.shape[1]] & ~lost).float()
        return able / able.sum(1, keepdim=True).clamp(min=1)

    def predict(self, found: CutLosses) -> None:
        """Losses of all cuts, after the last layer; clean before the first query of a cut."""
        tokens = self.trace.tokens
        after = losses(layerwise_forward(self.model, tokens[:1]), tokens, self.clean, self.states)
        found.clean[:-1] = after.clean
        for number, cut in self.cuts.items():
            found.loss[number, :-1], found.kl[number, :-1] = after.clean, 0.0
            since = cut.first - self.start
            found.loss[number, cut.first : -1] = after.edited[number][since:]
            found.kl[number, cut.first : -1] = after.kl[number][since:]


def hidden(cut: Cut, queries: Tensor, n_keys: int) -> Bool[Tensor, "query key"]:
    """Which keys each query is cut off from.

    >>> hidden(Cut(keys=(0, 2), layers=(0,), first=2), torch.tensor([1, 2, 3]), 4).int().tolist()
    [[0, 0, 0, 0], [1, 0, 0, 0], [1, 0, 1, 0]]
    >>> hidden(Cut(keys=(0,), layers=(0,), later=((0, 3),)), torch.tensor([2, 3]), 4).int().tolist()
    [[0, 0, 0, 0], [1, 0, 0, 0]]
    """
    keys = torch.zeros(n_keys, dtype=torch.bool)
    keys[[key for key in cut.keys if key < n_keys]] = True
    first = torch.full((n_keys,), cut.first)
    for key, query in cut.later:
        first[key : key + 1] = max(query, cut.first)
    behind = queries[:, None] - torch.arange(n_keys)
    near = behind < (n_keys + 1 if cut.until is None else cut.until)
    return keys & (behind >= cut.since) & near & (queries[:, None] >= first)


def _check(cut: Cut, n_layers: int, n_pos: int) -> None:
    if cut.taken not in TAKEN:
        raise EditError(f"unknown cut {cut.taken!r}", expected_one_of(TAKEN, cut.taken))
    for name, numbers, end in (
        ("keys", cut.keys, n_pos),
        ("keys to cut off later", [0, *(key for key, _ in cut.later)], n_pos),
        ("layers", cut.layers, n_layers),
        ("first query", (cut.first,), n_pos),
    ):
        if not numbers or not all(0 <= number < end for number in numbers):
            raise EditError(
                f"a cut has {name} {', '.join(map(str, numbers)) or 'none'}",
                f"expected numbers from 0 to {end - 1}",
            )
    if cut.since < 1:
        raise EditError(
            f"a cut hides keys {cut.since} positions before the query",
            "expected since= at least 1: a query always sees its own key",
        )
