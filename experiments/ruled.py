"""Rows of the experiment `accuracy`: answers, new sinks, right answers and texts under a rule."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from experiments.shared import Observed
from experiments.steered import lasting_positions
from secondary_sinks import Rule, Trace, detect, observe, score_under
from secondary_sinks.causal import ActiveRule, Met
from secondary_sinks.detection import shared_lengths
from secondary_sinks.errors import TextError
from secondary_sinks.models import HookedModel
from secondary_sinks.runs import ArmAnswer, feed_prompt
from secondary_sinks.texts import AnsweredQuestion, answer_in, is_right
from secondary_sinks.types import refuse_twice

Row = dict[str, Any]
Arms = Mapping[str, Rule | None]
Parts = tuple[Int[Tensor, "prompt"], Int[Tensor, "new"]]
"""Token ids that are read first, and those whose likelihood is asked for."""
CLEAN, RULE, CONTROL = "clean", "rule", "control"
"""The arms."""


def right_answers(model: HookedModel, asked: Sequence[AnsweredQuestion]) -> dict[str, Parts]:
    """Prompt and right answer of each question.

    Raises `TextError` if they exceed the context, and for a prompt that is asked twice.
    """
    found: dict[str, Parts] = {}
    for one in asked:
        prompt = feed_prompt(model, one.text)
        right = torch.tensor(model.tokenizer.encode(one.answer, add_special_tokens=False))
        if len(prompt) + len(right) > model.cfg.n_ctx:
            raise TextError(
                f"question {one.text.text_id!r} has {len(prompt) + len(right)} tokens with its "
                f"right answer; the context is {model.cfg.n_ctx}"
            )
        found[one.text.text_id] = prompt, right
    prompts = [tuple(prompt.tolist()) for prompt, _ in found.values()]
    refuse_twice("questions", list(found), TextError, keys=prompts)
    return found


def tables_of(
    observed: Observed,
    asked: Sequence[AnsweredQuestion],
    right: Mapping[str, Parts],
    answers: Sequence[ArmAnswer],
    arms: Arms,
    *,
    anywhere: bool,
) -> dict[str, pd.DataFrame]:
    """Answers; new sinks in prompts and clean answers; scores of right answers; those of texts.

    `anywhere` is that of `is_right`.
    """
    expected = {one.text.text_id: one.answer for one in asked}
    texts = {text.text_id: (text.tokens[:1], text.tokens[1:]) for text in observed.texts}
    shared = dict(zip(texts, shared_lengths([one.tokens for one in observed.texts]), strict=True))
    prompts = dict(zip(right, shared_lengths([one for one, _ in right.values()]), strict=True))
    jobs = [
        ("sinks", partial(sink_rows, observed, one, arms, prompts[one.text_id]))
        for one in answers
        if arms[one.arm] is None
    ]
    jobs += [("scores", partial(score_rows, observed, one, *right[one], arms)) for one in right]
    jobs += [
        ("texts", partial(score_rows, observed, one, *parts, arms, max(0, shared[one] - 1)))
        for one, parts in texts.items()
    ]
    rows = {"answers": [answer_row(one, expected[one.text_id], anywhere) for one in answers]}
    progress = observed.progress("accuracy", "prompts, answers and texts")
    for done, (name, job) in enumerate(jobs, start=1):
        rows.setdefault(name, []).extend(job())
        progress(done, len(jobs))
    return {name: pd.DataFrame(part) for name, part in rows.items()}


def answer_row(one: ArmAnswer, right: str, anywhere: bool) -> Row:
    """One answer, and whether it is right."""
    return {
        "text_id": one.text_id,
        "arm": one.arm,
        "sample": one.sample,
        "right": float(is_right(one.content, right, anywhere=anywhere)),
        "answer": one.content if anywhere else answer_in(one.content),
        "right_answer": right,
        "n_tokens": len(one.tokens),
        "n_new_tokens": len(one.answer),
        **_counts(one.met),
    }


def sink_rows(observed: Observed, one: ArmAnswer, arms: Arms, n_shared: int = 0) -> list[Row]:
    """By arm with a rule: tokens of a prompt and its answer that only the edits make sinks.

    Both arms read the same tokens, and tokens that either edits count in neither. So no arm has
    more tokens that could become sinks. The first `n_shared` tokens, which an earlier prompt has
    too, are not counted.
    """
    model, limits = observed.model, observed.sinks.thresholds
    active = {
        arm: ActiveRule(model, rule, one.prompt, whole=True)
        for arm, rule in arms.items()
        if rule is not None
    }
    found = {
        arm: _sinks(observe(model, one.tokens, hooks=own.hooks), limits)
        for arm, own in active.items()
    }
    others = _sinks(observe(model, one.tokens), limits) | {*range(n_shared)}
    for own in active.values():
        others.update(own.edited.nonzero()[:, 0].tolist())
    return [
        {
            "text_id": one.text_id,
            "arm": arm,
            "sample": one.sample,
            "n_tokens": len(one.tokens),
            "n_new_sinks": len(found[arm] - others),
            **_counts(own.met),
        }
        for arm, own in active.items()
    ]


def _sinks(trace: Trace, limits: Any) -> set[int]:
    return lasting_positions(detect(trace, limits))


def score_rows(
    observed: Observed,
    text_id: str,
    prompt: Int[Tensor, "prompt"],
    rest: Int[Tensor, "new"],
    arms: Arms,
    n_shared: int = 0,
) -> list[Row]:
    """By arm: how likely the rest of a text is after its prompt, as the model reads both.

    The first `n_shared` tokens of the rest, which an earlier text has too, are not scored. NaN if
    there are no others.
    """
    rows = []
    for arm, rule in arms.items():
        scored = score_under(observed.model, prompt, rest, rule)
        loss = scored.loss[n_shared:].double()
        own = {
            "text_id": text_id,
            "arm": arm,
            "n_tokens": len(loss),
            "log_likelihood": -float(loss.sum()),
            "loss": float(loss.mean()),
            "perplexity": float(loss.mean().exp()),
        }
        rows.append(own | _counts(scored.met))
    return rows


def _counts(met: Met) -> Row:
    return {name: getattr(met, name) for name in ("n_judged", "n_met", "n_edited", "n_short")}
