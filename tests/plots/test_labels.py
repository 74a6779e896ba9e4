import re

import pytest

from secondary_sinks.plots.labels import format_number, make_visible, row_label, token_label
from tests.plots.frames import HOSTILE

PLOTLY_TAG = re.compile(r"<[^<>]*>")
"""How plotly.js splits labels into markup and text."""


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        (" ", "␣"),
        ("\n\t", "⏎⇥"),
        ("\x00\x1b\x7f", "⟨U+0000⟩⟨U+001B⟩⟨U+007F⟩"),
        ("a\u202eb", "a⟨U+202E⟩b"),
        ("\u00a0\u200b\ufeff", "⟨U+00A0⟩⟨U+200B⟩⟨U+FEFF⟩"),
        ("\ud800", "⟨U+D800⟩"),
        ("é日本\U0001f600", "é日本\U0001f600"),
        ("", ""),
    ],
)
def test_what_draws_nothing_becomes_visible(text, seen):
    assert make_visible(text) == seen


def test_characters_can_be_kept_and_long_text_is_cut():
    assert make_visible("a b\n", keep=" ") == "a b⏎"
    assert make_visible("abcdef", most=6) == "abcdef"
    assert make_visible("abcdefg", most=6) == "abcde…"
    assert len(make_visible("\u202e" * 9, most=6)) == 6


@pytest.mark.parametrize("text", HOSTILE)
def test_plotly_finds_no_markup_in_a_label(text):
    for label in (token_label(text), row_label(text, 3, text)):
        assert not PLOTLY_TAG.search(label)
        assert "$" not in label
        assert "%{" not in label
        assert label.isprintable()


def test_plotly_shows_what_the_token_says():
    import html

    assert html.unescape(token_label("<b>&amp;$%")) == "<b>&amp;$%"


def test_a_missing_number_is_a_dash():
    assert format_number(float("nan"), ".2f") == "\u2013"
    assert format_number(0.5, ".0%") == "50%"
