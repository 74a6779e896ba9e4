"""The file of a model's answers: one JSON line each, of which only complete ones count."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Int
from torch import Tensor

from secondary_sinks import files
from secondary_sinks.errors import TextError
from secondary_sinks.models import HookedModel
from secondary_sinks.texts import Text
from secondary_sinks.texts.records import STORED, parse_record
from secondary_sinks.texts.text import Message, content_sha256, ids_sha256
from secondary_sinks.texts.tokenize import tokenizer_sha256

Say = Callable[[str], None]
BEGIN = b'{"id": '
"""How every line begins; a torn line that begins otherwise was not written here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer of a model to one prompt."""

    tokens: tuple[int, ...]
    """Token ids, without the id that ended the answer."""
    ended_by: int | None
    """The id that ended the answer; None if the limit or the context length did."""


def messages_of(text: Text) -> tuple[Message, ...]:
    """The conversation that a prompt is."""
    return text.messages or ({"role": "user", "content": text.raw},)


def line_of(
    model: HookedModel,
    text: Text,
    prompt: Int[Tensor, "pos"],
    answer: Answer,
    made: Mapping[str, Any],
    *,
    key: str | None = None,
    more: Mapping[str, Any] | None = None,
) -> str:
    """One output line, readable by `read_texts`; a blank answer is marked, not made a message.

    `key` is the id of the line, by default that of the text.
    """
    tokenizer, new = model.tokenizer, list(answer.tokens)
    content = tokenizer.decode(new, clean_up_tokenization_spaces=False)
    turns = list(messages_of(text))
    if content.strip():
        turns.append({"role": "assistant", "content": content})
    ended = answer.ended_by
    end = [] if ended is None else [ended]
    ids, whole = prompt.tolist(), [*new, *end]
    outcome = {
        "n_new_tokens": len(new),
        "ended": bool(end),
        "ended_by": {"id": ended, "token": tokenizer.convert_ids_to_tokens(ended)} if end else None,
        "blank": not content.strip(),
    }
    stored = {
        "prompt": ids,
        "answer": whole,
        "ids_sha256": ids_sha256(ids, whole),
        "tokenizer_sha256": tokenizer_sha256(tokenizer),
        "content_sha256": content_sha256(None, turns),
    }
    said = {"id": key or text.text_id, "messages": turns, **outcome, **(more or {})}
    line = said | {STORED: stored, "made": dict(made)}
    return json.dumps(line) + "\n"


def read_done(
    out: Path, made: Mapping[str, Any], asked: Mapping[str, list[Message]], say: Say
) -> dict[str, dict[str, Any]]:
    """The lines already written, by id; a torn last line is removed, with a warning.

    Raises `TextError` for a line that was made in another way, or for another prompt than the one
    `asked` under its id, for a line that was changed later, and for two lines with one id.
    """
    if not out.exists():
        return {}
    content = files.read_bytes(out)
    whole = content[: content.rfind(b"\n") + 1]
    torn = content[len(whole) :]
    if torn[: len(BEGIN)] != BEGIN[: len(torn)]:
        raise _foreign(out, whole.count(b"\n") + 1)
    found: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            record = files.load_json(line)
            same, text_id, turns = record["made"] == made, record["id"], record["messages"]
            prompt = list(turns if record.get("blank") else turns[:-1])
            hash(text_id)
        except (ValueError, KeyError, TypeError) as error:
            raise _foreign(out, number) from error
        if not same or asked.get(text_id, prompt) != prompt:
            raise TextError(
                f"{str(out)!r} line {number} was made by another model, prompt, version or with "
                "other settings",
                "choose another --out, or remove the file",
            )
        parse_record(record, str(text_id), f"{out}:{number}")
        if text_id in found:
            raise TextError(
                f"{str(out)!r} line {number} has the id {text_id!r}, as an earlier line has",
                "remove one of the two, or choose another --out",
            )
        found[text_id] = record
    if whole != content:
        with files.open_file(out, "r+b") as file:
            file.truncate(len(whole))
        say(f"{out}: the last line is incomplete and is generated again")
    return found


def _foreign(out: Path, number: int) -> TextError:
    return TextError(
        f"{str(out)!r} line {number} was not written by generate", "choose another --out"
    )
