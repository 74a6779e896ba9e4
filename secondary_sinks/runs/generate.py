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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks import files
from secondary_sinks.errors import ModelError, RunFolderError, TextError
from secondary_sinks.layerwise.cached_generation import Continuation, end_tokens
from secondary_sinks.models import HookedModel, weight_hash
from secondary_sinks.models.original.tokenizer import check_ids
from secondary_sinks.runs import durable
from secondary_sinks.texts import Text, parse_jsonl, read_texts
from secondary_sinks.texts.chat_template import apply_chat_template
from secondary_sinks.texts.limits import split_json_lines
from secondary_sinks.texts.read_files import PROMPTS, bundled_name, read_bundled, read_utf8
from secondary_sinks.texts.records import STORED, load_object
from secondary_sinks.texts.text import Message, content_sha256
from secondary_sinks.texts.tokenize import encode, template_sha256, tokenizer_sha256

Say = Callable[[str], None]
BEGIN = b'{"id": '
"""How every line begins; a torn line that begins otherwise was not written here."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer of a model to one prompt."""

    tokens: tuple[int, ...]
    """Token ids, without the id that ended the answer."""
    ended_by: int | None
    """The id that ended the answer; None if the limit or the context length did."""


def generate(
    model: HookedModel, prompts: Sequence[Text], out: Path, sampling: Sampling, say: Say = print
) -> int:
    """Answer the prompts that `out` lacks, one line each; returns how many were answered.

    Raises `TextError` for a model without tokenizer or chat template, for prompts that do not fit
    into its context, for prompts from which its template drops something, and for an `out` made by
    another model or with other settings, and `RunFolderError` while another process answers into
    `out`.
    """
    with durable.locked(out.with_name(f"{durable.PART}{out.name}.lock"), out):
        return _generate(model, prompts, out, sampling, say)


def _generate(
    model: HookedModel, prompts: Sequence[Text], out: Path, sampling: Sampling, say: Say
) -> int:
    fed = {text.text_id: _fed(model, text) for text in prompts}
    made = asdict(sampling) | {
        "weights_sha256": weight_hash(model),
        "tokenizer_sha256": tokenizer_sha256(model.tokenizer),
        "template_sha256": template_sha256(model.tokenizer),
        "end_tokens": sorted(end_tokens(model)),
    }
    done = _done(out, made, {text.text_id: list(_messages(text)) for text in prompts}, say)
    missing = [text for text in prompts if text.text_id not in done]
    limit = sampling.max_new_tokens
    say(f"{len(missing)} of {len(prompts)} prompts to answer, at most {limit:,} tokens each")
    start, n_tokens = time.perf_counter(), 0
    for number, text in enumerate(missing, start=1):
        answer = continue_text(model, fed[text.text_id], sampling, text.text_id)
        durable.append(out, _line(model, text, fed[text.text_id], answer, made).encode())
        n_tokens += len(answer.tokens)
        speed = n_tokens / max(time.perf_counter() - start, 1e-9)
        left = (len(missing) - number) * limit / max(speed, 1e-9)
        say(
            f"[{number}/{len(missing)}] {text.text_id}: {len(answer.tokens):,} tokens, "
            f"{_end(model, answer)}; {speed:.1f} tokens/s, at most {left:.0f} s to go"
        )
    return len(missing)


def continue_text(model: HookedModel, tokens: Tensor, sampling: Sampling, text_id: str) -> Answer:
    """Continuation of `tokens` [pos] by the model.

    Stops at any end token of the model's generation config or its tokenizer. Sampling depends on
    `text_id` and the seed only.
    """
    words = f"{sampling.seed}:{text_id}".encode(errors="surrogatepass")
    seed = int.from_bytes(hashlib.sha256(words).digest()[:7], "big")
    chance = torch.Generator().manual_seed(seed)
    text, ahead, ends = Continuation(model), tokens, end_tokens(model)
    new: list[int] = []
    for _ in range(min(sampling.max_new_tokens, model.cfg.n_ctx - len(tokens))):
        token = _choose(text.read(ahead), sampling.temperature, chance)
        if token in ends:
            return Answer(tokens=tuple(new), ended_by=token)
        new.append(token)
        ahead = torch.tensor([token])
    return Answer(tokens=tuple(new), ended_by=None)


