"""Token text made visible, and made safe for plotly."""

import math
import unicodedata

MISSING = "\u2013"
_NAMED = {" ": "␣", "\n": "⏎", "\t": "⇥"}
_HIDDEN = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"}
"""Unicode categories that draw nothing, or that change how their neighbours are drawn."""
_MARKUP = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "&#36;", "%": "&#37;"}


def make_visible(text: str, *, keep: str = "", most: int | None = None) -> str:
    """Text in which white space, control, bidirectional and unassigned characters can be seen.

    Characters in `keep` stay as they are. What is longer than `most` characters is cut.

    >>> make_visible(" the\\n"), make_visible("a\\u202eb"), make_visible("tokenization", most=6)
    ('␣the⏎', 'a⟨U+202E⟩b', 'token…')
    """
    seen = "".join(char if char in keep else _seen(char) for char in text)
    return seen if most is None or len(seen) <= most else seen[: most - 1] + "…"


def token_label(text: str) -> str:
    """Visible text that plotly draws literally.

    plotly reads `<b>`, `<a href>` and the like in any label, `%{...}` in hover templates, and
    `$...$` as TeX where MathJax is loaded; it decodes entities once, after all of these.

    >>> token_label("<b>$1")
    '&lt;b&gt;&#36;1'
    """
    return _escaped(make_visible(text))


def plain_label(words: str) -> str:
    """Words, with their spaces, that plotly draws literally: for titles and names.

    >>> plain_label("a <b> c")
    'a &lt;b&gt; c'
    """
    return _escaped(make_visible(words, keep=" "))


def row_label(token: str, pos: int, text_id: str) -> str:
    """Short plotly label of a token in a text: token, position, text."""
    return _escaped(
        f"{make_visible(token, most=12)} {pos} · {make_visible(text_id, keep=' ', most=14)}"
    )


def format_number(value: float, form: str = ".3g") -> str:
    """A number, or a dash where nothing was measured."""
    return MISSING if math.isnan(value) else format(value, form)


def _escaped(text: str) -> str:
    return "".join(_MARKUP.get(char, char) for char in text)


def _seen(char: str) -> str:
    if char in _NAMED:
        return _NAMED[char]
    if unicodedata.category(char) in _HIDDEN:
        return f"⟨U+{ord(char):04X}⟩"
    return char
