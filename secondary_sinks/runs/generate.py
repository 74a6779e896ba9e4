"""Long answers of a model to prompts, to be searched for sinks: one JSON line per prompt.

Only complete lines count: if a run is cut off, the next one removes a torn last line and generates
what is missing. Each prompt has its own seed, so the order in which prompts are answered does not
change the answers.
"""

import contextlib
import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.causal import ActiveRule
from secondary_sinks.errors import ModelError, RunFolderError, TextError
from secondary_sinks.layerwise.cached_generation import Continuation, end_tokens
from secondary_sinks.layerwise.protocol import Hook
from secondary_sinks.models import HookedModel, weight_hash
from secondary_sinks.models.original.tokenizer import check_ids
from secondary_sinks.runs import durable
from secondary_sinks.runs.answer_lines import Answer, Say, line_of, messages_of, read_done
from secondary_sinks.runs.plain import without_nan
from secondary_sinks.texts import Text, parse_jsonl, read_texts
from secondary_sinks.texts.chat_template import apply_chat_template
from secondary_sinks.texts.limits import split_json_lines
from secondary_sinks.texts.read_files import PROMPTS, bundled_name, read_bundled, read_utf8
from secondary_sinks.texts.records import load_object
from secondary_sinks.texts.tokenize import encode, template_sha256, tokenizer_sha256
from secondary_sinks.types import Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are chosen: the most likely one at temperature 0, otherwise sampled."""

    max_new_tokens: int = 2048
    temperature: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges. Raises `TextError`."""
        if self.max_new_tokens < 1:
            raise TextError(f"max_new_tokens is {self.max_new_tokens}", "expected at least 1")
        if not 0 <= self.temperature < 100:
            raise TextError(f"temperature is {self.temperature}", "expected 0 (greedy) to 100")


def read_prompts(path: Path) -> list[Text]:
    """Read prompts from a file: the formats of `read_texts`, or JSON lines with `prompt` only.

    `bundled:prompts` are the prompts that come with the package.
    """
    bundled = bundled_name(path)
    if bundled is not None:
        return _parse_prompts(read_bundled(bundled, PROMPTS), str(path))
    if path.suffix == ".txt":
        return read_texts(path)
    content = read_utf8(path, "JSON lines or a .txt file")
    return _parse_prompts(content, str(path))


def _parse_prompts(content: str, name: str) -> list[Text]:
    return parse_jsonl("\n".join(map(_as_text, split_json_lines(content, name))), name)


def check_place(out: Path) -> None:
    """Raise `RunFolderError` if no file of that name can be written; leaves no file behind."""
    if out.exists() and not out.is_file():
        raise RunFolderError(
            f"{str(out)!r} is not a file", "expected the name of a JSON Lines file"
        )
    try:
        with tempfile.TemporaryFile(dir=out.parent), contextlib.suppress(FileNotFoundError):
            out.lstat()  # raises for a name that is too long
    except OSError as error:
        raise durable.unwritable(out, error) from error


def locked(out: Path) -> AbstractContextManager[None]:
    """A context in which no other process answers into `out`."""
    return durable.locked(out.with_name(f"{durable.PART}{out.name}.lock"), out)


def generate(
    model: HookedModel, prompts: Sequence[Text], out: Path, sampling: Sampling, say: Say = print
) -> int:
    """Answer the prompts that `out` lacks, one line each; returns how many were answered.

    Raises `TextError` for a model without tokenizer or chat template, for prompts that do not fit
    into its context, for prompts from which its template drops something, and for an `out` made by
    another model or with other settings, and `RunFolderError` while another process answers into
    `out`.
    """
    with locked(out):
        return _generate(model, prompts, out, sampling, say)


def _generate(
    model: HookedModel, prompts: Sequence[Text], out: Path, sampling: Sampling, say: Say
) -> int:
    tasks = [
        Task(key=text.text_id, text=text, fed=feed_prompt(model, text), seed=text.text_id)
        for text in prompts
    ]
    n_before = len(answer_all(model, tasks, out, sampling, {}, say)[0])
    return len(tasks) - n_before


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """An answer to write."""

    key: str
    """Id of its line in the file."""
    text: Text
    fed: Int[Tensor, "pos"]
    seed: str
    """What its random numbers depend on, with the seed of the sampling."""
    rule: Rule | None = None
    """The rule under which it is written."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further keys of its line."""


Lines = dict[str, dict[str, Any]]
"""Lines of a file of answers, by their ids."""


