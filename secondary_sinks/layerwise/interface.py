"""One layer of a hooked model at a time, whatever class the model is of.

`LayerwiseForward` takes a text through a model. Its `layer` gives a `LayerRun`, which feeds the
whole text through one layer in chunks of queries with a key-value cache. `run_replayed` feeds
*replayed tokens* through the same layer: extra copies of single positions, each of which sees the
clean keys before its own position, and itself. Attention is causal, so an edited copy goes through
exactly what the position would go through in a full forward pass with the same edit.

How a layer is run differs between the two classes of TransformerLens: `hooked_run` knows the one,
`bridge_run` the other. Everything above sees only what stands here.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from secondary_sinks.errors import UnsupportedModelError
from secondary_sinks.layerwise.protocol import Hook, HookedModel
from secondary_sinks.measures import Denominator, norms
from secondary_sinks.measures.hook_names import hook_name

VocabularyChunk = tuple[slice, Float[Tensor, "pos word"]]
"""The words that a strip of logits is of, and the logits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedTokens:
    """What one layer makes of a batch of replicas."""

    resid_post: Float[Tensor, "cell d_model"]
    keys: Float[Tensor, "cell kv_head d_head"]
    self_attention: Float[Tensor, "cell head"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuations:
    """What one layer makes of the last positions of several texts that begin as the clean one."""

    resid_post: Float[Tensor, "cell suffix d_model"]
    keys: Float[Tensor, "cell suffix kv_head d_head"]
    received: Float[Tensor, "cell pos"]
    """Attention that queries of the suffix pay to each key, summed over them, mean over heads."""
    paid: Float[Tensor, "cell suffix watch"]
    """Attention that each query of the suffix pays to each watched key, mean over heads."""


class LayerRun(ABC):
    """A clean pass of a text through one layer; queries, keys and values are here afterwards."""

    model: HookedModel
    layer: int

    received: Float[Tensor, "pos"]
    """Attention received by each key, summed over queries, mean over heads."""
    paid: Float[Tensor, "pos watch"]
    """Attention that each query pays to each watched key, mean over heads."""
    key_norm_raw: Float[Tensor, "pos"] | None
    """Length of the output of k_proj, mean over KV heads; None where no hook point shows it."""
    denominator: Denominator | None
    """Softmax denominators of all queries, where `forward` was asked for them."""

    @abstractmethod
    def forward(
        self,
        resid_pre: Float[Tensor, "1 pos d_model"],
        hooks: Sequence[Hook],
        *,
        chunk: int | None = None,
        denominators: bool = False,
        watch: Sequence[int] = (),
    ) -> Float[Tensor, "1 pos d_model"]:
        """`resid_post` of all positions. Each hook fires once per chunk of queries, in order.

        `chunk` is the number of queries in one; by default as many as fit (`models.chunks`).
        `watch` are the keys to which it is noted what each query pays (`paid`).
        """

    @abstractmethod
    def run_replayed(
        self,
        resid_pre: Float[Tensor, "cell d_model"],
        positions: Int[Tensor, "cell"],
        hooks: Sequence[Hook],
    ) -> ReplayedTokens:
        """Run replicas of `positions` through this layer; hooks see them as `[1, cell, ...]`.

        Raises `UnsupportedModelError` for position embeddings a replica can't have.
        """

    @abstractmethod
    def run_continuations(
        self,
        resid_pre: Float[Tensor, "cell suffix d_model"],
        hooks: Sequence[Hook],
        watch: Sequence[int] = (),
    ) -> Continuations:
        """Run other endings of the text, as long as the text itself; after `forward`.

        They see the clean keys before them, and each its own. `watch` as in `forward`. Hooks see
        `[cell, query, ...]`, once per chunk of queries, in order; none on patterns or scores,
        which are not made.
        """

    @property
    @abstractmethod
    def queries(self) -> Float[Tensor, "pos head d_head"]:
        """Queries as the scores use them: after q/k norms and rotation."""

    @property
    @abstractmethod
    def keys(self) -> Float[Tensor, "pos kv_head d_head"]:
        """Keys as the scores use them: after q/k norms and rotation."""

    @property
    @abstractmethod
    def values(self) -> Float[Tensor, "pos kv_head d_head"]:
        """Values of all positions."""

    @property
    @abstractmethod
    def scale(self) -> float:
        """What the product of query and key is multiplied with, before any soft-cap."""

    @property
    @abstractmethod
    def soft_cap(self) -> float | None:
        """Scores s become cap x tanh(s / cap); None where they are not capped."""

    @property
    @abstractmethod
    def learned_sinks(self) -> Float[Tensor, "head"] | None:
        """Score per head that takes part in the softmax and belongs to no token."""

    @property
    @abstractmethod
    def window(self) -> int | None:
        """Length of the sliding window, None where the layer sees everything."""

    def scores(
        self, queries: Float[Tensor, "pos head d_head"], keys: Float[Tensor, "cell kv_head d_head"]
    ) -> Float[Tensor, "head pos cell"]:
        """Attention scores (before the softmax, after scale and soft-cap) of queries on keys."""
        grouped = queries.unflatten(1, (keys.shape[1], -1))  # heads of a group share one key
        scores = torch.einsum("pkgd,ckd->kgpc", grouped, keys).flatten(0, 1) * self.scale
        return scores if self.soft_cap is None else (scores / self.soft_cap).tanh() * self.soft_cap


class LayerwiseForward(ABC):
    """A text on its way through a model: what enters layer 0, and a run of each layer."""

    model: HookedModel
    embedded: Float[Tensor, "1 pos d_model"]

    @abstractmethod
    def layer(self, layer: int) -> LayerRun:
        """A fresh run of one layer, with an empty key-value cache."""

    @abstractmethod
    def logits(self, resid_post: Float[Tensor, "pos d_model"]) -> Iterator[VocabularyChunk]:
        """What the final norm and the unembedding make of residuals of the last layer.

        In strips of words (`chunks.WORDS`), one after the other: what is reduced at once need not
        be held for the whole vocabulary.
        """


def refuse_unreplayable(model: HookedModel) -> None:
    """Raise `UnsupportedModelError` where a replica would not see its own position."""
    cfg = model.cfg
    rescaled = getattr(cfg, "use_logn_attn", False) or getattr(cfg, "use_dynamic_ntk_rope", False)
    if cfg.positional_embedding_type not in {"standard", "rotary"} or rescaled:
        raise UnsupportedModelError(
            f"single-token replay needs rotary or learned absolute positions without rescaling by "
            f"length; this model has {cfg.positional_embedding_type!r}"
        )


def visible_to_replayed(
    positions: Int[Tensor, "cell"], n_keys: int, window: int | None
) -> Bool[Tensor, "cell key"]:
    """Clean keys before the replica's position, within its window; among replicas only itself."""
    clean = torch.arange(n_keys, device=positions.device)
    before = clean < positions[:, None]
    if window is not None:
        before &= clean > positions[:, None] - window
    itself = torch.eye(len(positions), dtype=torch.bool, device=positions.device)
    return torch.cat([before, itself], dim=1)


def needs_pattern(hooks: Sequence[Hook], layer: int) -> bool:
    """Whether a hook reads what the fast path never makes."""
    whole = {hook_name(layer, point) for point in ("pattern", "attn_scores")}
    return any(callable(name) or name in whole for name, _ in hooks)


def note_key_norms(norms_seen: list[Tensor]) -> Callable[[Tensor, Any], None]:
    """A hook on `attn.hook_k` that notes the lengths of keys, mean over KV heads."""

    def hook(keys: Tensor, hook: Any) -> None:
        norms_seen.append(norms(keys[0]).mean(-1))

    return hook


def keep_last(seen: dict[str, Tensor], name: str) -> Callable[[Tensor, Any], None]:
    """A hook that keeps the last tensor it sees."""

    def hook(tensor: Tensor, hook: Any) -> None:
        seen[name] = tensor

    return hook
