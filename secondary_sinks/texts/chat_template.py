"""Messages -> the string that a chat template makes of them, with nothing left out silently."""

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
"""Characters for private use, of which one marks the ends of contents."""


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
    """What the chat template of a tokenizer makes of messages; with `answer`, ready for one.

    `options` are variables of the template. Raises `TextError` where the template fails, does not
    end, or (unless `lossy`) leaves out something that a message says; that message ends with
    `choices`.
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
    """Contents that stand in what is fed only because the template itself writes the same."""
    from secondary_sinks.texts.template_process import render_template

    mark = next(mark for mark in MARKS if mark not in str(messages))
    try:
        return find_unmarked(
            messages, render_template(tokenizer, add_marks(messages, mark), given), mark
        )
    except TextError:  # the template takes these contents only as they are
        return []


def format_losses(lost: Sequence[str]) -> str:
    """The first of several losses, and how many more there are."""
    return lost[0] + (f", and {len(lost) - 1} more" if len(lost) > 1 else "")
