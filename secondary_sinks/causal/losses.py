"""Next-token loss, and KL divergence from the clean prediction, from final residuals."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from secondary_sinks.layerwise.interface import LayerwiseForward, VocabularyChunk

LOGITS_AT_ONCE = 1 << 24
"""Largest number of logits of the clean text in memory at once: 64 MiB in float32."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Losses:
    """Losses in nats, by the position that predicts; the last position has no next token."""

    clean: Float[Tensor, "pos"]
    edited: dict[int, Float[Tensor, "suffix"]]
    """Losses at the last positions of each edited run, by index of the cell."""
    kl: dict[int, Float[Tensor, "suffix"]]
    """KL(clean || edited) at the same positions, computed as cross-entropy minus entropy, so
    rounded to some 1e-6."""


def losses(
    passage: LayerwiseForward,
    tokens: Int[Tensor, "pos"],
    clean: Float[Tensor, "pos d_model"],
    edited: Mapping[int, Float[Tensor, "suffix d_model"]],
) -> Losses:
    """Losses of the clean run and of edited ones, from residuals of the last layer.

    Works position by position, so that the clean prediction is computed once for all edited runs,
    and in chunks of the vocabulary, so that few logits of the edited runs are in memory at once.
    """
    n, rows = len(tokens) - 1, max(1, LOGITS_AT_ONCE // int(passage.model.cfg.d_vocab))
    result = Losses(
        clean=torch.zeros(n),
        edited={cell: torch.zeros(len(state) - 1) for cell, state in edited.items()},
        kl={cell: torch.zeros(len(state) - 1) for cell, state in edited.items()},
    )
    for first in range(0, n, rows):
        end = min(first + rows, n)
        target = tokens[first + 1 : end + 1].to(clean.device)
        expected = _Expected.of(passage, clean[first:end], target)
        result.clean[first:end] = expected.loss.cpu()
        for cell, state in edited.items():
            start = len(tokens) - len(state)
            begin = max(first, start)
            if begin < end:
                there, here = slice(begin - start, end - start), slice(begin - first, None)
                loss, kl = expected.against(passage.logits(state[there]), here)
                result.edited[cell][there], result.kl[cell][there] = loss.cpu(), kl.cpu()
    return result


def divergence(
    passage: LayerwiseForward,
    clean: Float[Tensor, "row d_model"],
    edited: Float[Tensor, "cell d_model"],
    row: Int[Tensor, "cell"],
) -> Float[Tensor, "cell"]:
    """KL(clean || edited) in nats of the next token, from residuals of the last layer.

    `row` is the index of the clean residual that each edited one is compared with, so that the
    clean prediction is computed once for all edits of a token. Rounded as `Losses.kl`.
    """
    found, rows = torch.zeros(len(edited)), max(1, LOGITS_AT_ONCE // int(passage.model.cfg.d_vocab))
    for first in range(0, len(clean), rows):
        part = clean[first : first + rows]
        expected = _Expected.of(passage, part, torch.zeros(len(part), device=part.device).long())
        mine = ((row >= first) & (row < first + rows)).nonzero()[:, 0]
        for cells in mine.split(rows):
            at = (row[cells] - first).to(part.device)
            _, kl = expected.against(passage.logits(edited[cells.to(edited.device)]), at)
            found[cells] = kl.cpu()
    return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Expected:
    """Clean predictions at some positions."""

    target: Int[Tensor, "row"]
    """The token that comes next in the text."""
    loss: Float[Tensor, "row"]
    entropy: Float[Tensor, "row"]
    shares: list[Float[Tensor, "row _"]]
    """Probabilities, one tensor per vocabulary chunk."""

    @staticmethod
    def of(
        passage: LayerwiseForward,
        resid_post: Float[Tensor, "row d_model"],
        target: Int[Tensor, "row"],
    ) -> "_Expected":
        made = [(words, logits.float()) for words, logits in passage.logits(resid_post)]
        log_sum = torch.stack([_log_sum(logits) for _, logits in made]).logsumexp(0)
        shares = [(logits - log_sum[:, None]).exp_() for _, logits in made]
        mean, loss = torch.zeros_like(log_sum), log_sum.clone()
        for share, (words, logits) in zip(shares, made, strict=True):
            mean += _dot(share, logits)
            loss -= _of_target(words, logits, target)
        return _Expected(target=target, loss=loss, entropy=log_sum - mean, shares=shares)

    def against(
        self, edited: Iterable[VocabularyChunk], rows: slice | Int[Tensor, "row"]
    ) -> tuple[Float[Tensor, "row"], Float[Tensor, "row"]]:
        """Loss and divergence of edited predictions at some of these positions."""
        target = self.target[rows]
        log_sums: list[Tensor] = []
        of_target = mean = torch.zeros(len(target), device=target.device)
        for share, (words, strip) in zip(self.shares, edited, strict=True):
            logits = strip.float()
            log_sums.append(_log_sum(logits))
            of_target = of_target + _of_target(words, logits, target)
            mean = mean + _dot(share[rows], logits)
        log_sum = torch.stack(log_sums).logsumexp(0)
        return log_sum - of_target, (log_sum - mean - self.entropy[rows]).clamp(min=0)


def _log_sum(logits: Float[Tensor, "row word"]) -> Float[Tensor, "row"]:
    """Log of the sum of exponentials, with fewer passes over the logits than `logsumexp`."""
    first = logits.new_zeros(len(logits), dtype=torch.long)
    return cross_entropy(logits, first, reduction="none") + logits[:, 0]


def _of_target(
    words: slice, logits: Float[Tensor, "row word"], target: Int[Tensor, "row"]
) -> Float[Tensor, "row"]:
    """The logit of each target token within a vocabulary chunk; 0 if it is not in this chunk."""
    column = (target - words.start).clamp(0, logits.shape[1] - 1)
    among = (target >= words.start) & (target < words.stop)
    return logits.gather(1, column[:, None])[:, 0] * among


def _dot(a: Float[Tensor, "row n"], b: Float[Tensor, "row n"]) -> Float[Tensor, "row"]:
    return torch.einsum("rn,rn->r", a, b)
