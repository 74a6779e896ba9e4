"""A rule at work: the hooks that edit a text while it grows, and the tokens that meet the rule.

Which tokens meet a rule is decided by what an MLP reads and writes, which no edit of the rule
changes: `set_norm` acts after it, and `mask` in later layers. So the same tokens meet a rule
whether they are edited or not, and whether the text is read at once or token by token.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from secondary_sinks.errors import EditError, UnsupportedModelError
from secondary_sinks.layerwise.protocol import Hook, HookedModel
from secondary_sinks.measures.hook_names import hook_name
from secondary_sinks.types import Given, Rule
from secondary_sinks.types.edit_kinds import KINDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Met:
    """How many tokens of a text, or of several, met a rule."""

    n_judged: int = 0
    """Tokens that are not exempt."""
    n_met: int = 0
    """Those of them that meet the rule."""
    n_edited: int = 0
    """Tokens that were edited: those that meet it, or those of its control."""
    highest: float = math.nan
    """The highest cosine with the direction."""

    @property
    def n_short(self) -> int:
        """Tokens that its control should have edited too, but did not find."""
        return self.n_met - self.n_edited

    def __add__(self, other: "Met") -> "Met":
        """The counts of both together."""
        return Met(
            n_judged=self.n_judged + other.n_judged,
            n_met=self.n_met + other.n_met,
            n_edited=self.n_edited + other.n_edited,
            highest=_max(self.highest, other.highest),
        )

    def in_words(self, rule: Rule) -> str:
        """How many tokens met the rule, and what follows if none or all did.

        >>> Met(n_judged=57, n_met=0, highest=0.414).in_words(Rule(layer=2, kind="mask"))
        'the rule meets none of 57 tokens (highest cosine 0.41, tau 0.98): nothing is edited'
        """
        of = f"of {self.n_judged:,} tokens"
        if not self.n_met:
            highest = "" if math.isnan(self.highest) else f"highest cosine {self.highest:.2g}, "
            return f"the rule meets none {of} ({highest}tau {rule.tau:g}): nothing is edited"
        edited = f"; {self.n_edited:,} others are edited" if rule.control else ""
        if self.n_met == self.n_judged:
            whole = f"all {self.n_judged:,} tokens"
            return f"the rule meets {whole}, so that no control is possible{edited}"
        short = f", {self.n_short:,} fewer than meet it" if self.n_short else ""
        return f"the rule meets {self.n_met:,} {of}{edited}{short}"


class ActiveRule:
    """A rule at work on one text, which begins with a prompt that is read at once.

    Keep its `hooks` on a model while the text grows token by token with a key-value cache; or, with
    `whole`, in any number of passes over the whole text. `met`, `cosine` and `edited` then tell
    what happened. Hooks return activations that they don't edit as they are, bit for bit.

    Raises `EditError` for a layer that the model lacks, a direction of another size, or a mask in
    the last layer, after which there is no attention.
    """

    def __init__(
        self, model: HookedModel, rule: Rule, prompt: Int[Tensor, "pos"], *, whole: bool = False
    ) -> None:
        """The control's random tokens depend on the rule's seed and the prompt alone."""
        check_rule(model, rule)
        self.rule, self.n_prompt, self._whole = rule, len(prompt), whole
        self._n_layers = int(model.cfg.n_layers)
        words = f"{rule.seed}:{prompt.tolist()}".encode()
        self._seed = int.from_bytes(hashlib.sha256(words).digest()[:7], "big")
        self._restart()

    def _restart(self) -> None:
        self.cosine: Float[Tensor, "pos"] = torch.empty(0)
        """Cosine of what the MLP writes at each token so far with the direction; NaN where it
        writes zero."""
        self.edited: Bool[Tensor, "pos"] = torch.empty(0, dtype=torch.bool)
        """The tokens so far that are edited."""
        self._direction: Tensor | None = None
        self._owed = 0

    @property
    def meets(self) -> Bool[Tensor, "pos"]:
        """The tokens so far that meet the rule."""
        exempt = torch.arange(len(self.cosine)) < self.rule.exempt
        return ~exempt & (self.cosine > self.rule.tau)

    @property
    def met(self) -> Met:
        """The counts so far."""
        judged = self.cosine[self.rule.exempt :]
        return Met(
            n_judged=len(judged),
            n_met=int(self.meets.sum()),
            n_edited=int(self.edited.sum()),
            highest=_max(*judged.tolist()),
        )

    @property
    def hooks(self) -> list[Hook]:
        """Hooks for a pass that reads the next tokens, or (`whole`) the whole text."""
        return [hook for layer in range(self._n_layers) for hook in self.at(layer)]

    def at(self, layer: int) -> list[Hook]:
        """Those of one layer."""
        if layer == self.rule.layer:
            return [(hook_name(layer, "mlp_out"), self._on_written)]
        masks = self.rule.kind == "mask" and layer > self.rule.layer
        return [(hook_name(layer, "attn_scores"), self._on_scores)] if masks else []

    def _on_written(self, written: Float[Tensor, "1 pos d_model"], hook: Any) -> Tensor | None:
        if self._whole:
            self._restart()
        cosine = self._cosine(written[0].float())
        new = self._choose(cosine)
        self.cosine = torch.cat([self.cosine, cosine])
        self.edited = torch.cat([self.edited, new])
        if self.rule.value is None or not bool(new.any()):
            return None
        at, changed = new.to(written.device), written.clone()
        given = Given(value=self.rule.value)
        changed[0, at] = KINDS["set_norm"].apply(written[0, at].float(), given).to(written.dtype)
        return changed

    def _on_scores(self, scores: Float[Tensor, "1 head query key"], hook: Any) -> Tensor | None:
        n_queries, n_keys = scores.shape[-2:]
        if n_keys != len(self.edited):
            raise UnsupportedModelError(
                f"attention sees {n_keys} keys of a text of {len(self.edited)} tokens, so that "
                "tokens cannot be masked"
            )
        if not bool(self.edited.any()):
            return None
        behind = torch.arange(n_keys - n_queries, n_keys)[:, None] - torch.arange(n_keys)
        return scores.masked_fill((self.edited & (behind > 0)).to(scores.device), -torch.inf)

    def _cosine(self, written: Float[Tensor, "pos d_model"]) -> Float[Tensor, "pos"]:
        if self._direction is None:
            own = self.rule.direction
            towards = written[0] if own is None else torch.tensor(own, dtype=torch.float64)
            if not bool(towards.any()):
                raise EditError(
                    f"the MLP of layer {self.rule.layer} writes zero at the first token, which has "
                    "no direction",
                    "give the rule a direction=",
                )
            self._direction = _of_length_one(towards).to(written.device)
        return (written @ self._direction / written.norm(dim=-1)).cpu().clamp(-1, 1)

    def _choose(self, cosine: Float[Tensor, "pos"]) -> Bool[Tensor, "pos"]:
        """The tokens to edit among those that come next."""
        start = len(self.cosine)
        judged = torch.arange(start, start + len(cosine)) >= self.rule.exempt
        meets = judged & (cosine > self.rule.tau)
        if not self.rule.control:
            return meets
        free, chosen = judged & (cosine <= self.rule.tau), torch.zeros_like(meets)
        n_prompt = max(0, self.n_prompt - start)
        if n_prompt:
            chosen[:n_prompt] = self._at_random(meets[:n_prompt], free[:n_prompt])
        for index in range(n_prompt, len(cosine)):
            self._owed += int(meets[index])
            chosen[index] = free[index] & (self._owed > 0)
            self._owed -= int(chosen[index])
        return chosen

    def _at_random(self, meets: Bool[Tensor, "pos"], free: Bool[Tensor, "pos"]) -> Tensor:
        """As many random tokens as meet the rule; what is missing is owed by later tokens."""
        chance = torch.Generator().manual_seed(self._seed)
        places, wanted = free.nonzero()[:, 0], int(meets.sum())
        drawn = places[torch.randperm(len(places), generator=chance)[:wanted]]
        self._owed = wanted - len(drawn)
        return torch.zeros_like(free).index_fill(0, drawn, True)


def _max(*numbers: float) -> float:
    """The largest number; NaN without any."""
    return max((one for one in numbers if not math.isnan(one)), default=math.nan)


def _of_length_one(towards: Float[Tensor, "d_model"]) -> Float[Tensor, "d_model"]:
    """The direction of a vector of any length, even one whose square no float holds."""
    exact = towards.detach().cpu().double()
    scaled = exact / exact.abs().max()
    return (scaled / scaled.norm()).float()


def check_rule(model: HookedModel, rule: Any) -> None:
    """Raise `EditError` for a rule that is impossible in this model, and for anything else."""
    if not isinstance(rule, Rule):
        raise EditError(
            f"expected a Rule, got {type(rule).__name__}", "expected like Rule(layer=5, value=0.0)"
        )
    n_layers, d_model = int(model.cfg.n_layers), int(model.cfg.d_model)
    if rule.layer >= n_layers:
        raise EditError(
            f"a rule reads layer {rule.layer}", f"expected 0 to {n_layers - 1} in this model"
        )
    if rule.kind == "mask" and rule.layer == n_layers - 1:
        raise EditError(
            f"a rule masks keys after layer {rule.layer}, the last one",
            f"expected at most layer {n_layers - 2}, or kind 'set_norm'",
        )
    if rule.direction is not None and len(rule.direction) != d_model:
        raise EditError(
            f"the direction of a rule has {len(rule.direction)} numbers", f"expected {d_model}"
        )
