"""What of a conversation is not in the string that is fed.

Every content must stand in the string word for word and, but for system messages, in order;
whitespace at its ends and around <think> and </think> is the template's own affair. Whatever else
a message holds (`reasoning_content`, `name`, `tool_calls`) must stand there too.
"""

import bisect
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from secondary_sinks.texts.text import Message, content_of, extras_of

THINK = re.compile(r"(</?think>)")
UNSAID = {"type", "id"}
"""Keys inside of `tool_calls` and the like that only link objects, and say nothing."""
LEAST_KEPT = 16
"""Characters of a content that must be there to say that only the rest is missing."""


def find_lost_content(messages: Sequence[Message], fed: str) -> list[str]:
    """What each message says that `fed` does not, in words; nothing where all of it is there."""
    found, at = [], 0
    for number, message in enumerate(messages, start=1):
        anywhere = message["role"] == "system"
        start = 0 if anywhere else at
        missing, end = _content_losses(message, fed, start)
        at = at if anywhere else end
        missing += _extra_losses(message, fed, start)
        found += [f"{what} of message {number} ({message['role']}){rest}" for what, rest in missing]
    return found


def add_marks(messages: Sequence[Message], mark: str) -> list[Message]:
    """The same messages, with a mark at the end of each content."""
    return [_marked(message, mark) for message in messages]


def find_unmarked(messages: Sequence[Message], fed: str, mark: str) -> list[str]:
    """Contents that are not in a string up to their marks (`add_marks`), described for a message.

    They may still stand in the string by accident: `user` stands in every template.
    """
    found, at = [], 0
    for number, message in enumerate(messages, start=1):
        anywhere = message["role"] == "system"
        content = content_of(message)
        if not content.strip():
            continue
        end = fed.find(THINK.split(content)[-1].lstrip() + mark, 0 if anywhere else at)
        if end < 0:
            found.append(f"the content of message {number} ({message['role']}), {_quoted(content)}")
        elif not anywhere:
            at = end
    return found


def _content_losses(message: Message, fed: str, at: int) -> tuple[list[tuple[str, str]], int]:
    """What of a content is missing after `at`, and where the last part that is there ends."""
    content, missing = content_of(message), []
    for part in _parts(content):
        place = fed.find(part, at)
        if place < 0:
            missing.append(_rest(part, fed))
        else:
            at = place + len(part)
    if isinstance(message.get("content"), list) and str(message["content"]) in fed:
        return [("the content", " (its parts are written out as code; give a string)")], at
    if not missing:
        return [], at
    n = sum(map(len, missing))
    lost = f"{n:,} of the {len(content):,} characters"
    return [(lost, f", {_quoted(''.join(missing))}")], at


def _extra_losses(message: Message, fed: str, start: int) -> list[tuple[str, str]]:
    found = []
    for key, value in extras_of(message).items():
        for leaf in _leaves(value):
            if not all(_stands(part, fed, start) for part in _parts(leaf)):
                found.append((repr(key), f", {_quoted(leaf)}"))
                break
    return found


def _parts(content: str) -> list[str]:
    return [part.strip() for part in THINK.split(content) if part.strip()]


def _stands(part: str, fed: str, start: int) -> bool:
    """Whether a string stands there, as it is or as JSON writes it."""
    return any(fed.find(form, start) >= 0 for form in (part, json.dumps(part)[1:-1], _json(part)))


def _json(part: str) -> str:
    return json.dumps(part, ensure_ascii=False)[1:-1]


def _rest(part: str, fed: str) -> str:
    """A part that is not there whole, without the beginning or end that is."""
    sizes = range(1, len(part) + 1)
    end = bisect.bisect_left(sizes, True, key=lambda size: part[-size:] not in fed)
    begin = bisect.bisect_left(sizes, True, key=lambda size: part[:size] not in fed)
    if not LEAST_KEPT <= max(begin, end) < len(part):
        return part
    return part[:-end] if end >= begin else part[begin:]


def _leaves(value: Any) -> Iterator[str]:
    """The strings and numbers inside of a value, as they would be written."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in UNSAID:
                yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif value is not None:
        yield value if isinstance(value, str) else json.dumps(value)


def _marked(message: Message, mark: str) -> Message:
    content = message.get("content")
    if isinstance(content, list):
        last = content[-1] | {"text": content[-1]["text"] + mark} if content else {}
        return message | {"content": [*content[:-1], last]}
    return message | {"content": content + mark} if content else message


def _quoted(text: str, most: int = 60) -> str:
    text = text.strip()
    return repr(text if len(text) <= most else f"{text[:most]}...")
