"""One text as it was given, before tokenization."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from secondary_sinks import files
from secondary_sinks.display import count
from secondary_sinks.errors import TextError, reason
from secondary_sinks.numbers import whole_number

ROLES = ("system", "user", "assistant")
Message = dict[str, Any]
"""`role`, `content` (a string, or a list of text parts), and any other keys that were given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredIds:
    """Token ids that were stored with a text, and the SHA-256 of the tokenizer that made them."""

    ids: tuple[int, ...]
    tokenizer_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Text:
    """One text as it was given: plain, or the messages of a conversation."""

    text_id: str
    plain: str | None = None
    messages: tuple[Message, ...] = ()
    stored: StoredIds | None = None
    first: int | None = None
    """Number of tokens to feed, from the first; None feeds all."""
    place: str = field(default="", compare=False)
    """File and line that it came from, for error messages."""

    def __post_init__(self) -> None:
        """Raises `TextError` for what no reader of texts would make.

        That is a text without a name, one that is not either plain or messages, messages without a
        role or content, values that JSON cannot hold, and a number of tokens that no text can be
        cut to.
        """
        if not isinstance(self.text_id, str) or not self.text_id:
            raise TextError(f"text_id is {self.text_id!r:.60}", "expected a name")
        where = self.place or f"text {self.text_id!r:.60}"
        refuse_surrogates(self.text_id, where)
        if not isinstance(self.stored, StoredIds | None):
            raise TextError(f"{where}: stored is {self.stored!r:.60}", "expected StoredIds")
        if not isinstance(self.messages, list | tuple):
            raise TextError(f"{where}: messages is {self.messages!r:.60}", "expected a list")
        if (self.plain is None) == (not self.messages):
            both = "both" if self.messages else "neither"
            raise TextError(f"{where}: {both} of plain and messages", "expected one of them")
        if self.plain is None:
            check_messages(self.messages, where)
        else:
            _check_plain(self.plain, where)
        if self.first is not None:
            object.__setattr__(self, "first", whole_number("first", self.first, TextError, 1))

    def __repr__(self) -> str:
        """The name, and how much there is."""
        size = count(len(self.messages), "message")
        if self.plain is not None:
            size = count(len(self.plain), "character")
        return f"Text({self.text_id!r}: {size})"

    @property
    def raw(self) -> str:
        """The text without roles: contents of the messages, separated by blank lines."""
        if self.plain is not None:
            return self.plain
        return "\n\n".join(content_of(message) for message in self.messages)

    @property
    def sha256(self) -> str:
        """SHA-256 of content, stored token ids and `first`, without `text_id` and `place`."""
        stored = [] if self.stored is None else [self.stored.ids, self.stored.tokenizer_sha256]
        first = [] if self.first is None else [{"first": self.first}]
        return _hash(self.plain, self.messages, *stored, *first)


def content_sha256(plain: str | None, messages: Sequence[Message] = ()) -> str:
    """SHA-256 of a plain text, or of messages with all their keys."""
    return _hash(plain, messages)


def ids_sha256(prompt: Sequence[int], answer: Sequence[int]) -> str:
    """SHA-256 of the token ids that are stored with an answer."""
    return hashlib.sha256(json.dumps([list(prompt), list(answer)]).encode()).hexdigest()


def content_of(message: Message) -> str:
    """The content of a message; text parts are joined without a separator.

    >>> content_of({"role": "user", "content": [{"type": "text", "text": "Hello"}]})
    'Hello'
    """
    content = message.get("content")
    if isinstance(content, list):
        return "".join(part["text"] for part in content)
    return content or ""


def extras_of(message: Message) -> dict[str, Any]:
    """Keys of a message other than role and content that hold something: `reasoning_content`.

    None, and an empty string, list or object, hold nothing that a model could read; the template
    gets them all the same. False and 0 are values.

    >>> extras_of({"role": "user", "content": "Hello", "name": "", "tool_calls": [], "weight": 0})
    {'weight': 0}
    """
    extras = {key: value for key, value in message.items() if key not in ("role", "content")}
    return {key: value for key, value in extras.items() if value not in (None, "", [], {})}


def _check_plain(plain: Any, where: str) -> None:
    """Raise `TextError` for what is no text, or cannot be written as UTF-8."""
    if not isinstance(plain, str):
        raise TextError(f"{where}: plain is {plain!r:.60}", "expected a string")
    refuse_surrogates(plain, where)


def refuse_surrogates(words: str, where: str) -> None:
    """Raise `TextError` for what cannot be written as UTF-8."""
    if re.search("[\ud800-\udfff]", words):
        raise TextError(f"{where}: half a surrogate pair", "expected whole characters")


def check_messages(turns: Any, where: str) -> tuple[Message, ...]:
    """The messages of a conversation. Raises `TextError` for one without a role or content."""
    if not isinstance(turns, list | tuple) or not turns:
        raise TextError(f"{where}: 'messages' must be a list with at least one message")
    for turn in turns:
        if not isinstance(turn, dict) or turn.get("role") not in ROLES:
            raise TextError(f"{where}: each message needs a role, one of {', '.join(ROLES)}")
        _check_values(turn, where)
        _check_content(turn, where)
    return tuple(dict(turn) for turn in turns)


def _check_values(turn: Message, where: str) -> None:
    """Raise `TextError` for keys that are no words, and values that JSON would not give back."""
    if not all(isinstance(key, str) for key in turn):
        raise TextError(f"{where}: a message has the keys {list(turn)!r:.60}", "expected words")
    try:
        written = json.dumps(turn, ensure_ascii=False, allow_nan=False)
        if files.load_json(written) != turn:
            raise ValueError("it would come back changed")
    except (TypeError, ValueError, RecursionError) as error:
        raise TextError(
            f"{where}: a message holds what JSON cannot ({reason(error)})",
            "expected strings, finite numbers, true, false, null, lists and objects",
        ) from error
    refuse_surrogates(written, where)


def _check_content(turn: Message, where: str) -> None:
    """Raise `TextError` for a message without content, or with content that is not text."""
    content = turn.get("content")
    if isinstance(content, list):
        for part in content:
            if not isinstance(part, dict) or part.keys() != {"type", "text"}:
                raise TextError(f"{where}: a part of a message is {part!r:.60}; {_PART}")
            if part["type"] != "text" or not isinstance(part["text"], str):
                raise TextError(f"{where}: a part of a message is {part!r:.60}; {_PART}")
        has_content = any(part["text"].strip() for part in content)
    else:
        has_content = isinstance(content, str) and bool(content.strip())
    not_text = not isinstance(content, str | list | None)
    if not_text or not (has_content or any(extras_of(turn).values())):
        raise TextError(f"{where}: the content of a message is empty or not a string")


_PART = 'expected only parts such as {"type": "text", "text": "..."}'


def _hash(plain: str | None, messages: Sequence[Message], *more: Any) -> str:
    return hashlib.sha256(json.dumps([plain, list(messages), *more]).encode()).hexdigest()
