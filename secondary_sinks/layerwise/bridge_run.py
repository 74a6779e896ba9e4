"""Run the layers of a `TransformerBridge`; the only module that knows its internals.

A bridge wraps a Hugging Face model. `hf_layers` finds out which arguments that model's own loop
gives to each layer, and `bridge_call` calls a layer with these arguments for some positions.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache

from secondary_sinks.layerwise.chunks import fitting_chunk, vocabulary_chunks
from secondary_sinks.layerwise.fused_attention import AttentionTotals
from secondary_sinks.layerwise.hf_layers import (
    Arguments,
    LayerCall,
    layer_arguments,
    logits_of,
    n_visible_keys,
    prefix_cache,
)
from secondary_sinks.layerwise.interface import (
    Continuations,
    LayerRun,
    LayerwiseForward,
    ReplayedTokens,
    VocabularyChunk,
)
from secondary_sinks.layerwise.protocol import (
    Hook,
    HookedModel,
    append_key_norms,
    keep_last,
    with_mlp_in,
)
from secondary_sinks.layerwise.visibility import (
    refuse_unreplayable,
    visible_to_queries,
    visible_to_replayed,
)
from secondary_sinks.measures.hook_names import EMBED, hook_name


class BridgeForward(LayerwiseForward):
    """A forward pass of a text through a `TransformerBridge`."""

    def __init__(self, model: Any, tokens: Int[Tensor, "pos"]) -> None:
        """Embed the text and find out the arguments of each layer."""
        self.model, self.n_pos = model, len(tokens)
        self._original = model.original_model
        self._ids = tokens[None].to(model.cfg.device)
        self._arguments = self._arguments_for(input_ids=self._ids)
        self.embedded = self._arguments[0]["hidden_states"]
        base = model.original_model.base_model
        self._n_visible = n_visible_keys(base, model.blocks, self.n_pos - 1)

    def _arguments_for(self, **inputs: Tensor) -> list[Arguments]:
        """What each layer would be given for these inputs."""
        model: Any = self.model
        # A mask with four axes is used as it is, so that no mask of text x text is made.
        no_mask = torch.zeros(1, 1, 1, 1, dtype=model.cfg.dtype, device=self._ids.device)
        inputs |= {"attention_mask": no_mask}
        base, cache = model.original_model.base_model, DynamicCache()
        return layer_arguments(base, model.blocks, past_key_values=cache, **inputs)

    def _embed(self) -> Float[Tensor, "pos d_model"]:
        seen: dict[str, Tensor] = {}
        with self.model.hooks(fwd_hooks=[(EMBED, keep_last(seen, EMBED))]):
            self._arguments_for(input_ids=self._ids)
        return seen[EMBED][0]

    def after_embedding(
        self, embeddings: Float[Tensor, "row d_model"], positions: Int[Tensor, "row"]
    ) -> Float[Tensor, "row d_model"]:
        """The residual that enters layer 0, as the original model makes it of embeddings."""
        given = {"inputs_embeds": embeddings[None], "position_ids": positions[None]}
        entered: Tensor = self._arguments_for(**given)[0]["hidden_states"][0]
        return entered

    def layer(self, layer: int) -> "BridgeRun":
        """A fresh run of one layer."""
        n_visible = self._n_visible[layer]
        window = None if n_visible >= self.n_pos else n_visible
        run = BridgeRun(self.model, layer, self._arguments[layer], self.n_pos, window)
        run.embedded_by = None if layer else self
        return run

    def logits(self, resid_post: Float[Tensor, "pos d_model"]) -> Iterator[VocabularyChunk]:
        """Final norm and unembedding of the last layer's residuals, in chunks of the vocabulary."""
        logits = logits_of(self._original, self.model.blocks, resid_post[None])[0]
        yield from ((chunk, logits[:, chunk]) for chunk in vocabulary_chunks(logits.shape[1]))


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
        """Start with an empty key-value cache."""
        self.model, self.layer = model, layer
        self._n_pos, self.window = n_pos, window
        self._call = LayerCall(model.blocks[layer], arguments, n_pos)
        self._original = original = model.blocks[layer].attn.original_component
        cap, sinks = (getattr(original, n, None) for n in ("attn_logit_softcapping", "sinks"))
        self.soft_cap = None if cap is None else float(cap)
        self.learned_sinks = None if sinks is None else sinks.detach()
        self._cache = DynamicCache()

    def forward(
        self,
        resid_pre: Float[Tensor, "1 pos d_model"],
        hooks: Sequence[Hook],
        *,
        chunk: int | None = None,
        denominators: bool = False,
        watch: Sequence[int] = (),
        received: bool = True,
    ) -> Float[Tensor, "1 pos d_model"]:
        """`resid_post` of all positions."""
        n_pos = resid_pre.shape[1]
        totals = AttentionTotals(n_pos, denominators=denominators, watch=watch, received=received)
        key_norms: list[Tensor] = []
        queries: dict[str, list[Tensor]] = {"q": [], "rot_q": []}
        own_hooks = [*self._query_hooks(queries), *totals.hooks(self.layer)]
        own_hooks += self._usable([(hook_name(self.layer, "k"), append_key_norms(key_norms))])
        size = chunk or fitting_chunk(self.model.cfg.n_heads, n_pos)
        resid_pre, hooks = self.run_embed_hooks(resid_pre, torch.arange(n_pos), hooks)
        with torch.no_grad(), self._hooks([*hooks, *own_hooks]):
            resid_post = self._in_chunks(resid_pre, 0, size, self._cache)
        clean = self._cache.layers[self.layer]  # Hugging Face caches keys after rotation
        self.queries = self._queries(queries)
        self.keys, self.values = (one[0].transpose(0, 1) for one in (clean.keys, clean.values))
        scale = getattr(self._original, "scaling", None)
        self.scale = self.keys.shape[-1] ** -0.5 if scale is None else float(scale)
        self.received, self.paid = totals.received, totals.paid
        self.key_norm_raw = torch.cat(key_norms) if key_norms else None
        self.log_sums = totals.log_sums(self.learned_sinks)
        return resid_post

    def _queries(self, seen: Mapping[str, list[Tensor]]) -> Float[Tensor, "pos head d_head"]:
        """Queries as the scores use them; rotated here if the bridge's own hook never fires."""
        if seen["rot_q"]:
            return torch.cat(seen["rot_q"])
        unrotated = torch.cat(seen["q"])
        return self.rotate(unrotated, torch.arange(len(unrotated)))

    def rotate(
        self,
        vectors: Float[Tensor, "row head d_head"],
        positions: Int[Tensor, "row"],
        *,
        back: bool = False,
    ) -> Float[Tensor, "row head d_head"]:
        """Queries or keys rotated to their positions, or with `back` by the transposed rotation."""
        tables = self._call.rotary_tables
        if tables is None or not getattr(self._original, "use_rope", True):
            return vectors
        rotate = sys.modules[type(self._original).__module__].apply_rotary_pos_emb
        cos, sin = (
            table.index_select(1, positions.to(table.device)).to(vectors.device) for table in tables
        )
        as_heads = vectors.transpose(0, 1)[None]
        return rotate(as_heads, as_heads, cos, -sin if back else sin)[0][0].transpose(0, 1)

    def run_replayed(
        self,
        resid_pre: Float[Tensor, "cell d_model"],
        positions: Int[Tensor, "cell"],
        hooks: Sequence[Hook],
    ) -> ReplayedTokens:
        """Run replayed tokens of `positions` through this layer."""
        refuse_unreplayable(self.model)
        positions, n_cells = positions.to(resid_pre.device), len(positions)
        clean, cache = self._cache.layers[self.layer], DynamicCache()
        cache.update(clean.keys, clean.values, self.layer)
        visible = visible_to_replayed(positions, self._n_pos, self.window)
        seen: dict[str, Tensor] = {}
        own_hook = (hook_name(self.layer, "pattern"), keep_last(seen, "pattern"))
        entered, hooks = self.run_embed_hooks(resid_pre[None], positions, hooks)
        with torch.no_grad(), self._hooks([*hooks, own_hook]):
            resid_post = self._call(entered, positions, visible, cache)
        on_replayed = seen["pattern"][0, :, :, -n_cells:]
        return ReplayedTokens(
            resid_post=resid_post[0],
            keys=cache.layers[self.layer].keys[0, :, -n_cells:].transpose(0, 1),
            self_attention=on_replayed.diagonal(dim1=1, dim2=2).T.float(),
        )

    def run_continuations(
        self,
        resid_pre: Float[Tensor, "cell suffix d_model"],
        hooks: Sequence[Hook],
        watch: Sequence[int] = (),
    ) -> Continuations:
        """Run other endings of the text, which share the clean prefix."""
        n_cells, n_suffix, _ = resid_pre.shape
        start = self._n_pos - n_suffix
        cache = prefix_cache(self._cache, self.layer, start, n_cells)
        totals = [AttentionTotals(self._n_pos, denominators=False, watch=watch) for _ in resid_pre]
        sums = chain.from_iterable(one.hooks(self.layer, cell) for cell, one in enumerate(totals))
        size = fitting_chunk(self.model.cfg.n_heads * n_cells, self._n_pos)
        resid_pre, hooks = self.run_embed_hooks(resid_pre, torch.arange(start, self._n_pos), hooks)
        with torch.no_grad(), self._hooks([*hooks, *sums]):
            resid_post = self._in_chunks(resid_pre, start, size, cache)
        return Continuations(
            resid_post=resid_post,
            keys=cache.layers[self.layer].keys[:, :, start:].transpose(1, 2),
            received=torch.stack([one.received for one in totals]),
            paid=torch.stack([one.paid for one in totals]),
        )

    def _in_chunks(
        self,
        residual: Float[Tensor, "text query d_model"],
        start: int,
        size: int,
        cache: DynamicCache,
    ) -> Float[Tensor, "text query d_model"]:
        """Call the layer for chunk after chunk of queries, of which the first is at `start`."""
        outputs = []
        for chunk in residual.split(size, dim=1):
            end = start + chunk.shape[1]
            positions = torch.arange(start, end, device=residual.device)
            visible = visible_to_queries(positions, end, self.window)
            outputs.append(self._call(chunk, positions, visible, cache))
            start = end
        return torch.cat(outputs, dim=1)

    @contextmanager
    def _hooks(self, hooks: Sequence[Hook]) -> Iterator[None]:
        """A context in which hooks are active and fire."""
        with with_mlp_in(self.model, hooks), self.model.hooks(fwd_hooks=hooks):
            yield

    def _query_hooks(self, queries: Mapping[str, list[Tensor]]) -> list[Hook]:
        """Hooks on both points: `rot_q` never fires if queries and keys come from one matrix."""

        def append_to(queries_seen: list[Tensor]) -> Any:
            return lambda queries, hook: queries_seen.append(queries[0])

        return self._usable(
            [(hook_name(self.layer, point), append_to(seen)) for point, seen in queries.items()]
        )

    def _usable(self, hooks: list[Hook]) -> list[Hook]:
        """The hooks whose points exist and fire; a loud bridge refuses the others."""
        dead = vars(self.model).get("_dead_points", ())
        return [one for one in hooks if one[0] in self.model.hook_dict and one[0] not in dead]
