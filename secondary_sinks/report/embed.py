"""What goes into the page unescaped: scripts, styles and figure data, each made safe first."""

import base64
import hashlib
from pathlib import Path

import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

_HERE = Path(__file__).parent
_JSON_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def json_of(figure: go.Figure) -> Markup:
    """A figure as JSON that can't leave the script element it stands in.

    `<`, `>`, `&` and the line separators occur only inside JSON strings, so each can be written
    as an escape without a change of meaning.
    """
    text: str = figure.to_json(engine="json")
    return Markup(text.translate(_JSON_ESCAPES))


def plotly_js() -> Markup:
    """The plotly library."""
    return _script(get_plotlyjs())


def own(name: str) -> Markup:
    """A script or style sheet that lies beside this module."""
    return _script((_HERE / name).read_text(encoding="utf-8"))


def content_policy(scripts: list[Markup]) -> str:
    """A content security policy: these scripts alone may run, and nothing may be fetched."""
    hashes = " ".join(f"'sha256-{_sha256(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _script(text: str) -> Markup:
    """Text as an HTML parser will see it: line ends are `\\n`, and nothing closes the element."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "</script" in text.lower() or "</style" in text.lower() or "<!--" in text:
        raise ValueError("a script or style sheet holds markup that would end its element")
    return Markup(text)


def _sha256(script: Markup) -> str:
    return base64.b64encode(hashlib.sha256(str(script).encode()).digest()).decode()
