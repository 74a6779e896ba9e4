"""Turn a JSON object into a text: what could be content is kept, or refused by name."""

import json
import warnings
from collections.abc import Iterable
from typing import Any

from secondary_sinks import files
from secondary_sinks.errors import SinkWarning, TextError
from secondary_sinks.texts.text import (
    ROLES,
    StoredIds,
    Text,
    check_messages,
    content_sha256,
    ids_sha256,
    refuse_surrogates,
)

FORMS = ({"text"}, {"prompt", "output"}, {"messages"})
"""Keys with the content of a text; an object has exactly one of these sets."""
STORED = "stored_ids"
NOTES = frozenset({"kind", "title", "notes"})
"""Keys for remarks about a text; they change nothing."""
CONTENT = frozenset(
    {
        *("instruction", "instructions", "input", "inputs", "question", "context", "content"),
        *("response", "completion", "target", "chosen", "rejected", "conversation"),
        *("conversations", "tools", "functions", "documents", "thinking", "reasoning_content"),
    }
)
"""Keys under which other formats have content that a model reads."""
GENERATED = frozenset(
    {"n_new_tokens", "ended", "ended_by", "blank", "arm", "sample", "met", "made", STORED}
)
"""Keys that `generate` adds to a conversation."""
LARGEST_ID = 2**31 - 1


def load_object(line: str, where: str) -> dict[str, Any]:
    """Parse one JSON object. Raises `TextError` for anything else, and for repeated keys."""
    try:
        record = files.load_json(line, parse_constant=_refuse_constant)
    except ValueError as error:
        raise TextError(
            f"{where}: broken JSON: {error}", "expected one whole JSON object on each line"
        ) from error
    if not isinstance(record, dict):
        raise TextError(f"{where}: expected a JSON object, got {type(record).__name__}")
    return record


def parse_record(record: dict[str, Any], text_id: str, where: str) -> Text:
    """The text of a JSON object. Raises `TextError` that names the place and the problem."""
    refuse_surrogates(json.dumps(record, ensure_ascii=False), where)
    text = _from_record(record, text_id, where)
    if STORED not in record:
        return text
    stored = _parse_stored_ids(record[STORED], text, where)
    return Text(
        text_id=text_id, plain=text.plain, messages=text.messages, stored=stored, place=where
    )


def plain_text(content: Any, text_id: str, where: str) -> Text:
    """A plain text. Raises `TextError` for an empty one, with its place."""
    if not isinstance(content, str) or not content.strip():
        raise TextError(f"{where}: the text is empty", "expected a string with at least two tokens")
    return Text(text_id=text_id, plain=content, place=where)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _from_record(record: dict[str, Any], text_id: str, where: str) -> Text:
    given = record.keys() & set().union(*FORMS)
    if given not in FORMS:
        raise TextError(
            f"{where}: expected either 'text', or 'prompt' and 'output', or 'messages'; "
            f"got {sorted(given or record)[:6]}"
        )
    refuse_unknown(record, given, where)
    if "text" in record:
        return plain_text(record["text"], text_id, where)
    turns = record.get("messages")
    if "prompt" in record:
        turns = [
            {"role": "user", "content": record["prompt"]},
            {"role": "assistant", "content": record["output"]},
        ]
    return Text(text_id=text_id, messages=check_messages(turns, where), place=where)


def refuse_unknown(record: dict[str, Any], content: Iterable[str], where: str) -> None:
    """Raise `TextError` for a key that may hold content which would not be read.

    These are roles, names of content in other formats (`CONTENT`), and keys of content in other
    spelling ("Text", "texts"). Any other key, such as "source" or "url", is a remark that is not
    fed: one warning per name and process says so.
    """
    content = set(content)
    known = {"id", *content, *NOTES, *GENERATED}
    for key in sorted(record.keys() - known):
        if key in ROLES:
            remedy = f"write it as a message with the role {key!r} in 'messages'"
        elif _may_be_content(key, content):
            remedy = "move it into the content, or put it under 'notes', which is not fed"
        else:
            said = f"key {key!r:.60} of the texts is not fed to the model"
            warnings.warn(said, SinkWarning, stacklevel=2)
            continue
        raise TextError(f"{where}: unknown key {key!r:.60}", remedy)


def _may_be_content(key: str, content: set[str]) -> bool:
    spelled = key.strip().lower()
    forms = content.union(*FORMS)
    return spelled in CONTENT or bool(forms & {spelled, spelled + "s", spelled.rstrip("s")})


def _parse_stored_ids(found: Any, text: Text, where: str) -> StoredIds:
    """The token ids in a line that `generate` wrote."""
    expected = {"prompt", "answer", "ids_sha256", "tokenizer_sha256", "content_sha256"}
    if not isinstance(found, dict) or found.keys() != expected:
        raise TextError(
            f"{where}: {STORED!r} must be an object with {sorted(expected)}",
            "remove it to have the text tokenized again",
        )
    prompt, answer = _ids(found["prompt"], where), _ids(found["answer"], where)
    if found["ids_sha256"] != ids_sha256(prompt, answer):
        raise TextError(
            f"{where}: the token ids in {STORED!r} were changed after they were stored",
            f"remove {STORED!r} to have the text tokenized again, or restore the ids",
        )
    if found["content_sha256"] != content_sha256(text.plain, text.messages):
        raise TextError(
            f"{where}: the text was changed after its {STORED!r} were stored",
            f"remove {STORED!r} to have the text tokenized again, or restore the text",
        )
    return StoredIds(ids=(*prompt, *answer), tokenizer_sha256=str(found["tokenizer_sha256"]))


def _ids(found: Any, where: str) -> list[int]:
    whole = isinstance(found, list) and all(type(one) is int for one in found)
    if not whole or not all(0 <= one <= LARGEST_ID for one in found):
        raise TextError(f"{where}: {STORED!r} must hold lists of token ids")
    return list(found)
