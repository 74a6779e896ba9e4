"""Render messages with a chat template; content that the template drops is an error."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from secondary_sinks.errors import TextError
from secondary_sinks.texts.lost_content import (
    add_marks,
    find_lost_content,
    find_unmarked,
)
from secondary_sinks.texts.text import Message

MARKS = [chr(code) for code in range(0xE000, 0xF8FF)]
"""Private-use characters; one of them marks the ends of contents."""


def apply_chat_template(
    text_id: str,
    messages: Sequence[Message],
    tokenizer: Any,
    *,
    options: Mapping[str, Any] | None = None,
    lossy: bool = False,
    answer: bool = False,
    choices: str = "",
) -> str:
    """The string that a tokenizer's chat template makes of messages.

    With `answer`, it ends with the generation prompt. `options` are variables of the template.
    Raises `TextError` if the template fails, takes too long, or (unless `lossy`) drops content of a
    message; the error then ends with `choices`.
    """
    from secondary_sinks.texts.template_process import render_template

    given = {**(options or {}), "add_generation_prompt": answer}
    try:
        fed = render_template(tokenizer, messages, given)
    except TextError as error:
        raw = "; use --feed raw" if choices else ""
        raise TextError(
            f"text {text_id!r} does not fit the chat template ({error}){raw}"
        ) from error
    lost = (
        []
        if lossy
        else find_lost_content(messages, fed)
        or _find_accidental_matches(messages, tokenizer, given)
    )
    if lost:
        raise TextError(
            f"text {text_id!r}: the chat template leaves out {format_losses(lost)}{choices}"
        )
    return fed


def _find_accidental_matches(
    messages: Sequence[Message], tokenizer: Any, given: Mapping[str, Any]
) -> list[str]:
    """What the template dropped, although the same string occurs in what it wrote."""
    from secondary_sinks.texts.template_process import render_template

    content = json.dumps(messages, ensure_ascii=False)
    mark = next((mark for mark in MARKS if mark not in content), None)
    if mark is None:
        raise TextError(
            f"all {len(MARKS)} private-use characters are in the messages, so that content which "
            "the template leaves out could not be recognised",
            "use --feed raw or chat:lossy",
        )
    for extras in (True, False):
        try:
            fed = render_template(tokenizer, add_marks(messages, mark, extras), given)
        except TextError:  # the template accepts only the unmarked values
            continue
        return find_unmarked(messages, fed, mark, extras)
    return []


def format_losses(lost: Sequence[str]) -> str:
    """The first of several losses, and the number of further ones."""
    return lost[0] + (f", and {len(lost) - 1} more" if len(lost) > 1 else "")
