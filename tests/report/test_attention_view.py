"""The attention view holds what the answer holds, inert, and within a bound."""

import base64
import json
import re

import numpy as np
import pytest

from secondary_sinks.report import attention
from tests.marks import exhaustive
from tests.plots import frames
from tests.report.pages import Html, attended, page, record


def shown(html):
    return next(
        json.loads(text) for attrs, text in html.scripts() if attrs.get("id") == "attention-data"
    )


def test_the_page_has_every_number_of_the_answer_and_the_tokens_they_belong_to():
    html = Html(page(answers=attended()))
    (one,) = shown(html)
    table = attended()["reader_heads"].tables["queries"]
    assert one["tokens"] == [" the", "⏎\n", " a", *frames.TOKENS[4:]]
    assert (one["pos"], one["left"], one["name"]) == (1, 0, "“␣the” at position 1 of “one”")
    assert [(layer["layer"], layer["head"]) for layer in one["layers"]] == [(2, 1), (3, 1)]
    for layer in one["layers"]:
        own = table[table["layer"] == layer["layer"]]
        for name, column in (("mean", "attention"), ("top", "attention_head")):
            steps = np.frombuffer(base64.b64decode(layer[name]), np.uint8)
            exact = own[column].to_numpy()
            assert (steps / 255) ** 2 == pytest.approx(exact, abs=0.0041)
    assert {a.get("data-sink") for a in html.of("tr")} >= {one["key"]}
    assert "There are numbers for 1 sink (" in html.words


def test_a_page_without_the_question_says_how_to_ask():
    words = Html(page()).words
    assert "is shown here if reader_heads was asked: add --ask reader_heads" in words


@exhaustive
def test_weaker_sinks_are_left_out_where_the_page_would_grow_too_large(monkeypatch):
    monkeypatch.setattr(attention, "MOST_VALUES", 39)  # two layers, ten queries, two numbers each
    assert shown(Html(page(answers=attended()))) == []
    monkeypatch.setattr(attention, "MOST_VALUES", 40)
    assert len(shown(Html(page(answers=attended())))) == 1


@pytest.mark.parametrize("text", frames.HOSTILE)
def test_hostile_tokens_are_inert_in_the_view(text):
    tokens = [text] * frames.POSITIONS
    sinks = frames.sinks(
        frames.sink(text, 0, "primary", token=text), frames.sink(text, 1, token=text)
    )
    trace = frames.trace(text, tokens=tokens)
    given = {"record": record(text), "sinks": sinks, "trace": trace}
    html = Html(page(**given, effects=frames.effects(text), answers=attended(text)))
    (content,) = [c for attrs, c in html.scripts() if attrs.get("id") == "attention-data"]
    assert not re.search("[<>&\u2028\u2029]", content)
    assert len(json.loads(content)[0]["tokens"]) == frames.POSITIONS - 1
