"""`SinkExplorer`: a session as a widget, in Jupyter and marimo, without a network.

The widget holds no state of its own. What it shows are plain traits, a page of tokens at a time;
a changed `choice`, or a message `{"do": ...}`, goes to the session, and what the session refuses
is shown in its words.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import plotly
import torch
import traitlets
from jaxtyping import Float
from torch import Tensor

from secondary_sinks import files
from secondary_sinks.errors import SinkError
from secondary_sinks.models import HookedModel
from secondary_sinks.notebook import figures
from secondary_sinks.notebook.choice import KINDS, MEASURES, SITES
from secondary_sinks.notebook.session import GivenText, Session
from secondary_sinks.notebook.trial import Tried, named, summary, table
from secondary_sinks.plots.labels import make_visible
from secondary_sinks.types import Thresholds, read_by_next

if TYPE_CHECKING:
    import pandas as pd

HERE = Path(__file__).parent
PAGE = 256
"""Tokens that are sent and drawn at once."""
MOST_SINKS = 60
"""Sinks that are offered to jump to."""


class SinkExplorer(anywidget.AnyWidget):
    """Explore the sinks of a text by hand: choose a token, a layer and an edit, see what it does.

        explorer = SinkExplorer(model, "The mill stood by the river. " * 20)
        explorer                                        # as the last line of a cell
        explorer.choose(pos=20, layer=3, kind="zero")   # what a click does
        explorer.result                                 # before and after, as a frame

    `text` is a string, token ids, or messages. Also `undo()`, `total()`, `to_python()`, `export()`;
    `session` has everything. Raises as `Session`.
    """

    _esm = HERE / "explorer.js"
    _css = HERE / "explorer.css"

    setup = traitlets.Dict().tag(sync=True)
    """What never changes: numbers of layers and tokens, sinks, words for edits."""
    choice = traitlets.Dict().tag(sync=True)
    """The fields of `Choice`; assign one, from either side, to choose."""
    page = traitlets.Dict().tag(sync=True)
    """Tokens of the page that is shown, and how each is coloured."""
    map = traitlets.Dict().tag(sync=True)
    """The map of layers by tokens of the page, as a plotly figure."""
    marks = traitlets.List(traitlets.Dict()).tag(sync=True)
    """What is drawn on the map for the choice: a click changes these alone."""
    curves = traitlets.Dict().tag(sync=True)
    """Token and control by layer, before and after; empty without an edit."""
    table = traitlets.Dict().tag(sync=True)
    """What the edit did, in numbers; empty without one."""
    tried = traitlets.List(traitlets.Unicode()).tag(sync=True)
    """What was tried, in words."""
    code = traitlets.Unicode().tag(sync=True)
    """The chosen edit as Python."""
    status = traitlets.Unicode().tag(sync=True)
    """What was done last, in words."""
    error = traitlets.Unicode().tag(sync=True)
    """What could not be done, in words; empty otherwise."""
    progress = traitlets.Float(-1.0).tag(sync=True)
    """Share of a long computation that is done; -1 when there is none."""

    def __init__(
        self,
        model: HookedModel,
        text: GivenText,
        *,
        text_id: str = "text",
        thresholds: Thresholds | None = None,
    ) -> None:
        """Observe the text; nothing is drawn until the widget is shown."""
        self.session = Session(model, text, text_id=text_id, thresholds=thresholds)
        super().__init__()
        self.session.progress = self._on_progress
        self._quiet, self._drawn_pos, self._mapped = False, -1, ("", -1)
        self.setup = self._setup()
        self._show()
        self.status = self._waiting()
        self.observe(self._on_choice, "choice")
        self.on_msg(self._on_message)

    # What a person can do; a script too.

    def choose(self, **changes: Any) -> None:
        """Choose a token (`pos`), `layer`, edit (`kind`, `site`, `value`, `donor`) or `measure`.

        Raises `EditError` for what is not possible, as all methods do; a click shows it instead.
        """
        self._said(self.session.choose(**changes))

    def undo(self) -> None:
        """Go back to the choice before."""
        self._said(self.session.undo())

    def go(self, number: int) -> None:
        """Choose a trial of the list once more."""
        self._said(self.session.go(number))

    def total(self) -> None:
        """Recompute everything after the edit, and show direct and total effects together."""
        self._said(self.session.total(self._on_progress))

    def turn(self, page: int) -> None:
        """Show another page of tokens, from 0."""
        self._draw_page(max(0, min(page, self.setup["pages"] - 1)))

    def to_python(self) -> str:
        """The chosen edit as code that gives its numbers again."""
        return self.session.to_python()

    def export(self, folder: str | Path, *, force: bool = False) -> None:
        """Write a run folder of what was found and tried."""
        path = self.session.export(folder, force=force)
        self.status = f"Written to {path}."

    @property
    def result(self) -> "pd.DataFrame":
        """All trials as a frame: token and control, before and after."""
        return self.session.to_frame()

    # What the browser sends.

    def _on_choice(self, change: Any) -> None:
        if not self._quiet:
            self._try(lambda: self.choose(**change["new"]))

    def _on_message(self, widget: Any, content: Any, buffers: Any) -> None:
        verb = content.get("do") if isinstance(content, dict) else None
        verbs = {
            "undo": self.undo,
            "total": self.total,
            "plotly": self._send_plotly,
            "go": lambda: self.go(int(content["number"])),
            "page": lambda: self.turn(int(content["number"])),
            "export": lambda: self.export(str(content["folder"])),
        }
        self._try(verbs.get(str(verb), lambda: self._unknown(content)))

    def _try(self, act: Any) -> None:
        """Do it; say what went wrong in the widget, and show what is the case."""
        self.error = ""
        try:
            act()
        except (SinkError, KeyError, TypeError, ValueError) as error:
            self.error, self.progress = f"{error}", -1.0
            self._show()

    def _unknown(self, content: Any) -> None:
        raise ValueError(f"the page sent {content!r}, which means nothing here; reload it")

    def _send_plotly(self) -> None:
        """The library that comes with plotly, once per page that has none yet."""
        source = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
        self.send({"plotly": True}, [files.read_bytes(source)])

    def _on_progress(self, done: int, whole: int) -> None:
        self.progress = done / whole

    # What the browser is shown.

    def _said(self, tried: Tried | None) -> None:
        self.error, self.progress = "", -1.0
        self._show()
        self.status = summary(self.session.trace, tried) if tried else self._waiting()

    def _waiting(self) -> str:
        choice, where = self.session.choice, named(self.session.trace, self.session.choice.pos)
        if choice.kind == "patch":
            return f"A patch of {where} at layer {choice.layer}: choose a donor."
        return f"{where} at layer {choice.layer}; no edit."

    def _show(self) -> None:
        choice = self.session.choice
        turn = choice.pos != self._drawn_pos  # if not, the reader may be on another page
        self._quiet = True
        try:
            self.choice = choice.to_dict()
            self._draw_page(choice.pos // PAGE if turn else self.page["number"])
            self._draw_result()
            self._drawn_pos = choice.pos
        finally:
            self._quiet = False

    def _draw_page(self, number: int) -> None:
        trace, choice = self.session.trace, self.session.choice
        start, stop = number * PAGE, min((number + 1) * PAGE, len(trace.tokens))
        excess = self._excess(choice.layer)[start:stop]
        self.page = {
            "number": number,
            "start": start,
            "tokens": [make_visible(token, most=40) for token in trace.token_strings[start:stop]],
            "labels": figures.labels(trace, start, stop),
            "excess": [None if value != value else round(value, 4) for value in excess.tolist()],
        }
        drawn = (choice.measure, number)
        if drawn != self._mapped:
            self.map = figures.plain(figures.level_map(trace, choice.measure, start, stop))
            self._mapped = drawn
        self.marks = figures.marks(choice)

    def _excess(self, layer: int) -> Float[Tensor, "pos"]:
        """Attention that states of a layer draw beyond an even share; NaN where few see them."""
        trace, least = self.session.trace, self.session.thresholds.min_queries
        excess = read_by_next(trace.mass_excess)[layer]
        return excess.where(read_by_next(trace.queries.float())[layer] >= least, torch.nan)

    def _draw_result(self) -> None:
        tried, trace = self.session.current, self.session.trace
        self.tried = [summary(trace, one) for one in self.session.tried]
        self.code = self.session.to_python() if tried else ""
        if tried is None:
            self.table, self.curves = {}, {}
            return
        self.table = {
            "tokens": [named(trace, row["pos"]) for row in tried.rows],
            "control": tried.control_kind,
            "layers": tried.rows[0]["layers"],
            "rows": table(tried),
        }
        self.curves = figures.curves(trace, tried, self.session.choice.measure)

    def _setup(self) -> dict[str, Any]:
        session, trace = self.session, self.session.trace
        n_layers, n_pos = trace.norm.shape
        sinks = sorted(session.sinks.sinks, key=lambda sink: -sink.norm_ratio_max)[:MOST_SINKS]
        slow = "" if session.immediate else " A long text: each edit walks through all of it."
        secondary = len(session.sinks.of_kind("secondary").sinks)
        return {
            "layers": n_layers,
            "tokens": n_pos,
            "pages": -(-n_pos // PAGE),
            "page": PAGE,
            "kinds": KINDS,
            "sites": SITES,
            "measures": MEASURES,
            "sinks": [
                {
                    "pos": sink.pos,
                    "layer": sink.l_start,
                    "kind": sink.kind.replace("_", "-"),
                    "token": make_visible(sink.token, most=24),
                    "layers": sink.segments,
                }
                for sink in sinks
            ],
            "found": f"{n_pos} tokens, {n_layers} layers; {secondary} secondary "
            f"{'sink' if secondary == 1 else 'sinks'}.{slow}",
        }
