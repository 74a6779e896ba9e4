"""Run a hooked model one layer at a time, whichever class of TransformerLens it has.

`LayerwiseForward` takes a text through a model. Its method `layer` returns a `LayerRun`, which
feeds the whole text through one layer in chunks of queries with a key-value cache. `run_replayed`
feeds *replayed tokens* through the same layer: extra copies of single positions, each of which sees
the clean keys before its own position, and itself. Since attention is causal, an edited copy gets
exactly the states that its position would have in a full forward pass with the same edit.

`hooked_run` implements this for `HookedTransformer`, `bridge_run` for `TransformerBridge`. Other
rooms use only what is defined here.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.errors import UnsupportedModelError
from secondary_sinks.layerwise.protocol import Hook, HookedModel
from secondary_sinks.measures.hook_names import EMBED

VocabularyChunk = tuple[slice, Float[Tensor, "pos token"]]
"""A slice of the vocabulary, and the logits of its tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedTokens:
    """Outputs of one layer for replayed tokens."""

    resid_post: Float[Tensor, "cell d_model"]
    keys: Float[Tensor, "cell kv_head d_head"]
    self_attention: Float[Tensor, "cell head"]
    """Attention that each replayed token pays to itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuations:
    """Outputs of one layer for continuations that share the clean prefix."""

    resid_post: Float[Tensor, "cell suffix d_model"]
    keys: Float[Tensor, "cell suffix kv_head d_head"]
    received: Float[Tensor, "cell pos"]
    """Attention that queries of the suffix pay to each key: summed over them, mean over heads."""
    paid: Float[Tensor, "cell suffix watch"]
    """Attention that each query of the suffix pays to each watched key, mean over heads."""


class LayerRun(ABC):
    """A clean pass of a text through one layer; afterwards it holds queries, keys and values."""

    model: HookedModel
    layer: int
    soft_cap: float | None
    """Soft-cap of the scores s, which become cap x tanh(s / cap); None without a soft-cap."""
    learned_sinks: Float[Tensor, "head"] | None
    """Score per head that takes part in the softmax but belongs to no token."""
    window: int | None
    """Length of the sliding window; None if the layer sees the whole text."""
    scale: float
    """Factor of the product of query and key, before any soft-cap."""

    queries: Float[Tensor, "pos head d_head"]
    """Queries as the scores use them: after q/k norms and rotation."""
    keys: Float[Tensor, "pos kv_head d_head"]
    """Keys as the scores use them: after q/k norms and rotation."""
    values: Float[Tensor, "pos kv_head d_head"]
    """Values of all positions."""
    received: Float[Tensor, "pos"]
    """Attention received by each key: summed over queries, mean over heads. NaN if `forward` was
    not asked for it."""
    paid: Float[Tensor, "pos watch"]
    """Attention that each query pays to each watched key, mean over heads."""
    key_norm_raw: Float[Tensor, "pos"] | None
    """Norm of the output of k_proj, mean over KV heads; None if no hook point shows it."""
    log_sums: Float[Tensor, "head query"] | None
    """Log softmax denominators of all queries, if `forward` was asked for them."""
    embedded_by: "LayerwiseForward | None" = None
    """The pass that embeds the text; None in all layers but the first."""

    def run_embed_hooks(
        self,
        resid_pre: Float[Tensor, "text query d_model"],
        positions: Int[Tensor, "query"],
        hooks: Sequence[Hook],
    ) -> tuple[Float[Tensor, "text query d_model"], list[Hook]]:
        """Run the hooks on the embedding, which comes before layer 0; returns the other hooks too.

        They get clean embeddings. A token whose embedding they leave alone keeps its `resid_pre`.
        """
        own = [function for name, function in hooks if name == EMBED]
        if not own or self.embedded_by is None:
            return resid_pre, list(hooks)
        embeddings = self.embedded_by.embeddings()
        positions = positions.to(embeddings.device)
        clean = embeddings[positions].expand(resid_pre.shape)
        new = clean.clone()
        for function in own:
            result = function(new, hook=self.model.hook_dict[EMBED])
            new = new if result is None else result
        changed = (new != clean).any(-1)
        if changed.any():
            places = positions.expand(changed.shape)[changed]
            rows = self.embedded_by.after_embedding(new[changed], places).to(resid_pre.device)
            resid_pre = resid_pre.masked_scatter(changed[..., None].to(resid_pre.device), rows)
        return resid_pre, [hook for hook in hooks if hook[0] != EMBED]

    @abstractmethod
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
        """`resid_post` of all positions. Each hook fires once per chunk of queries, in order.

        `chunk` is the number of queries in a chunk, by default as many as fit (`layerwise.chunks`).
        `watch` are positions of keys; the attention that each query pays to them is in `paid`.
        Without `received`, the attention that keys receive is NaN, which is faster.
        """

    @abstractmethod
    def run_replayed(
        self,
        resid_pre: Float[Tensor, "cell d_model"],
        positions: Int[Tensor, "cell"],
        hooks: Sequence[Hook],
    ) -> ReplayedTokens:
        """Run replayed tokens of `positions` through this layer; call it after `forward`.

        Hooks see the tokens as `[1, cell, ...]`. Raises `UnsupportedModelError` for position
        embeddings that a replayed token cannot have.
        """

    @abstractmethod
    def run_continuations(
        self,
        resid_pre: Float[Tensor, "cell suffix d_model"],
        hooks: Sequence[Hook],
        watch: Sequence[int] = (),
    ) -> Continuations:
        """Run other endings of the text, of the same length as the text; call it after `forward`.

        Each ending sees the clean keys before it and its own keys. `watch` is as in `forward`.
        Hooks see `[cell, query, ...]`, once per chunk of queries, in order; those on patterns and
        scores see `[cell, head, query, key]`, with all keys of the text so far.
        """

    @abstractmethod
    def rotate(
        self,
        vectors: Float[Tensor, "row head d_head"],
        positions: Int[Tensor, "row"],
        *,
        back: bool = False,
    ) -> Float[Tensor, "row head d_head"]:
        """Queries or keys rotated to their positions, or with `back` by the transposed rotation.

        They come back unchanged in a layer that does not rotate. `rotate(.., back=True)` of a query
        times a key before rotation is their score (before scale) with the key at the position of
        the query. Where a rope also rescales, the transposed rotation is not the inverse one.
        """

    def scores(
        self, queries: Float[Tensor, "pos head d_head"], keys: Float[Tensor, "cell kv_head d_head"]
    ) -> Float[Tensor, "head pos cell"]:
        """Attention scores of queries on keys: after scale and soft-cap, before the softmax."""
        grouped = queries.unflatten(1, (keys.shape[1], -1))  # heads of a group share one key
        return self.capped(torch.einsum("pkgd,ckd->kgpc", grouped, keys).flatten(0, 1) * self.scale)

    def capped(self, scores: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Scores after the soft-cap, if this layer has one."""
        return scores if self.soft_cap is None else (scores / self.soft_cap).tanh() * self.soft_cap


