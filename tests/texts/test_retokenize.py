"""A text is fed again as it was fed first, and only the same text."""

from dataclasses import replace

import pytest

from secondary_sinks.texts import Text
from secondary_sinks.texts.tokenize import as_fed_first, tokenize
from tests.tiny import TEMPLATE, tiny_tokenizer

NOW = "{{ strftime_now('%H:%M:%S.%f') }} " + TEMPLATE
"""As templates that write the date, only more often another one."""
TALK = Text(text_id="t", messages=({"role": "user", "content": "Who?"},))


def again(text, tokenizer, before, feed="auto"):
    return as_fed_first(tokenize(text, tokenizer, feed), before)


def test_what_was_fed_first_is_fed_again():
    tokenizer = tiny_tokenizer(NOW)
    before, now = (tokenize(TALK, tokenizer) for _ in range(2))
    assert now.ids != before.ids
    assert as_fed_first(now, before) is before
    assert as_fed_first(now, None) is now


def test_ids_alone_are_not_known_to_be_the_same_text():
    before = tokenize(TALK, tiny_tokenizer(NOW))
    now = replace(tokenize(TALK, tiny_tokenizer(NOW)), text_sha256="")
    assert as_fed_first(now, replace(before, text_sha256="")) is now


OTHERS = {
    "id": (replace(TALK, text_id="u"), NOW, "auto"),
    "content": (replace(TALK, messages=({"role": "user", "content": "What?"},)), NOW, "auto"),
    "role": (replace(TALK, messages=({"role": "system", "content": "Who?"},)), NOW, "auto"),
    "template": (TALK, NOW + " ", "auto"),
    "feed": (TALK, NOW, "raw"),
    "acceptance": (TALK, NOW, "chat:lossy"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_ids_of_something_else_are_not_used(name):
    before = tokenize(TALK, tiny_tokenizer(NOW))
    text, template, feed = OTHERS[name]
    assert again(text, tiny_tokenizer(template), before, feed).ids != before.ids


def test_ids_of_another_tokenizer_are_not_used():
    before = tokenize(TALK, tiny_tokenizer(NOW))
    larger = tiny_tokenizer(NOW)
    larger.add_tokens(["Who?"])
    assert again(TALK, larger, before).ids != before.ids
