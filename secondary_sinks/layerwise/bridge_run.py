"""How a layer of a `TransformerBridge` is run: the only place that knows its internals.

A bridge wraps a Hugging Face model. `models.hf_layers` finds out what that model's own loop hands
to each layer; a layer is then called with exactly that, for the positions that are wanted.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache

from secondary_sinks.layerwise.attention_received import Attended
from secondary_sinks.layerwise.chunks import fitting_chunk, vocabulary_chunks
from secondary_sinks.layerwise.hf_layers import Arguments, handed_down, logits_of, visible_keys
from secondary_sinks.layerwise.interface import (
    Continuations,
    LayerRun,
    LayerwiseForward,
    ReplayedTokens,
    VocabularyChunk,
    keep_last,
    note_key_norms,
    refuse_unreplayable,
    visible_to_replayed,
)
from secondary_sinks.layerwise.protocol import Hook, HookedModel
from secondary_sinks.measures import paid_attention
from secondary_sinks.measures.hook_names import hook_name

CACHES = ("past_key_values", "layer_past")
"""What a layer calls its cache: the usual name, and that of GPT-NeoX."""


class BridgeForward(LayerwiseForward):
    """A text on its way through a `TransformerBridge`."""

    def __init__(self, model: Any, tokens: Int[Tensor, "pos"]) -> None:
        """Embed the text and find out what each layer is handed."""
        self.model, self.n_pos = model, len(tokens)
        self._original = model.original_model
        ids = tokens[None].to(model.cfg.device)
        base = model.original_model.base_model
        # A mask of four axes is taken as it is, so that none of text x text is made.
        no_mask = torch.zeros(1, 1, 1, 1, dtype=model.cfg.dtype, device=ids.device)
        self._arguments = handed_down(
            base,
            model.blocks,
            input_ids=ids,
            attention_mask=no_mask,
            past_key_values=DynamicCache(),
        )
        self.embedded = self._arguments[0]["hidden_states"]
        self._visible = visible_keys(base, model.blocks, self.n_pos - 1)

    def layer(self, layer: int) -> "BridgeRun":
        """A fresh run of one layer."""
        seen = self._visible[layer]
        window = None if seen >= self.n_pos else seen
        return BridgeRun(self.model, layer, self._arguments[layer], self.n_pos, window)

    def logits(self, resid_post: Float[Tensor, "pos d_model"]) -> Iterator[VocabularyChunk]:
        """What the final norm and the unembedding make of the last residuals, in strips."""
        logits = logits_of(self._original, self.model.blocks, resid_post[None])[0]
        yield from ((words, logits[:, words]) for words in vocabulary_chunks(logits.shape[1]))


class BridgeRun(LayerRun):
    """A run of one layer of a `TransformerBridge`."""

    def __init__(
        self,
        model: HookedModel,
        layer: int,
        arguments: Arguments,
        n_pos: int,
        window: int | None,
    ) -> None:
        """Prepare an empty key-value cache for `layer`."""
        self.model, self.layer = model, layer
        self._arguments, self._n_pos, self._window = arguments, n_pos, window
        self._block = model.blocks[layer]
        self._original = self._block.attn.original_component
        self._cache = DynamicCache()
        self._queries: dict[str, list[Tensor]] = {"q": [], "rot_q": []}

    def forward(
        self,
        resid_pre: Float[Tensor, "1 pos d_model"],
        hooks: Sequence[Hook],
        *,
        chunk: int | None = None,
        denominators: bool = False,
        watch: Sequence[int] = (),
    ) -> Float[Tensor, "1 pos d_model"]:
        """`resid_post` of all positions."""
        n_pos, parts = resid_pre.shape[1], []
        if chunk is None:
            chunk = fitting_chunk(self.model.cfg.n_heads, n_pos)
        attended = Attended(n_pos, denominators=denominators, watch=watch)
        raw: list[Tensor] = []
        own = [*self._query_hooks(), *attended.hooks(self.layer)]
        own += self._alive([(hook_name(self.layer, "k"), note_key_norms(raw))])
        with torch.no_grad(), self.model.hooks(fwd_hooks=[*hooks, *own]):
            for start in range(0, n_pos, chunk):
                at = torch.arange(start, min(start + chunk, n_pos), device=resid_pre.device)
                visible = _visible(at, int(at[-1]) + 1, self.window)
                parts.append(self._call(resid_pre[:, at], at, visible, self._cache))
        self.received, self.paid = attended.received, attended.paid
        self.key_norm_raw = torch.cat(raw) if raw else None
        self.denominator = attended.denominator(self.learned_sinks)
        return torch.cat(parts, dim=1)

    @property
    def queries(self) -> Float[Tensor, "pos head d_head"]:
        """Queries as the scores use them; rotated here where the bridge's own hook never fires."""
        tables = self._arguments.get("position_embeddings")
        if self._queries["rot_q"] or tables is None:
            return torch.cat(self._queries["rot_q"] or self._queries["q"])
        rotate = sys.modules[type(self._original).__module__].apply_rotary_pos_emb
        turned = torch.cat(self._queries["q"]).transpose(0, 1)[None]
        here = (table.to(turned.device) for table in tables)
        return rotate(turned, turned, *here)[0][0].transpose(0, 1)

    @property
    def keys(self) -> Float[Tensor, "pos kv_head d_head"]:
        """Keys as the scores use them: Hugging Face keeps them after rotation."""
        return self._cache.layers[self.layer].keys[0].transpose(0, 1)

    @property
    def values(self) -> Float[Tensor, "pos kv_head d_head"]:
        """Values of all positions."""
        return self._cache.layers[self.layer].values[0].transpose(0, 1)

    @property
    def scale(self) -> float:
        """The original's own number, or one over the root of the head's width."""
        scale = getattr(self._original, "scaling", None)
        return self.keys.shape[-1] ** -0.5 if scale is None else float(scale)

    @property
    def soft_cap(self) -> float | None:
        """The soft-cap of Gemma 2's scores."""
        cap = getattr(self._original, "attn_logit_softcapping", None)
        return None if cap is None else float(cap)

    @property
    def learned_sinks(self) -> Float[Tensor, "head"] | None:
        """Score per head that belongs to no token."""
        sinks = getattr(self._original, "sinks", None)
        return None if sinks is None else sinks.detach()

    @property
    def window(self) -> int | None:
        """Length of the sliding window, where the text is longer than it."""
        return self._window

    def run_replayed(
        self,
        resid_pre: Float[Tensor, "cell d_model"],
        positions: Int[Tensor, "cell"],
        hooks: Sequence[Hook],
    ) -> ReplayedTokens:
        """Run replicas of `positions` through this layer."""
        refuse_unreplayable(self.model)
        seen: dict[str, Tensor] = {}
        at, n_cells, cache = positions.to(resid_pre.device), len(positions), DynamicCache()
        clean = self._cache.layers[self.layer]
        cache.update(clean.keys, clean.values, self.layer)
        visible = visible_to_replayed(at, self._n_pos, self.window)
        own = (hook_name(self.layer, "pattern"), keep_last(seen, "pattern"))
        with torch.no_grad(), self.model.hooks(fwd_hooks=[*hooks, own]):
            resid_post = self._call(resid_pre[None], at, visible, cache)
        own_columns = seen["pattern"][0, :, :, -n_cells:]
        return ReplayedTokens(
            resid_post=resid_post[0],
            keys=cache.layers[self.layer].keys[0, :, -n_cells:].transpose(0, 1),
            self_attention=own_columns.diagonal(dim1=1, dim2=2).T.float(),
        )

    def run_continuations(
        self,
        resid_pre: Float[Tensor, "cell suffix d_model"],
        hooks: Sequence[Hook],
        watch: Sequence[int] = (),
    ) -> Continuations:
        """Run the last positions of several texts that begin as the clean one."""
        n_cells, n_suffix, _ = resid_pre.shape
        start, clean, cache = self._n_pos - n_suffix, self._cache.layers[self.layer], DynamicCache()
        if start:
            shared = [part[:, :, :start] for part in (clean.keys, clean.values)]
            cache.update(*(part.expand(n_cells, -1, -1, -1) for part in shared), self.layer)
        received, parts = torch.zeros(n_cells, self._n_pos), []
        paid: list[Tensor] = []
        chunk = fitting_chunk(self.model.cfg.n_heads * n_cells, self._n_pos)

        def on_pattern(pattern: Tensor, hook: Any) -> None:
            received[:, : pattern.shape[-1]] += pattern.float().mean(1).sum(1).cpu()
            paid.append(torch.stack([paid_attention(one, watch) for one in pattern]).cpu())

        own = (hook_name(self.layer, "pattern"), on_pattern)
        with torch.no_grad(), self.model.hooks(fwd_hooks=[*hooks, own]):
            for first in range(0, n_suffix, chunk):
                part = resid_pre[:, first : first + chunk]
                at = torch.arange(start + first, start + first + part.shape[1], device=part.device)
                visible = _visible(at, int(at[-1]) + 1, self.window)
                parts.append(self._call(part, at, visible, cache))
        keys = cache.layers[self.layer].keys[:, :, start:]
        return Continuations(
            resid_post=torch.cat(parts, dim=1),
            keys=keys.transpose(1, 2),
            received=received,
            paid=torch.cat(paid, dim=1),
        )

    def _call(
        self,
        hidden: Float[Tensor, "text query d_model"],
        at: Int[Tensor, "query"],
        visible: Bool[Tensor, "query key"],
        cache: DynamicCache,
    ) -> Float[Tensor, "text query d_model"]:
        """Call the layer as the model's own loop would, for the positions `at`."""
        lowest = torch.finfo(hidden.dtype).min
        mask = torch.zeros(visible.shape, dtype=hidden.dtype, device=hidden.device)
        own = {
            "hidden_states": hidden,
            "attention_mask": mask.masked_fill(~visible, lowest)[None, None],
        }
        arguments = {key: _take(value, at, self._n_pos) for key, value in self._arguments.items()}
        arguments |= own | {name: cache for name in CACHES if name in arguments}
        output = self._block(arguments.pop("hidden_states"), **arguments)
        return output[0] if isinstance(output, tuple) else output

    def _query_hooks(self) -> list[Hook]:
        """Both points: where queries and keys come from one matrix, `rot_q` never fires."""

        def keep_in(store: list[Tensor]) -> Any:
            return lambda queries, hook: store.append(queries[0])

        points = self._queries.items()
        return self._alive(
            [(hook_name(self.layer, point), keep_in(store)) for point, store in points]
        )

    def _alive(self, hooks: list[Hook]) -> list[Hook]:
        """Those of some hooks whose points the model has; a loud bridge refuses dead ones."""
        dead = vars(self.model).get("_dead_points", ())
        return [one for one in hooks if one[0] in self.model.hook_dict and one[0] not in dead]


def _visible(
    at: Int[Tensor, "query"], n_keys: int, window: int | None
) -> Bool[Tensor, "query key"]:
    """Keys up to each query, within its window."""
    behind = at[:, None] - torch.arange(n_keys, device=at.device)
    return (behind >= 0) & (behind < (n_keys if window is None else window))


def _take(value: Any, at: Int[Tensor, "query"], n_pos: int) -> Any:
    """The part of an argument that belongs to the positions `at`."""
    if isinstance(value, tuple | list):
        return type(value)(_take(item, at, n_pos) for item in value)
    if not isinstance(value, Tensor) or value.ndim == 0:
        return value
    axis = 1 if value.ndim > 1 and value.shape[1] == n_pos else 0
    return value.index_select(axis, at.to(value.device)) if value.shape[axis] == n_pos else value
