"""Labels for figures: hidden characters made visible, and markup escaped for plotly."""

import math
import textwrap

import plotly.graph_objects as go

from secondary_sinks.display import make_visible
from secondary_sinks.plots.theme import finish

MISSING = "\u2013"
_MARKUP = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "&#36;", "%": "&#37;"}


def token_label(text: str) -> str:
    """Label of a token, with visible white space, that plotly draws literally.

    plotly reads `<b>`, `<a href>` and the like in any label, `%{...}` in hover templates, and
    `$...$` as TeX where MathJax is loaded; it decodes entities once, after all of these.

    >>> token_label("<b>$1")
    '&lt;b&gt;&#36;1'
    """
    return _escape(make_visible(text))


def plain_label(words: str) -> str:
    """Label with ordinary spaces that plotly draws literally, for titles and names.

    >>> plain_label("a <b> c")
    'a &lt;b&gt; c'
    """
    return _escape(make_visible(words, keep=" "))


def row_label(token: str, pos: int, text_id: str) -> str:
    """Short label of a token: token, position and text, cut to fit."""
    return _escape(
        f"{make_visible(token, most=12)} {pos} · {make_visible(text_id, keep=' ', most=24)}"
    )


def format_number(value: float, form: str = ".3g") -> str:
    """A number, or a dash for NaN."""
    return MISSING if math.isnan(value) else format(value, form)


def _escape(text: str) -> str:
    return "".join(_MARKUP.get(char, char) for char in text)


WIDTH = 60
"""Characters per line, to fit a phone."""


def message_figure(words: str) -> go.Figure:
    """A figure without data that shows a message."""
    lines = [plain_label(line) for line in textwrap.wrap(words, WIDTH)]
    figure = go.Figure()
    figure.add_annotation(
        text="<br>".join(lines),
        showarrow=False,
        font_size=14,
        **{"xref": "paper", "x": 0.5, "yref": "paper", "y": 0.5},
    )
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return finish(figure, height=120 + 20 * len(lines))
