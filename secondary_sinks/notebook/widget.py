"""`SinkExplorer`: a session as a widget, in Jupyter and marimo, without a network.

The widget has no state of its own. It shows plain traits, one page of tokens at a time. A changed
`choice` or a message `{"do": ...}` is passed on to the session, whose errors are shown as messages.
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
from secondary_sinks.errors import EditError, SinkError
from secondary_sinks.models import HookedModel
from secondary_sinks.notebook import figures
from secondary_sinks.notebook.choice import KINDS, MEASURES, SITES, UNITS
from secondary_sinks.notebook.session import Session
from secondary_sinks.notebook.trial import Trial, describe_token, summary, table
from secondary_sinks.numbers import whole_number
from secondary_sinks.observation.tokens import GivenText
from secondary_sinks.plots.labels import make_visible
from secondary_sinks.types import Thresholds, read_by_next

if TYPE_CHECKING:
    import pandas as pd

HERE = Path(__file__).parent
PAGE = 256
"""Number of tokens on a page."""
MOST_SINKS = 60
"""Maximum number of sinks in the list to jump to."""


class SinkExplorer(anywidget.AnyWidget):
    """Explore the sinks of a text: choose a token, a layer and an edit, and see its effects.

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
    """Constants: numbers of layers and tokens, sinks, labels of edits."""
    choice = traitlets.Dict().tag(sync=True)
    """The fields of `Choice`; assigning it, from Python or the page, makes a choice."""
    page = traitlets.Dict().tag(sync=True)
    """Tokens of the current page, with their colours."""
    map = traitlets.Dict().tag(sync=True)
    """The map of layers by tokens of the current page, as a plotly figure."""
    marks = traitlets.List(traitlets.Dict()).tag(sync=True)
    """Shapes on the map for the choice; a click changes only these."""
    curves = traitlets.Dict().tag(sync=True)
    """Token and control by layer, before and after; empty without an edit."""
    table = traitlets.Dict().tag(sync=True)
    """Effects of the edit in numbers; empty without an edit."""
    trials = traitlets.List(traitlets.Unicode()).tag(sync=True)
    """Summaries of all trials."""
    code = traitlets.Unicode().tag(sync=True)
    """The chosen edit as Python."""
    status = traitlets.Unicode().tag(sync=True)
    """Description of the last action."""
    error = traitlets.Unicode().tag(sync=True)
    """Message of the last error; empty without one."""
    progress = traitlets.Float(-1.0).tag(sync=True)
    """Finished share of a long computation; -1 without one."""

    def __init__(
        self,
        model: HookedModel,
        text: GivenText,
        *,
        text_id: str | None = None,
        thresholds: Thresholds | None = None,
    ) -> None:
        """Observe the text; figures are drawn when the widget is shown."""
        self.session = Session(model, text, text_id=text_id, thresholds=thresholds)
        super().__init__()
        self.session.progress = self._on_progress
        self._quiet, self._drawn_pos, self._mapped = False, -1, ("", -1)
        self.setup = self._setup()
        self._show()
        self.status = self._waiting()
        self.observe(self._on_choice, "choice")
        self.on_msg(self._on_message)

    def __repr__(self) -> str:
        """What is shown where no widget can be drawn: the text, the last outcome, what to do."""
        return (
            f"SinkExplorer({self.setup['found']} {self.status})\n"
            "The widget shows in Jupyter and marimo (pip install '.[notebook]' in a clone, then "
            "restart the server). Here: .choose(pos=, layer=, kind=), .status, .result, .total()"
        )

    # Actions, for the page and for scripts.

    def choose(self, **changes: Any) -> None:
        """Choose a token (`pos`), `layer`, edit (`kind`, `site`, `units`, `value`, `donor`)
        or `measure`.

        Raises `EditError` for an invalid choice, as all actions do; clicks show the error instead.
        """
        self._update(self.session.choose(**changes))

    def undo(self) -> None:
        """Go back to the previous choice."""
        self._update(self.session.undo())

    def go(self, number: int) -> None:
        """Choose the edit of an earlier trial again."""
        self._update(self.session.go(number))

    def total(self) -> None:
        """Recompute all tokens after the edit, and show total effects next to direct ones."""
        self._update(self.session.total(self._on_progress))

    def to_python(self) -> str:
        """Code that reproduces the numbers of the chosen edit."""
        return self.session.to_python()

    def export(self, folder: str | Path, *, force: bool = False) -> None:
        """Write a run folder with the sinks and all trials."""
        path = self.session.export(folder, force=force)
        self.status = f"Written to {path}."

    @property
    def result(self) -> "pd.DataFrame":
        """All trials as a data frame: token and control, before and after."""
        return self.session.to_frame()

    # Messages from the page.

    @traitlets.validate("choice")
    def _as_chosen(self, proposal: Any) -> Any:
        """Values that are equal, but of another type (20.0 for 20), would change no trait."""
        given, chosen = proposal["value"], self.session.choice.to_dict()
        if self._quiet or given != chosen:
            return given
        self._try(lambda: self.session.choose(**given))
        return chosen

    def _on_choice(self, change: Any) -> None:
        if not self._quiet:
            self._try(lambda: self.choose(**change["new"]))

    def _on_message(self, widget: Any, content: Any, buffers: Any) -> None:
        verb = content.get("do") if isinstance(content, dict) else None
        verbs = {
            "undo": self.undo,
            "total": self.total,
            "plotly": self._send_plotly,
            "go": lambda: self.go(content["number"]),
            "page": lambda: self._turn_to(content["number"]),
            "export": lambda: self.export(content["folder"]),
        }
        self._try(verbs.get(str(verb), lambda: self._unknown(content)))

    def _try(self, act: Any) -> None:
        """Run an action; show its error in the widget, with the unchanged state."""
        self.error = ""
        try:
            act()
        except (SinkError, KeyError, TypeError, ValueError) as error:
            self.error, self.progress = f"{error}", -1.0
            self._show()

    def _turn_to(self, number: Any) -> None:
        """A page sends numbers beyond both ends, where a button is clicked fast."""
        number = whole_number("the page", number, EditError)
        self._draw_page(max(0, min(number, self.setup["pages"] - 1)))

    def _unknown(self, content: Any) -> None:
        raise ValueError(f"the page sent an unknown message {content!r}; reload it")

    def _send_plotly(self) -> None:
        """Send plotly.js from the plotly package to a page that does not have it yet."""
        source = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
        self.send({"plotly": True}, [files.read_bytes(source)])

    def _on_progress(self, done: int, whole: int) -> None:
        self.progress = done / whole

    # Traits for the page.

    def _update(self, trial: Trial | None) -> None:
        self.error, self.progress = "", -1.0
        self._show()
        self.status = summary(self.session.trace, trial) if trial else self._waiting()

    def _waiting(self) -> str:
        choice, where = (
            self.session.choice,
            describe_token(self.session.trace, self.session.choice.pos),
        )
        if choice.kind == "patch":
            return f"A patch of {where} at layer {choice.layer}: choose a donor."
        return f"{where} at layer {choice.layer}; no edit."

    def _show(self) -> None:
        choice = self.session.choice
        moved = choice.pos != self._drawn_pos  # if not, the reader may be on another page
        self._quiet = True
        try:
            self.choice = choice.to_dict()
            self._draw_page(choice.pos // PAGE if moved else self.page["number"])
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
        """Attention beyond an even share, for the states of a layer; NaN with too few queries."""
        trace, least = self.session.trace, self.session.thresholds.min_queries
        excess = read_by_next(trace.mass_excess)[layer]
        return excess.where(read_by_next(trace.queries.float())[layer] >= least, torch.nan)

    def _draw_result(self) -> None:
        trial, trace = self.session.current, self.session.trace
        self.trials = [summary(trace, one) for one in self.session.trials]
        self.code = self.session.to_python() if trial else ""
        if trial is None:
            self.table, self.curves = {}, {}
            return
        self.table = {
            "tokens": [describe_token(trace, row["pos"]) for row in trial.rows],
            "control": trial.control_kind,
            "layers": trial.rows[0]["layers"],
            "rows": table(trial),
        }
        self.curves = figures.curves(trace, trial, self.session.choice.measure)

    def _setup(self) -> dict[str, Any]:
        session, trace = self.session, self.session.trace
        n_layers, n_pos = trace.norm.shape
        sinks = sorted(session.sinks.sinks, key=lambda sink: -sink.norm_ratio_max)[:MOST_SINKS]
        slow = "" if session.immediate else " A long text: each edit needs a pass over all of it."
        secondary = len(session.sinks.of_kind("secondary").sinks)
        return {
            "layers": n_layers,
            "tokens": n_pos,
            "pages": -(-n_pos // PAGE),
            "page": PAGE,
            "kinds": KINDS,
            "sites": SITES,
            "units": UNITS,
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
