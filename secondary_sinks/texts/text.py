"""One text as it was given, before any tokenizer has seen it."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]
"""`role` and `content` (a string, or a list of text parts), and whatever else was given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredIds:
    """Token ids that came with a text, and the fingerprint of the tokenizer that made them."""

    ids: tuple[int, ...]
    tokenizer_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """One text as it was given: plain, or as messages of a conversation."""

    text_id: str
    plain: str | None = None
    messages: tuple[Message, ...] = ()
    stored: StoredIds | None = None
    place: str = field(default="", compare=False)
    """File and line that it came from, for messages to the user."""

    @property
    def raw(self) -> str:
        """The text without roles: contents of the messages, separated by blank lines."""
        if self.plain is not None:
            return self.plain
        return "\n\n".join(content_of(message) for message in self.messages)

    @property
    def sha256(self) -> str:
        """SHA-256 of what the text says: its content and stored ids, not its id or place."""
        said = [] if self.stored is None else [self.stored.ids, self.stored.tokenizer_sha256]
        return _hash(self.plain, self.messages, *said)


def content_sha256(plain: str | None, messages: Sequence[Message] = ()) -> str:
    """SHA-256 of a plain text, or of messages with everything that they hold."""
    return _hash(plain, messages)


def content_of(message: Message) -> str:
    """The content of a message; of a list of text parts, their texts in a row.

    >>> content_of({"role": "user", "content": [{"type": "text", "text": "Hello"}]})
    'Hello'
    """
    content = message.get("content")
    if isinstance(content, list):
        return "".join(part["text"] for part in content)
    return content or ""


def extras_of(message: Message) -> dict[str, Any]:
    """What a message holds next to its role and content, such as `reasoning_content`."""
    known = {"role", "content"}
    return {key: value for key, value in message.items() if key not in known and value}


def _hash(plain: str | None, messages: Sequence[Message], *more: Any) -> str:
    return hashlib.sha256(json.dumps([plain, list(messages), *more]).encode()).hexdigest()