def _end(model: HookedModel, answer: Answer) -> str:
    if answer.ended_by is None:
        return "cut off"
    return f"ended by {model.tokenizer.convert_ids_to_tokens(answer.ended_by)!r}"


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


def _fed(model: HookedModel, text: Text) -> Tensor:
    """Tokens of a prompt in the chat template, with the opening of an answer."""
    tokenizer = model.tokenizer
    if getattr(tokenizer, "chat_template", None) is None:
        raise TextError("generating needs a tokenizer with a chat template; the model has none")
    fed = apply_chat_template(text.text_id, _messages(text), tokenizer, answer=True)
    ids = encode(tokenizer, fed, add_special_tokens=False)
    check_ids(ids, model.cfg.d_vocab, tokenizer, f"prompt {text.text_id!r}")
    if len(ids) >= model.cfg.n_ctx:
        raise TextError(
            f"prompt {text.text_id!r} has {len(ids)} tokens; the context is {model.cfg.n_ctx}"
        )
    return torch.tensor(ids, dtype=torch.long)


def _messages(text: Text) -> tuple[Message, ...]:
    return text.messages or ({"role": "user", "content": text.raw},)


def _line(
    model: HookedModel, text: Text, prompt: Tensor, answer: Answer, made: Mapping[str, Any]
) -> str:
    """One output line, readable by `read_texts`; a blank answer is marked, not made a message."""
    tokenizer, new = model.tokenizer, list(answer.tokens)
    content = tokenizer.decode(new, clean_up_tokenization_spaces=False)
    turns = list(_messages(text))
    if content.strip():
        turns.append({"role": "assistant", "content": content})
    ended = answer.ended_by
    end = [] if ended is None else [ended]
    outcome = {
        "n_new_tokens": len(new),
        "ended": bool(end),
        "ended_by": {"id": ended, "token": tokenizer.convert_ids_to_tokens(ended)} if end else None,
        "blank": not content.strip(),
    }
    stored = {
        "prompt": prompt.tolist(),
        "answer": [*new, *end],
        "tokenizer_sha256": tokenizer_sha256(tokenizer),
        "content_sha256": content_sha256(None, turns),
    }
    line = {"id": text.text_id, "messages": turns, **outcome, STORED: stored, "made": dict(made)}
    return json.dumps(line) + "\n"


def _done(
    out: Path, made: Mapping[str, Any], asked: Mapping[str, list[Message]], say: Say
) -> set[str]:
    """Ids of the prompts already answered; a torn last line is removed, with a warning."""
    if not out.exists():
        return set()
    content = files.read_bytes(out)
    whole = content[: content.rfind(b"\n") + 1]
    torn = content[len(whole) :]
    if torn[: len(BEGIN)] != BEGIN[: len(torn)]:
        raise _foreign(out, whole.count(b"\n") + 1)
    found = set()
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            record = json.loads(line)
            same, text_id, turns = record["made"] == made, record["id"], record["messages"]
            prompt = list(turns if record.get("blank") else turns[:-1])
            hash(text_id)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise _foreign(out, number) from error
        if not same or asked.get(text_id, prompt) != prompt:
            raise TextError(
                f"{str(out)!r} line {number} was made by another model, prompt or with other "
                "settings",
                "choose another --out",
            )
        found.add(text_id)
    if whole != content:
        with files.open_file(out, "r+b") as file:
            file.truncate(len(whole))
        say(f"{out}: the last line is incomplete and is generated again")
    return found


def _foreign(out: Path, number: int) -> TextError:
    return TextError(
        f"{str(out)!r} line {number} was not written by generate", "choose another --out"
    )


def _as_text(line: str) -> str:
    """A line with only `prompt` turned into one with `text`; other lines unchanged."""
    try:
        record = load_object(line, "")
    except TextError:
        return line
    if "prompt" not in record or {"text", "messages", "output"} & record.keys():
        return line
    return json.dumps({"text": record.pop("prompt"), **record})
