"""A text is fed again as it was fed first, and only the same text."""

import json
from dataclasses import replace

import pytest

from secondary_sinks.texts import Text
from secondary_sinks.texts.tokenize import retokenize, to_record
from tests.tiny import TEMPLATE, tiny_tokenizer

NOW = "{{ strftime_now('%H:%M:%S.%f') }} " + TEMPLATE
"""As templates that write the date, only more often another one."""
TALK = Text(text_id="t", messages=({"role": "user", "content": "Who?"},))


def as_stored(text, tokenizer, feed="auto"):
    fed, other = retokenize(text, tokenizer, feed, None)
    assert not other
    return fed, json.loads(json.dumps(to_record(fed)))


def test_what_was_fed_first_is_fed_again_and_said():
    tokenizer = tiny_tokenizer(NOW)
    fed, before = as_stored(TALK, tokenizer)
    again, other = retokenize(TALK, tokenizer, "auto", before)
    assert other
    assert (again.tokens.tolist(), again.fed) == (fed.tokens.tolist(), fed.fed)
    assert to_record(again) == before


def test_nothing_is_said_where_the_ids_are_the_same_anyway():
    tokenizer = tiny_tokenizer(TEMPLATE)
    fed, before = as_stored(TALK, tokenizer)
    again, other = retokenize(TALK, tokenizer, "auto", before)
    assert not other
    assert again.tokens.tolist() == fed.tokens.tolist()


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
    _, before = as_stored(TALK, tiny_tokenizer(NOW))
    text, template, feed = OTHERS[name]
    again, other = retokenize(text, tiny_tokenizer(template), feed, before)
    assert not other
    assert again.tokens.tolist() != before["token_ids"]


def test_ids_of_another_tokenizer_are_not_used():
    _, before = as_stored(TALK, tiny_tokenizer(NOW))
    larger = tiny_tokenizer(NOW)
    larger.add_tokens(["Who?"])
    assert not retokenize(TALK, larger, "auto", before)[1]