def answer_all(
    model: HookedModel,
    tasks: Sequence[Task],
    out: Path,
    sampling: Sampling,
    made: Mapping[str, Any],
    say: Say,
    check: Callable[[Task, dict[str, Any]], object] = lambda task, line: None,
) -> tuple[Lines, Lines]:
    """Write the answers that `out` lacks; returns the lines found before, and the new ones.

    Every line stores `made`, and whatever else its answer depends on. `check` is called with each
    line found before, and raises for one that cannot be used.
    """
    made = {**asdict(sampling), **_made_by(model), **made}
    asked = {task.key: list(messages_of(task.text)) for task in tasks}
    found = read_done(out, made, asked, say)
    before = {key: found[key] for key in asked if key in found}
    for task in tasks:
        if task.key in before:
            check(task, before[task.key])
    missing = [task for task in tasks if task.key not in before]
    limit = sampling.max_new_tokens
    say(f"{len(missing)} of {len(tasks)} answers to write, at most {limit:,} tokens each")
    start, n_tokens, new = time.perf_counter(), 0, {}
    for number, task in enumerate(missing, start=1):
        active = None if task.rule is None else ActiveRule(model, task.rule, task.fed)
        hooks = () if active is None else active.hooks
        answer = continue_text(model, task.fed, sampling, task.seed, hooks)
        more = {**task.more} | ({} if active is None else {"met": without_nan(asdict(active.met))})
        line = line_of(model, task.text, task.fed, answer, made, key=task.key, more=more)
        durable.append(out, line.encode())
        new[task.key] = json.loads(line)
        n_tokens += len(answer.tokens)
        speed = n_tokens / max(time.perf_counter() - start, 1e-9)
        left = (len(missing) - number) * limit / max(speed, 1e-9)
        say(
            f"[{number}/{len(missing)}] {task.key}: {_in_words(model, answer)}; "
            f"{speed:.1f} tokens/s, at most {left:.0f} s to go"
        )
    return before, new


def _in_words(model: HookedModel, answer: Answer) -> str:
    ended = "cut off"
    if answer.ended_by is not None:
        ended = f"ended by {model.tokenizer.convert_ids_to_tokens(answer.ended_by)!r}"
    return f"{len(answer.tokens):,} tokens, {ended}"


def _made_by(model: HookedModel) -> dict[str, Any]:
    """The parts of a model that its answers depend on."""
    return {
        "weights_sha256": weight_hash(model),
        "tokenizer_sha256": tokenizer_sha256(model.tokenizer),
        "template_sha256": template_sha256(model.tokenizer),
        "end_tokens": sorted(end_tokens(model)),
    }


def continue_text(
    model: HookedModel,
    tokens: Int[Tensor, "pos"],
    sampling: Sampling,
    text_id: str,
    hooks: Sequence[Hook] = (),
) -> Answer:
    """Continuation of `tokens` by the model, with hooks that are active while it reads and writes.

    Stops at any end token of the model's generation config or its tokenizer. Sampling depends on
    `text_id` and the seed only.
    """
    words = f"{sampling.seed}:{text_id}".encode(errors="surrogatepass")
    seed = int.from_bytes(hashlib.sha256(words).digest()[:7], "big")
    chance = torch.Generator().manual_seed(seed)
    text, ahead, ends = Continuation(model, hooks), tokens, end_tokens(model)
    new: list[int] = []
    for _ in range(min(sampling.max_new_tokens, model.cfg.n_ctx - len(tokens))):
        token = _choose(text.read(ahead), sampling.temperature, chance)
        if token in ends:
            return Answer(tokens=tuple(new), ended_by=token)
        new.append(token)
        ahead = torch.tensor([token])
    return Answer(tokens=tuple(new), ended_by=None)


def _choose(logits: Float[Tensor, "d_vocab"], temperature: float, chance: torch.Generator) -> int:
    if not logits.max().isfinite():
        raise ModelError(
            "the model's scores of the next token hold NaN or infinity, so there is no likeliest "
            "one",
            "use --dtype float32",
        )
    if not temperature:
        return int(logits.argmax())
    below = (logits - logits.max()).double() / temperature  # at most 0: no overflow
    shares = below.softmax(0).to(logits.dtype)
    return int(torch.multinomial(shares, 1, generator=chance))


def feed_prompt(model: HookedModel, text: Text) -> Int[Tensor, "pos"]:
    """Tokens of a prompt in the chat template, with the opening of an answer.

    Raises `TextError` for a model without template, and for a prompt that does not fit.
    """
    tokenizer = model.tokenizer
    if getattr(tokenizer, "chat_template", None) is None:
        raise TextError("generating needs a tokenizer with a chat template; the model has none")
    fed = apply_chat_template(text.text_id, messages_of(text), tokenizer, answer=True)
    ids = encode(tokenizer, fed, add_special_tokens=False)
    check_ids(ids, model.cfg.d_vocab, tokenizer, f"prompt {text.text_id!r}")
    if len(ids) >= model.cfg.n_ctx:
        raise TextError(
            f"prompt {text.text_id!r} has {len(ids)} tokens; the context is {model.cfg.n_ctx}"
        )
    return torch.tensor(ids, dtype=torch.long)


def _as_text(line: str) -> str:
    """A line with only `prompt` turned into one with `text`; other lines unchanged."""
    try:
        record = load_object(line, "")
    except TextError:
        return line
    if "prompt" not in record or {"text", "messages", "output"} & record.keys():
        return line
    return json.dumps({"text": record.pop("prompt"), **record})