class LayerwiseForward(ABC):
    """A forward pass of a text: the residual that enters layer 0, and a run of each layer."""

    model: HookedModel
    embedded: Float[Tensor, "1 pos d_model"]
    _embeddings: Float[Tensor, "pos d_model"] | None = None

    def embeddings(self) -> Float[Tensor, "pos d_model"]:
        """The embeddings at `hook_embed`, before positions are added; computed when first needed.

        Raises `UnsupportedModelError` if `after_embedding` does not lead from them to `embedded`.
        """
        if self._embeddings is None:
            found = self._embed()
            places = torch.arange(len(found), device=found.device)
            whole = self.after_embedding(found, places).to(self.embedded.device)
            if not torch.allclose(whole, self.embedded[0], rtol=1e-5, atol=1e-6):
                raise UnsupportedModelError(
                    f"this model changes embeddings after {EMBED!r} in a way that is not known",
                    "edit site 'resid_pre' at layer 0 instead",
                )
            self._embeddings = found
        return self._embeddings

    @abstractmethod
    def _embed(self) -> Float[Tensor, "pos d_model"]:
        """What `hook_embed` sees of the text."""

    @abstractmethod
    def after_embedding(
        self, embeddings: Float[Tensor, "row d_model"], positions: Int[Tensor, "row"]
    ) -> Float[Tensor, "row d_model"]:
        """The residuals that enter layer 0 for embeddings of tokens at some positions."""

    @abstractmethod
    def layer(self, layer: int) -> LayerRun:
        """A fresh run of one layer, with an empty key-value cache."""

    @abstractmethod
    def logits(self, resid_post: Float[Tensor, "pos d_model"]) -> Iterator[VocabularyChunk]:
        """Final norm and unembedding of the last layer's residuals, in chunks of the vocabulary.

        Logits that are reduced at once need not be held for the whole vocabulary.
        """
