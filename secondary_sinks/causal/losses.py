"""What a model predicts from clean and edited residuals: loss of the next token, divergence."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.models.layers import Passage

LOGITS_AT_ONCE = 1 << 25
"""Logits held at once, per text: 128 MiB in float32."""


class Losses:
    """Next-token losses in nats, by the position that predicts; the last one predicts nothing."""

    def __init__(
        self,
        passage: Passage,
        tokens: Int[Tensor, "pos"],
        resid_post: Float[Tensor, "pos d_model"],
    ) -> None:
        """`resid_post` is that of the last layer in the clean run."""
        self.passage, self.resid_post = passage, resid_post[:-1]
        self.next = tokens[1:].to(resid_post.device)

    def clean(self) -> Float[Tensor, "pos"]:
        """Losses of the clean run."""
        parts = self.resid_post.split(self._rows())
        nexts = self.next.split(self._rows())
        return torch.cat([_loss(self._log(p), n) for p, n in zip(parts, nexts, strict=True)])

    def edited(
        self, resid_post: Float[Tensor, "suffix d_model"]
    ) -> tuple[Float[Tensor, "pos"], Float[Tensor, "pos"]]:
        """Losses of the last positions of an edited run, and divergences from the clean one."""
        ours = resid_post[:-1]
        n, rows = len(ours), self._rows()
        losses, divergences = [torch.zeros(0)], [torch.zeros(0)]
        first = len(self.next) - n
        for start in range(0, n, rows):
            part = slice(first + start, first + min(start + rows, n))
            clean = self._log(self.resid_post[part])
            edited = self._log(ours[start : start + rows])
            losses.append(_loss(edited, self.next[part]))
            divergences.append((clean.exp() * (clean - edited)).sum(-1).clamp(min=0).cpu())
        return torch.cat(losses), torch.cat(divergences)

    def _rows(self) -> int:
        return max(1, LOGITS_AT_ONCE // int(self.passage.model.cfg.d_vocab))

    def _log(self, resid_post: Float[Tensor, "row d_model"]) -> Float[Tensor, "row d_vocab"]:
        return self.passage.logits(resid_post[None])[0].float().log_softmax(-1)


def _loss(log_probs: Float[Tensor, "row d_vocab"], target: Int[Tensor, "row"]) -> Tensor:
    return -log_probs.gather(1, target[:, None])[:, 0].cpu()
