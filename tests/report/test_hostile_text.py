import base64
import csv
import functools
import hashlib
import io
import json
import re

import pandas as pd
import plotly.graph_objects as go
import pytest

from secondary_sinks.report import embed
from tests.plots import frames
from tests.plots.frames import HOSTILE
from tests.report.pages import Html, page, record, verdict


@functools.cache
def hostile_page(text):
    """A page on which every free text is `text`."""
    tokens = [text] * frames.POSITIONS
    table = frames.sinks(
        frames.sink(text, 0, "primary", token=text), frames.sink(text, 1, token=text)
    )
    told = record(text, command=text, commit=text, verdicts=[verdict(why=text, claim=text)])
    told["model"]["name"] = told["model"]["architecture"] = told["device"] = text
    told["versions"] = {text: text}
    cells = frames.effects(text).assign(token=text)
    trace = frames.trace(text, tokens=tokens)
    return page(record=told, sinks=table, trace=trace, effects=cells)


def shape(html):
    """Elements with the names of their attributes."""
    return [(tag, sorted(attrs)) for tag, attrs in html.elements]


@pytest.fixture(scope="module")
def plain():
    return Html(hostile_page("plain"))


@pytest.mark.parametrize("text", HOSTILE)
def test_the_page_has_the_same_elements_whatever_the_tokens_say(text, plain):
    html = Html(hostile_page(text))
    assert shape(html) == shape(plain)
    assert not html.comments


@pytest.mark.parametrize("text", HOSTILE)
def test_embedded_data_is_inert_and_still_says_the_same(text):
    html = Html(hostile_page(text))
    data = [(attrs, content) for attrs, content in html.scripts() if attrs]
    assert len(data) == 16, "eight figures, each with what it shows"
    for attrs, content in data:
        assert attrs["type"] == "application/json"
        assert not re.search("[<>&\u2028\u2029]", content)
        json.loads(content)


@pytest.mark.parametrize("text", HOSTILE)
def test_no_control_or_bidirectional_character_reaches_the_page(text):
    source = hostile_page(text)
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", outside_scripts(source)
    )


def test_tokens_are_shown_as_they_are():
    assert HOSTILE[0] in Html(hostile_page(HOSTILE[0])).words
    assert (
        "a⟨U+2028⟩b⟨U+2029⟩⟨U+202E⟩gnp.exe⟨U+0000⟩⟨U+001B⟩" in Html(hostile_page(HOSTILE[4])).words
    )


def test_scripts_are_ours_alone_and_nothing_may_be_fetched():
    html = Html(page())
    (policy,) = (m["content"] for m in html.of("meta") if "http-equiv" in m)
    code = [content for attrs, content in html.scripts() if not attrs]
    hashes = [base64.b64encode(hashlib.sha256(c.encode()).digest()).decode() for c in code]
    assert re.findall("'sha256-([^']+)'", policy) == hashes
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy.split("style-src")[0]
    assert "http" not in policy


def test_no_element_names_another_file(plain):
    for _, attrs in plain.elements:
        assert "src" not in attrs
        assert attrs.get("href", "data:,").startswith(("data:,", "#"))
    style = next(data for tag, data in plain.texts if tag == "style")
    assert "url(" not in style
    assert "@import" not in style


def test_tables_to_download_keep_their_tokens_and_hold_no_formula():
    words = ['=1+1,"x"', "</script>\u2028", " the\n"]
    text = json.loads(embed.csv_of(pd.DataFrame({"token": words, "text_id": "=cmd", "n": -1})))
    rows = list(csv.reader(io.StringIO(text)))
    assert [json.loads(row[0]) for row in rows[1:]] == words
    assert rows[1][1:] == ["'=cmd", "-1"]
    text = json.loads(embed.csv_of(pd.DataFrame({"text_id": ["a\rb", "'c", "\\r"], "n": 1})))
    assert text.splitlines() == ["text_id,n", "a\\rb,1", "''c,1", "\\\\r,1"]
    assert not re.search("[<>&\u2028\u2029]", embed.csv_of(pd.DataFrame({"token": words})))


def test_figure_data_keeps_its_meaning():
    text = "</script><!--&\u2028"
    embedded = embed.json_of(go.Figure(layout_title_text=text))
    assert json.loads(embedded)["layout"]["title"]["text"] == text


@pytest.mark.parametrize("name", ["draw.js", "style.css"])
def test_our_own_files_cannot_end_their_element(name):
    assert "</" not in embed.own(name)


def outside_scripts(source):
    return re.sub("<script>.*?</script>", "", source, flags=re.DOTALL)
