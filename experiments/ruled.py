"""Rows of the experiment `accuracy`: answers, right answers and texts with a rule at work."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from experiments.shared import Observed
from experiments.steered import lasting_positions
from secondary_sinks import Rule, Trace, detect, observe, score_under
from secondary_sinks.causal import ActiveRule, Met
from secondary_sinks.runs import ArmAnswer
from secondary_sinks.texts import AnsweredQuestion, answer_in, is_right

Row = dict[str, Any]


def answer_row(
    observed: Observed, question: AnsweredQuestion, one: ArmAnswer, rule: Rule | None
) -> Row:
    """One answer: whether it is right, and how many other tokens became sinks."""
    met = _counts(one.met)
    n_new = new_sinks(observed, one, rule) if rule is not None and met["n_edited"] else 0
    return {
        "text_id": one.text_id,
        "arm": one.arm,
        "sample": one.sample,
        "right": float(is_right(one.content, question.answer)),
        "answer": answer_in(one.content),
        "right_answer": question.answer,
        "n_tokens": len(one.tokens),
        "n_new_tokens": len(one.answer),
        "n_new_sinks": n_new,
        "new_sinks_per_1000": 1000 * n_new / len(one.tokens),
        **met,
    }


def new_sinks(observed: Observed, one: ArmAnswer, rule: Rule) -> int:
    """Tokens of prompt and answer, not edited, that are sinks under the rule and not without it.

    Both are found in whole passes over the same tokens.
    """
    model, limits = observed.model, observed.sinks.thresholds
    active = ActiveRule(model, rule, one.prompt, whole=True)
    ruled = observe(model, one.tokens, hooks=active.hooks)
    plain = observe(model, one.tokens)
    after, before = (_sinks(trace, limits) for trace in (ruled, plain))
    return len(after - before - set(active.edited.nonzero()[:, 0].tolist()))


def _sinks(trace: Trace, limits: Any) -> set[int]:
    return lasting_positions(detect(trace, limits))


def score_row(
    observed: Observed,
    prompt: Int[Tensor, "prompt"],
    continuation: Sequence[int] | Tensor,
    rule: Rule | None,
) -> Row:
    """How likely a continuation is, as the model reads it."""
    scored = score_under(observed.model, prompt, torch.as_tensor(continuation), rule)
    return {
        "n_tokens": scored.n_tokens,
        "log_likelihood": scored.log_likelihood,
        "perplexity": scored.perplexity,
        **_counts(scored.met),
    }


def _counts(met: Met) -> Row:
    return {name: getattr(met, name) for name in ("n_judged", "n_met", "n_edited", "n_short")}
