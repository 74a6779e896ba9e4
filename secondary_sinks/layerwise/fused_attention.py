"""Attention of a chunk of queries without keeping its pattern: the fast path.

Heads that share a key are computed together, so that a block of scores stays in the processor's
cache, and the attention that each key receives is summed from the block at once. The slow path,
with hooks on patterns, is the oracle (`tests/layerwise/test_fused_attention.py`).
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from secondary_sinks.layerwise.protocol import Hook
from secondary_sinks.layerwise.visibility import visible_to_queries
from secondary_sinks.measures.attention import read_paid, sum_received
from secondary_sinks.measures.hook_names import hook_name


class AttentionTotals:
    """Attention received by each key, and attention that each query pays to the watched keys.

    On demand, the log softmax denominators of the queries too. With `received` false, the attention
    received is NaN.
    """

    def __init__(
        self, n_pos: int, *, denominators: bool, watch: Sequence[int] = (), received: bool = True
    ) -> None:
        """Start at zero, for a text of `n_pos` tokens; `watch` are positions of keys."""
        self.received = torch.full((n_pos,), 0.0 if received else torch.nan)
        self.wants_received, self.wants_log_sums = received, denominators
        self.watch = tuple(watch)
        self._paid: list[Tensor] = []
        self._log_sums: list[Tensor] = []

    def add_received(self, received: Tensor) -> None:
        """Add attention received by the first keys: summed over queries, mean over heads."""
        self.received[: len(received)] += received.float().cpu()

    def add_paid(self, paid: Float[Tensor, "query watch"]) -> None:
        """Append attention that the next queries pay to the watched keys, mean over heads."""
        self._paid.append(paid.cpu())

    @property
    def paid(self) -> Float[Tensor, "query watch"]:
        """Attention that all queries so far pay to the watched keys, mean over heads."""
        return torch.cat(self._paid) if self._paid else torch.zeros(0, len(self.watch))

    def add_log_sums(self, chunk: Float[Tensor, "head query"]) -> None:
        """Append the log denominators of the next chunk of queries, over the keys."""
        self._log_sums.append(chunk)

    def log_sums(self, learned_sinks: Tensor | None) -> Float[Tensor, "head query"] | None:
        """Log denominators of all queries, over keys and learned sinks; None if not asked for."""
        if not self.wants_log_sums:
            return None
        whole = torch.cat(self._log_sums, dim=1)
        return whole if learned_sinks is None else whole.logaddexp(learned_sinks.float()[:, None])

    def hooks(self, layer: int, text: int = 0) -> list[Hook]:
        """Hooks that add up the patterns and scores of a layer, for one text of the batch."""

        def on_pattern(pattern: Tensor, hook: Any) -> None:
            self.add_received(sum_received(pattern[[text]]))
            self.add_paid(read_paid(pattern[text], self.watch))

        def on_scores(scores: Tensor, hook: Any) -> None:
            masked = scores[text] <= torch.finfo(scores.dtype).min / 2  # as Hugging Face masks
            self.add_log_sums(scores[text].masked_fill(masked, -torch.inf).float().logsumexp(-1))

        hooks: list[Hook] = [(hook_name(layer, "pattern"), on_pattern)]
        return hooks + [(hook_name(layer, "attn_scores"), on_scores)] * self.wants_log_sums


def needs_no_pattern(queries: Tensor, totals: AttentionTotals) -> bool:
    """Whether `attend_only` gives all that is asked for: values, and log denominators at most.

    Denominators in half precision belong to scores that are rounded to it, and those of the kernel
    are not.
    """
    if totals.wants_received or totals.watch:
        return False
    exact = queries.dtype == torch.float32 and queries.device.type == "cpu"
    return exact or not totals.wants_log_sums


def in_rows(vectors: Float[Tensor, "*pos d"]) -> Float[Tensor, "*pos d"]:
    """Vectors whose numbers are next to each other in memory.

    A kernel that is called directly takes that for granted; a hook may return them otherwise.
    """
    return vectors if vectors.stride(-1) == 1 else vectors.contiguous()


def attend_only(
    queries: Float[Tensor, "query head d_head"],
    keys: Float[Tensor, "key kv_head d_head"],
    values: Float[Tensor, "key kv_head d_head"],
    *,
    scale: float,
    window: int | None,
    totals: AttentionTotals,
) -> Float[Tensor, "query head d_head"]:
    """Weighted values for the last queries of a text, by torch's own kernel.

    The kernel also returns the log denominators, which the public function of torch drops. So they
    cost nothing.
    """
    n_queries, n_keys, in_group = len(queries), len(keys), queries.shape[1] // keys.shape[1]
    q = in_rows(queries.transpose(0, 1)[None])
    k, v = (part.transpose(0, 1).repeat_interleave(in_group, 0)[None] for part in (keys, values))
    whole = n_queries == n_keys and (window is None or window >= n_keys)
    mask = None
    if not whole:
        positions = torch.arange(n_keys - n_queries, n_keys, device=queries.device)
        mask = visible_to_queries(positions, n_keys, window)
    totals.add_paid(queries.new_zeros(n_queries, 0))
    if totals.wants_log_sums:
        added = None if mask is None else mask.float().log()  # 0, or -inf where nothing is seen
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        z, log_sums = kernel(q, k, v, 0.0, whole, attn_mask=added, scale=scale)
        totals.add_log_sums(log_sums[0])
    else:
        z = scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=whole, scale=scale)
    return z[0].transpose(0, 1)


class Workspace:
    """Memory for the scores of a chunk on a text of `n_pos` tokens, reused by every chunk.

    Allocating larger blocks for each chunk would fragment the heap.
    """

    def __init__(self, n_pos: int) -> None:
        """Nothing is allocated yet."""
        self._n_pos = n_pos
        self._blocks: dict[str, Tensor] = {}

    def take(self, name: str, n_rows: int, n_keys: int, like: Tensor) -> Float[Tensor, "row key"]:
        """The block of this name, with arbitrary content."""
        size = n_rows * self._n_pos
        if name not in self._blocks or len(self._blocks[name]) < size:
            self._blocks[name] = like.new_empty(size)
        return self._blocks[name][: n_rows * n_keys].view(n_rows, n_keys)


def attend(
    queries: Float[Tensor, "query head d_head"],
    keys: Float[Tensor, "key kv_head d_head"],
    values: Float[Tensor, "key kv_head d_head"],
    *,
    scale: float,
    soft_cap: float | None,
    learned_sinks: Float[Tensor, "head"] | None,
    window: int | None,
    totals: AttentionTotals,
    workspace: Workspace,
) -> Float[Tensor, "query head d_head"]:
    """Weighted values for the last queries of a text; their attention is added to `totals`.

    The queries are at the last positions of `keys`. They see keys up to their own position and
    within their `window`.
    """
    (n_queries, n_heads, _), (n_keys, n_groups, _) = queries.shape, keys.shape
    in_group = n_heads // n_groups
    grouped = queries.unflatten(1, (n_groups, in_group)).permute(1, 2, 0, 3) * scale
    received = torch.zeros(n_keys, device=keys.device)
    paid = torch.zeros(n_queries, len(totals.watch), device=keys.device)
    outputs, log_sums = [], []
    for group in range(n_groups):
        rows = grouped[group].flatten(0, 1)
        scores = workspace.take("scores", len(rows), n_keys, rows)
        torch.matmul(rows, keys[:, group].T, out=scores)
        scores = scores if soft_cap is None else scores.div_(soft_cap).tanh_().mul_(soft_cap)
        scores = _mask(scores.view(in_group, n_queries, n_keys), window)
        sinks = None if learned_sinks is None else learned_sinks.view(n_groups, -1)[group]
        pattern = workspace.take("pattern", len(rows), n_keys, rows)
        _softmax(scores, sinks, pattern.view_as(scores))
        if totals.wants_log_sums and sinks is None and scores.dtype == torch.float32:
            log_sums.append(scores.amax(-1) - pattern.view_as(scores).amax(-1).log())
        elif totals.wants_log_sums:
            log_sums.append(scores.float().logsumexp(-1))
        received += pattern.sum(0, dtype=torch.float32)
        paid += read_paid(pattern.view_as(scores), totals.watch)
        outputs.append(pattern.to(values.dtype) @ values[:, group])
    totals.add_received(received / n_heads)
    totals.add_paid(paid / n_groups)
    if totals.wants_log_sums:
        totals.add_log_sums(torch.cat(log_sums))
    return torch.stack(outputs).view(n_heads, n_queries, -1).transpose(0, 1)


def _mask(
    scores: Float[Tensor, "head query key"], window: int | None
) -> Float[Tensor, "head query key"]:
    """Set scores to -inf for keys after the query and outside its window; in place."""
    n_queries, n_keys = scores.shape[1:]
    positions = torch.arange(n_keys - n_queries, n_keys, device=scores.device)[:, None]
    if n_queries > 1:
        after = torch.arange(n_keys - n_queries, n_keys, device=scores.device) > positions
        scores[..., n_keys - n_queries :].masked_fill_(after, -torch.inf)
    if window is not None and n_keys > window:
        outside = torch.arange(n_keys - window, device=scores.device) <= positions - window
        scores[..., : n_keys - window].masked_fill_(outside, -torch.inf)
    return scores


def _softmax(
    scores: Float[Tensor, "head query key"],
    learned_sinks: Float[Tensor, "head"] | None,
    out: Float[Tensor, "head query key"],
) -> None:
    """Softmax over the keys, and over the learned sink if there is one, into `out`."""
    if learned_sinks is None:
        torch.softmax(scores, -1, out=out)
        return
    sinks = learned_sinks.to(scores.dtype)[:, None, None].expand(-1, scores.shape[1], 1)
    out.copy_(torch.cat([scores, sinks], dim=-1).softmax(-1)[..., :-1])
