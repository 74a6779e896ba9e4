"""Content that enters the page unescaped (scripts, styles, figure data), made safe first."""

import base64
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from secondary_sinks import files
from secondary_sinks.runs.as_csv import escape

_HERE = Path(__file__).parent
_JSON_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def json_of(figure: go.Figure) -> Markup:
    """A figure as JSON that cannot end the script element around it.

    `<`, `>`, `&` and the line separators occur only inside JSON strings, so each can be written as
    an escape without changing the meaning.
    """
    text: str = figure.to_json(engine="json")
    return Markup(text.translate(_JSON_ESCAPES))


def csv_of(table: pd.DataFrame) -> Markup:
    """A table as CSV in a JSON string, as safe as `json_of`.

    Tokens are written as JSON strings, so that their white space survives and no spreadsheet reads
    one as a formula; other words are escaped as in `runs.as_csv`.
    """
    words = table.select_dtypes(exclude="number").columns
    written = {name: _inert_cells(table[name], quote=name == "token") for name in words}
    return json_text(table.assign(**written).to_csv(index=False, lineterminator="\n"))


def json_text(plain: Any) -> Markup:
    """Plain data as JSON, as safe as `json_of`."""
    return Markup(json.dumps(plain).translate(_JSON_ESCAPES))


def _inert_cells(cells: pd.Series, quote: bool) -> list[str]:
    words = ["" if cell is None else str(cell) for cell in cells]
    if quote:
        return [json.dumps(word, ensure_ascii=False) for word in words]
    return [escape(word) for word in words]


@cache
def plotly_js() -> Markup:
    """The plotly library as JavaScript."""
    return _script(get_plotlyjs())


def own(name: str) -> Markup:
    """A script or style sheet stored next to this module."""
    return _script(files.read_text(_HERE / name))


def content_policy(scripts: list[Markup]) -> str:
    """A content security policy that runs only these scripts and fetches nothing."""
    hashes = " ".join(f"'sha256-{_sha256(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _script(text: str) -> Markup:
    """Text that cannot close the script element around it; line ends are `\\n`."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "</script" in text.lower() or "</style" in text.lower() or "<!--" in text:
        raise ValueError("a script or style sheet holds markup that would end its element")
    return Markup(text)


@cache
def _sha256(script: Markup) -> str:
    return base64.b64encode(hashlib.sha256(str(script).encode()).digest()).decode()
