"""Answers of a model under rules: the same prompts and the same random numbers in every arm."""

import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from secondary_sinks.causal import Met
from secondary_sinks.causal.active_rule import check_rule
from secondary_sinks.display import count
from secondary_sinks.errors import TextError
from secondary_sinks.files import sha256_of_json
from secondary_sinks.layerwise.cached_generation import Continuation
from secondary_sinks.models import HookedModel
from secondary_sinks.runs.answer_lines import Say
from secondary_sinks.runs.generate import (
    Sampling,
    Task,
    answer_all,
    check_place,
    feed_prompt,
    locked,
)
from secondary_sinks.runs.hashes import code_version
from secondary_sinks.texts import Text
from secondary_sinks.types import Rule

WRITING = (
    *("layerwise", "causal/active_rule.py", "types/rules.py", "types/edit_kinds.py"),
    "runs/generate.py",
)
"""Code that answers depend on."""
Arms = Mapping[str, Rule | None]
"""Rules by the name of their arm; None is the model as it is."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ArmAnswer:
    """One answer of a model in one arm."""

    text_id: str
    """Id of the prompt."""
    arm: str
    sample: int
    """Number of the sample, from 0 on."""
    prompt: Int[Tensor, "pos"]
    """Token ids of the prompt as it was fed."""
    answer: Int[Tensor, "new"]
    """Token ids of the answer, with the one that ended it."""
    content: str
    """The answer as text, without the token that ended it."""
    met: Met
    """The tokens of prompt and answer that met the rule; none in an arm without one."""

    @property
    def tokens(self) -> Int[Tensor, "pos"]:
        """Prompt and answer."""
        return torch.cat([self.prompt, self.answer])


def generate_under(
    model: HookedModel,
    prompts: Sequence[Text],
    arms: Arms,
    *,
    sampling: Sampling | None = None,
    n_samples: int = 1,
    out: str | Path | None = None,
    say: Say = print,
) -> list[ArmAnswer]:
    """Let a model answer each prompt `n_samples` times in each arm, while the arm's rule edits it.

    An arm is a name with its `Rule`; None is the model as it is. A rule is active while the model
    reads the prompt and while it writes. Sample k of a prompt has the same random numbers in all
    arms, and sample 0 is what `generate` writes. `say` is called with an estimate of the time
    before, and at the end with how many tokens met the rule of each arm.

    With `out`, each answer is kept there as a JSON line, which `read_texts` can read; the same call
    resumes an interrupted one. Raises `TextError` for prompts that share an id, for no arm or a
    name with a slash, and for fewer than one sample or several at temperature 0; and the errors of
    `generate`.
    """
    chosen = sampling or Sampling()
    _check(prompts, arms, chosen, n_samples)
    if out is None:
        with tempfile.TemporaryDirectory() as folder:
            return _answer(model, prompts, arms, chosen, n_samples, Path(folder) / "a.jsonl", say)
    check_place(Path(out))
    with locked(Path(out)):
        return _answer(model, prompts, arms, chosen, n_samples, Path(out), say)


def _answer(
    model: HookedModel,
    prompts: Sequence[Text],
    arms: Arms,
    sampling: Sampling,
    n_samples: int,
    out: Path,
    say: Say,
) -> list[ArmAnswer]:
    fed = {text.text_id: feed_prompt(model, text) for text in prompts}
    for rule in arms.values():
        if rule is not None:
            check_rule(model, rule)
    say(
        f"{count(len(prompts), 'prompt')}, {count(len(arms), 'arm')} ({', '.join(arms)}), "
        f"{count(n_samples, 'sample')}: about "
        f"{_seconds(model, list(fed.values()), sampling) * len(arms) * n_samples:.0f} s at most, "
        "less what is there already"
    )
    tasks = [
        Task(
            key=f"{text.text_id}/{arm}/{sample}",
            text=text,
            fed=fed[text.text_id],
            seed=f"{text.text_id}#{sample}" if sample else text.text_id,
            rule=rule,
            more={"arm": arm, "sample": sample},
        )
        for text in prompts
        for sample in range(n_samples)
        for arm, rule in arms.items()
    ]
    read = partial(_read, out=out)
    made = {"arms": _plain(arms), "code": code_version(WRITING)}
    before, new = answer_all(model, tasks, out, sampling, made, say, read)
    found = [read(task, (before | new)[task.key]) for task in tasks]
    for arm, rule in arms.items():
        if rule is not None:
            met = sum((one.met for one in found if one.arm == arm), Met())
            say(f"{arm}: {met.in_words(rule)}")
    return found


def _seconds(model: HookedModel, fed: Sequence[Tensor], sampling: Sampling) -> float:
    """Seconds that one answer to each prompt takes at most, from reading the first one."""
    text, start = Continuation(model), time.perf_counter()
    text.read(fed[0])
    between = time.perf_counter()
    text.read(fed[0][-1:])
    each = time.perf_counter() - between
    read = (between - start) / len(fed[0]) * sum(len(one) for one in fed)
    return read + each * sampling.max_new_tokens * len(fed)


def _plain(arms: Arms) -> dict[str, Any]:
    """The rules as plain data; of a direction, its hash."""
    plain = {arm: None if rule is None else rule.to_dict() for arm, rule in arms.items()}
    for rule in plain.values():
        if rule and "direction" in rule:
            rule["direction"] = sha256_of_json(rule["direction"])
    return plain


def _read(task: Task, line: Mapping[str, Any], out: Path) -> ArmAnswer:
    """The answer that a line holds.

    Raises `TextError` for a line that was changed, and for one with other prompt tokens than now:
    the arms of a prompt are compared, so that all must have the same.
    """
    try:
        if line["stored_ids"]["prompt"] != task.fed.tolist():
            raise TextError(
                f"{str(out)!r}: the line {task.key!r} has other prompt tokens than the chat "
                "template gives today (a date?)",
                "choose another --out, or remove the file",
            )
        met: dict[str, Any] = {
            name: math.nan if one is None else one for name, one in line.get("met", {}).items()
        }
        return ArmAnswer(
            text_id=task.text.text_id,
            arm=task.more["arm"],
            sample=task.more["sample"],
            prompt=task.fed,
            answer=torch.tensor(line["stored_ids"]["answer"], dtype=torch.long),
            content="" if line["blank"] else line["messages"][-1]["content"],
            met=Met(**met),
        )
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise TextError(
            f"{str(out)!r}: the line {task.key!r} was not written by generate_under",
            "choose another --out, or remove the file",
        ) from error


def _check(prompts: Sequence[Text], arms: Arms, sampling: Sampling, n_samples: int) -> None:
    ids = [text.text_id for text in prompts]
    if not ids or len(set(ids)) < len(ids):
        raise TextError(f"got prompts {ids}", "expected at least one, each with an id of its own")
    if not arms or any(not name or "/" in name for name in arms):
        raise TextError(f"arms are {list(arms)}", "expected at least one name, without a slash")
    if n_samples < 1:
        raise TextError(f"n_samples is {n_samples}", "expected at least 1")
    if n_samples > 1 and not sampling.temperature:
        raise TextError(
            f"n_samples is {n_samples} at temperature 0, where all samples are the same",
            "expected 1 sample, or a temperature above 0",
        )
