"""How likely a text is while a rule edits it."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.causal.active_rule import ActiveRule, Met
from secondary_sinks.causal.losses import losses
from secondary_sinks.errors import TextError
from secondary_sinks.layerwise.begin import layerwise_forward
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.observation import iter_layers
from secondary_sinks.observation.tokens import are_ids, tokenize_given
from secondary_sinks.types import Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """How likely a text is, as the model reads it, with or without a rule."""

    log_likelihood: float
    """Sum of the log-probabilities of the scored tokens, in nats."""
    n_tokens: int
    """Number of scored tokens."""
    loss: Float[Tensor, "new"]
    """Loss of each scored token, in nats."""
    met: Met

    @property
    def perplexity(self) -> float:
        """The exponential of the mean loss of a scored token."""
        return math.exp(-self.log_likelihood / self.n_tokens)


def score_under(
    model: HookedModel,
    prompt: Int[Tensor, "prompt"],
    continuation: Int[Tensor, "new"],
    rule: Rule | None = None,
) -> Scored:
    """Log-likelihood of what follows a prompt, in one pass under a rule, or without one.

    Both are token ids. For the perplexity of a text, give its first token as the prompt. Raises
    `EditError` for a rule that is impossible in this model, and `TextError` for tokens that it
    cannot read.
    """
    prompt, continuation = _ids("prompt", prompt), _ids("continuation", continuation)
    tokens = tokenize_given(model, torch.cat([prompt, continuation]), None).tokens
    active = None if rule is None else ActiveRule(model, rule, prompt, whole=True)
    given: dict[str, Any] = {} if active is None else {"chunk": len(tokens), "hooks": active.at}
    for view in iter_layers(model, tokens, received=False, **given):
        last = view.resid_post
        del view
    found = losses(layerwise_forward(model, tokens[:1]), tokens, last, {}).clean
    loss = found[len(prompt) - 1 :].float().cpu()
    return Scored(
        loss=loss,
        log_likelihood=-float(loss.double().sum()),
        n_tokens=len(continuation),
        met=Met() if active is None else active.met,
    )


def _ids(name: str, tokens: Any) -> Int[Tensor, "pos"]:
    """The ids of one part. Raises `TextError` for anything but one row of at least one of them."""
    if not isinstance(tokens, Tensor):
        raise TextError(
            f"the {name} is {tokens!r:.60}", "expected a tensor of token ids, as model.to_tokens"
        )
    if not are_ids(tokens, tokens):
        raise TextError(
            f"the {name} is {tokens.dtype} {[*tokens.shape]}",
            "expected whole numbers [pos]: the token ids of one text",
        )
    if not len(tokens):
        raise TextError(f"the {name} has 0 tokens", "expected at least one")
    return tokens.detach().cpu().long()
