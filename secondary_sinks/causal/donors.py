"""Activations that edits insert: those of donor tokens, and means over tokens.

The donor tokens are chosen before the first pass, from the trace alone. Their activations are
collected during the clean pass, or a pass over another text.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from secondary_sinks.causal.check import Means, Place, require_site
from secondary_sinks.errors import EditError, TraceError
from secondary_sinks.layerwise.protocol import Hook, HookedModel
from secondary_sinks.measures.geometry import ORDINARY_NORM
from secondary_sinks.observation.activations import ActivationCollector
from secondary_sinks.observation.layers import check_same_states, check_trace, iter_layers
from secondary_sinks.types import Cell, Edit, Trace, as_traces
from secondary_sinks.types.edit_kinds import KINDS, Given
from secondary_sinks.types.edit_sites import HEADS, OF_TOKEN, SITE_OF
from secondary_sinks.types.lists import refuse_empty


def ordinary(trace: Trace, layer: int) -> Bool[Tensor, "pos"]:
    """Tokens whose residual at a layer is at most twice as long as the median."""
    return trace.norm[layer] <= ORDINARY_NORM * trace.median_norm[layer]


def ordinary_throughout(trace: Trace) -> Bool[Tensor, "pos"]:
    """Tokens that are ordinary at every layer.

    A token that becomes a sink later may still be ordinary at the layer of an edit. As a donor it
    could make a sink of the edited token.
    """
    return (trace.norm <= ORDINARY_NORM * trace.median_norm[:, None]).all(0)


def token_twins(trace: Trace, pos: int) -> list[int]:
    """Other positions with the same token id as `pos` that are ordinary at every layer."""
    same = (trace.tokens == trace.tokens[pos]) & ordinary_throughout(trace)
    same[pos] = False
    return [int(one) for one in same.nonzero()[:, 0]]


def resample_donor(trace: Trace, edit: Edit, pos: int) -> int:
    """The donor position of a resampling edit at `pos`, drawn with `edit.seed`.

    Drawn from the tokens that are ordinary at every layer and not edited themselves. Raises
    `EditError` if there are no such tokens.
    """
    able = ordinary_throughout(trace)
    able[list(edit.positions)] = False
    donors = able.nonzero()[:, 0]
    if not len(donors):
        raise EditError("no ordinary token is left to resample from", "expected a longer text")
    chance = torch.Generator().manual_seed(edit.seed * 1_000_003 + pos)
    return int(donors[torch.randint(len(donors), (1,), generator=chance)])


def resolve_donors(trace: Trace, cell: Cell) -> Cell:
    """The cell with every resampling edit replaced by patches, one per edited token."""
    return tuple(one for edit in cell for one in _patches(trace, edit))


def _patches(trace: Trace, edit: Edit) -> list[Edit]:
    if edit.kind != "resample":
        return [edit]
    drawn = [(pos, resample_donor(trace, edit, pos)) for pos in edit.positions]
    return [replace(edit, pos=pos, kind="patch", donor=donor, seed=0) for pos, donor in drawn]


@dataclass(frozen=True, slots=True)
class _Source:
    """Tokens of one text; their mean activation is what an edit inserts."""

    text: str
    positions: tuple[int, ...]


Needed = dict[int, dict[str, set[_Source]]]
"""Layer -> site -> sources."""


class _MeanCollector:
    """Collects the mean activations of sources during a pass over one text."""

    def __init__(self, model: HookedModel, n_pos: int, needed: Needed) -> None:
        self.model, self.n_pos, self.needed = model, n_pos, needed
        self.rows: dict[tuple[Place, _Source], Tensor] = {}
        self._collectors: dict[int, dict[str, ActivationCollector]] = {}

    def hooks(self, layer: int) -> list[Hook]:
        """Hooks that collect activations at a layer."""
        found: list[Hook] = []
        for site, sources in self.needed.get(layer, {}).items():
            weights = torch.stack([_weights(source, self.n_pos) for source in _ordered(sources)])
            collector = ActivationCollector([], weights)
            self._collectors.setdefault(layer, {})[site] = collector
            found += collector.hooks(self.model, layer, site)
        return found

    def finish_layer(self, layer: int) -> None:
        """Store the means of a layer, once the pass has gone through it."""
        for site, collector in self._collectors.pop(layer, {}).items():
            means, sources = collector.means(site), _ordered(self.needed[layer][site])
            for source, row in zip(sources, means, strict=True):
                self.rows[(site, layer), source] = shaped(self.model, site, row)


class Donors:
    """The activations that the edits of some cells need."""

    def __init__(
        self,
        model: HookedModel,
        trace: Trace,
        cells: Sequence[Cell],
        others: Mapping[str, Trace],
        reference: Means,
    ) -> None:
        """Find out which activations are needed, and run the other texts to collect theirs.

        Raises `EditError` for a mean over token twins of a token without twins.
        """
        self.model, self.trace, self.reference = model, trace, reference
        needed: dict[str, Needed] = {}
        for edit, pos, layer in _replaced(cells):
            source = self._source(edit, pos, layer)
            by_layer = needed.setdefault(source.text, {})
            by_layer.setdefault(layer, {}).setdefault(edit.site, set()).add(source)
        self._own = _MeanCollector(model, len(trace.tokens), needed.pop("", {}))
        for text, wanted in needed.items():
            self._own.rows |= _means_of_text(model, others[text], wanted)

    def hooks(self, layer: int) -> list[Hook]:
        """Hooks for the clean pass that collect what the edits at this layer need."""
        return self._own.hooks(layer)

    def finish_layer(self, layer: int) -> None:
        """Store what was collected at a layer, once the clean pass has gone through it."""
        self._own.finish_layer(layer)

    def given(self, edit: Edit, pos: int, layer: int, device: torch.device) -> Given:
        """The inputs of an edit of a token at a layer, on the device of that layer."""
        kind, direction, row = KINDS[edit.kind], None, None
        if kind.directed:
            towards = self.trace.reference_resid[layer].to(device)
            direction = towards / towards.norm()
        if kind.replaces:
            row = self._row(edit, pos, layer).to(device)
        value = math.nan if edit.value is None else edit.value
        return Given(row=row, direction=direction, value=value, seed=edit.seed)

    def _row(self, edit: Edit, pos: int, layer: int) -> Tensor:
        """The activation that an edit inserts."""
        if edit.kind == "mean" and edit.over == "reference":
            return shaped(self.model, edit.site, self.reference[edit.site, layer])
        return self._own.rows[(edit.site, layer), self._source(edit, pos, layer)]

    def _source(self, edit: Edit, pos: int, layer: int) -> _Source:
        if edit.kind == "patch":
            return _Source(edit.text, edit.donors)
        if edit.over == "ordinary":
            return _Source("", tuple(ordinary(self.trace, layer).nonzero()[:, 0].tolist()))
        twins = token_twins(self.trace, pos)
        if not twins:
            token = self.trace.token_strings[pos]
            raise EditError(
                f"token {token!r} at position {pos} has no ordinary twin in this text to take a "
                "mean over",
                "use over='ordinary'",
            )
        return _Source("", tuple(twins))


def shaped(model: HookedModel, site: str, row: Tensor) -> Tensor:
    """The activation of one token; that of heads as `[head, d_head]`, also if the model is flat."""
    if site not in HEADS or row.ndim > 1:
        return row
    return row.unflatten(-1, (SITE_OF[site].n_units(model.cfg), -1))


def _means_of_text(
    model: HookedModel, trace: Trace, needed: Needed
) -> dict[tuple[Place, _Source], Tensor]:
    """Collect the needed activations of another text, up to the last layer that is needed."""
    collector = _MeanCollector(model, len(trace.tokens), needed)
    for view in iter_layers(model, trace.tokens, received=False, hooks=collector.hooks):
        check_same_states(view, trace)
        collector.finish_layer(view.layer)
        if view.layer == max(needed):
            break
        del view
    return collector.rows


def _replaced(cells: Sequence[Cell]) -> list[tuple[Edit, int, int]]:
    """(edit, position, layer) for every activation to be inserted, except reference means."""
    return [
        (edit, pos, layer)
        for cell in cells
        for edit in cell
        if KINDS[edit.kind].replaces and not (edit.kind == "mean" and edit.over == "reference")
        for pos in edit.positions
        for layer in edit.layers
    ]


def _weights(source: _Source, n_pos: int) -> Float[Tensor, "pos"]:
    weights = torch.zeros(n_pos)
    weights[list(source.positions)] = 1 / len(source.positions)
    return weights


def _ordered(sources: set[_Source]) -> list[_Source]:
    return sorted(sources, key=lambda source: (source.text, source.positions))


def reference_means(
    model: HookedModel,
    traces: Sequence[Trace],
    sites: Sequence[str] = ("mlp_out",),
) -> dict[Place, Float[Tensor, "*site"]]:
    """Mean activation over the ordinary tokens of a reference corpus, by site and layer.

    For edits of kind "mean" with over="reference". `traces` are those of the texts of the corpus,
    made with `model`. Raises `EditError` for sites of which there is no mean, `TraceError` for no
    trace, or one of another model.
    """
    texts = as_traces(traces)
    refuse_empty("the list of traces", texts, TraceError, "those of a reference corpus")
    refuse_empty("sites", sites, EditError, "at least one site, such as mlp_out")
    for trace in texts:
        check_trace(model, trace)
    for site in sites:
        if site not in OF_TOKEN:
            raise EditError(
                f"no mean is taken at site {site!r}", f"expected some of {', '.join(OF_TOKEN)}"
            )
        require_site(model, 0, site)
    sums: dict[Place, Tensor] = {}
    counts: Counter[Place] = Counter()
    for trace in texts:
        for place, total in _sums_of_text(model, trace, sites):
            sums[place] = sums.get(place, 0.0) + total
            counts[place] += int(ordinary(trace, place[1]).sum())
    return {place: total / counts[place] for place, total in sums.items()}


def _sums_of_text(
    model: HookedModel, trace: Trace, sites: Sequence[str]
) -> Iterator[tuple[Place, Float[Tensor, "*site"]]]:
    """Activations at each place of a text, summed over its ordinary tokens."""
    collectors: dict[int, ActivationCollector] = {}

    def sites_at(layer: int) -> list[str]:
        return [site for site in sites if not (layer and SITE_OF[site].first)]

    def hooks(layer: int) -> list[Hook]:
        collectors[layer] = ActivationCollector([], ordinary(trace, layer).float()[None])
        return collectors[layer].hooks(model, layer, *sites_at(layer))

    for view in iter_layers(model, trace.tokens, received=False, hooks=hooks):
        check_same_states(view, trace)
        collector = collectors.pop(view.layer)
        for site in sites_at(view.layer):
            yield (site, view.layer), collector.means(site)[0]
