"""Find content of a conversation that is missing in the string that is fed.

Each content must occur in the string word for word and, except for system messages, in order. The
template may change white space at the ends of a content and around <think> and </think>. The values
of all other keys (`reasoning_content`, `name`, `tool_calls`) must occur too.
"""

import bisect
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from secondary_sinks.texts.text import Message, content_of, extras_of

THINK = re.compile(r"(</?think>)")
LINK_KEYS = {"type", "id"}
"""Keys within `tool_calls` and the like that only link objects and hold no content."""
MIN_FOUND = 16
"""Minimum number of characters of a content that were found, to report only the rest as missing."""


def find_lost_content(messages: Sequence[Message], fed: str) -> list[str]:
    """Descriptions of all content that is missing in `fed`; empty if nothing is missing."""
    found, at = [], 0
    for number, message in enumerate(messages, start=1):
        anywhere = message["role"] == "system"
        start = 0 if anywhere else at
        missing, end = _content_losses(message, fed, start)
        at = at if anywhere else end
        missing += _extra_losses(message, fed, start)
        found += [f"{what} of message {number} ({message['role']}){rest}" for what, rest in missing]
    return found


def add_marks(messages: Sequence[Message], mark: str, extras: bool) -> list[Message]:
    """The same messages, with a mark at the end of each content and, with `extras`, other value."""
    return [
        _add_mark(message, mark)
        | {key: _mark_value(value, mark) for key, value in extras_of(message).items() if extras}
        for message in messages
    ]


def find_unmarked(messages: Sequence[Message], fed: str, mark: str, extras: bool) -> list[str]:
    """Descriptions of what does not occur in `fed` together with its mark (`add_marks`).

    Without the mark it may occur by coincidence: `user` is in what every template writes.
    """
    found, at = [], 0
    for number, message in enumerate(messages, start=1):
        anywhere = message["role"] == "system"
        content, start = content_of(message), 0 if anywhere else at
        where = f"of message {number} ({message['role']})"
        for key, value in extras_of(message).items() if extras else ():
            missing = [leaf for leaf in _leaves(value) if not _ends_marked(leaf, fed, mark, start)]
            found += [f"{key!r} {where}, {_quote(leaf)}" for leaf in missing[:1]]
        if not content.strip():
            continue
        end = fed.find(THINK.split(content)[-1].lstrip() + mark, start)
        if end < 0:
            found.append(f"the content {where}, {_quote(content)}")
        elif not anywhere:
            at = end
    return found


def _ends_marked(leaf: str, fed: str, mark: str, start: int) -> bool:
    return not leaf.strip() or _occurs(THINK.split(leaf)[-1].lstrip() + mark, fed, start)


def _mark_value(value: Any, mark: str) -> Any:
    """The same value, with a mark at the end of each of its `_leaves`, which become strings."""
    if isinstance(value, dict):
        return {k: v if k in LINK_KEYS else _mark_value(v, mark) for k, v in value.items()}
    if isinstance(value, list):
        return [_mark_value(item, mark) for item in value]
    return value if value in (None, "") else _written(value) + mark


def _content_losses(message: Message, fed: str, at: int) -> tuple[list[tuple[str, str]], int]:
    """Descriptions of what is missing after `at`, and the end of the last part that was found."""
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
    lost = f"{sum(map(len, missing)):,} of the {len(content):,} characters"
    return [(lost, f", {_quote(''.join(missing))}")], at


def _extra_losses(message: Message, fed: str, start: int) -> list[tuple[str, str]]:
    found = []
    for key, value in extras_of(message).items():
        for leaf in _leaves(value):
            if not all(_occurs(part, fed, start) for part in _parts(leaf)):
                found.append((repr(key), f", {_quote(leaf)}"))
                break
    return found


def _parts(content: str) -> list[str]:
    return [part.strip() for part in THINK.split(content) if part.strip()]


def _occurs(part: str, fed: str, start: int) -> bool:
    """Whether a string occurs, as it is or escaped as in JSON."""
    escaped = [json.dumps(part, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)]
    return any(fed.find(form, start) >= 0 for form in (part, *escaped))


def _rest(part: str, fed: str) -> str:
    """A part that is missing as a whole, without its beginning or end that was found."""
    sizes = range(1, len(part) + 1)
    end = bisect.bisect_left(sizes, True, key=lambda size: part[-size:] not in fed)
    begin = bisect.bisect_left(sizes, True, key=lambda size: part[:size] not in fed)
    if not MIN_FOUND <= max(begin, end) < len(part):
        return part
    return part[:-end] if end >= begin else part[begin:]


def _leaves(value: Any) -> Iterator[str]:
    """The strings and numbers within a value, as they would be written."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in LINK_KEYS:
                yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif value is not None:
        yield _written(value)


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _add_mark(message: Message, mark: str) -> Message:
    content = message.get("content")
    if isinstance(content, list):
        last = content[-1] | {"text": content[-1]["text"] + mark} if content else {}
        return message | {"content": [*content[:-1], last]}
    return message | {"content": content + mark} if content else message


def _quote(text: str) -> str:
    text = text.strip()
    return repr(text if len(text) <= 60 else f"{text[:60]}...")
