"""Rows of the experiment `accuracy`: answers, right answers and texts with a rule at work."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
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
CLEAN, RULE, CONTROL = "clean", "rule", "control"
"""The arms."""


def tables_of(
    observed: Observed,
    asked: Sequence[AnsweredQuestion],
    answers: Sequence[ArmAnswer],
    arms: Mapping[str, Rule | None],
) -> dict[str, pd.DataFrame]:
    """Rows by question, arm and sample; by question and arm; and by text and arm."""
    progress, tokenizer = observed.progress("accuracy"), observed.model.tokenizer
    by_id = {one.text.text_id: one for one in asked}
    right = {
        one.text_id: (
            one.prompt,
            tokenizer.encode(by_id[one.text_id].answer, add_special_tokens=False),
        )
        for one in answers
    }
    texts = {text.text_id: (text.tokens[:1], text.tokens[1:]) for text in observed.texts}
    whole, rows = len(answers) + len(right) + len(texts), list[Row]()
    for done, one in enumerate(answers, start=1):
        rows.append(answer_row(observed, by_id[one.text_id], one, arms[one.arm]))
        progress(done, whole)
    tables = {"answers": pd.DataFrame(rows)}
    done = len(answers)
    for name, parts in (("scores", right), ("texts", texts)):
        rows = []
        for text_id, (prompt, rest) in parts.items():
            done += 1
            for arm, rule in arms.items():
                score = score_row(observed, prompt, rest, rule)
                rows.append({"text_id": text_id, "arm": arm, **score})
            progress(done, whole)
        tables[name] = pd.DataFrame(rows)
    return tables


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
        "loss": -scored.log_likelihood / scored.n_tokens,
        "perplexity": scored.perplexity,
        **_counts(scored.met),
    }


def _counts(met: Met) -> Row:
    return {name: getattr(met, name) for name in ("n_judged", "n_met", "n_edited", "n_short")}
