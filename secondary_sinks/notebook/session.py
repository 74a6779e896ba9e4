"""`Session`: one text of one model, what is chosen in it, what was tried, and what that did.

Plain Python: the widget shows a session and tells it what was clicked; a script can do the same.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from secondary_sinks.causal import before_and_after, recompute, replay
from secondary_sinks.causal.controls import last_judged
from secondary_sinks.causal.outcome import readers
from secondary_sinks.causal.replay import Progress
from secondary_sinks.detection import detect
from secondary_sinks.errors import EditError
from secondary_sinks.models import HookedModel
from secondary_sinks.notebook.choice import Choice, changed
from secondary_sinks.notebook.snippet import python_of
from secondary_sinks.notebook.trial import Tried
from secondary_sinks.observation import CachedPass, observe
from secondary_sinks.observation.tokens import token_ids
from secondary_sinks.texts import Control, Text, TokenizedText, match_controls, tokenize
from secondary_sinks.types import Edit, Sink, Thresholds

if TYPE_CHECKING:
    import pandas as pd

KEPT_AT_MOST = 1 << 30
"""Bytes that a clean pass may take to be kept in memory, which makes edits immediate. A longer
text is walked through again for every edit."""
CURVES = ("alignment", "alignment_centred", "norm", "mass")

GivenText = str | Tensor | Sequence[int] | Sequence[dict[str, str]]


class Session:
    """A text, a choice in it, and the edits tried so far.

    Whatever is chosen is run at once: token by token replay beside a control. What can't be done
    raises in words and changes nothing.

    >>> from secondary_sinks.testing import Plant, plant
    >>> planted = plant([Plant(pos=0, forming=(1,), strength=400.0), Plant(pos=20, forming=(3,))])
    >>> session = Session(planted.model, planted.tokens)
    >>> session.choose(pos=20, layer=3, kind="zero").rows[0]["lifetime_edited"]
    0
    """

    def __init__(
        self,
        model: HookedModel,
        text: GivenText,
        *,
        text_id: str = "text",
        thresholds: Thresholds | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Observe the text and choose its strongest secondary sink.

        `text` is a string, token ids, or the messages of a conversation. `progress` is called with
        (layers done, layers) of the pass that is kept, or, where none is, of that of each edit.
        Raises as `tokenize` and `observe`.
        """
        self.progress = progress
        self.model, self.thresholds = model, thresholds or Thresholds()
        self.text = _tokenized(model, text, text_id)
        tokens, kept = self.text.tokens, None
        if CachedPass.bytes_of(model, len(tokens)) <= KEPT_AT_MOST:
            kept = CachedPass(model, tokens, progress)
        self._kept = kept
        self.trace = kept.trace(text_id) if kept else observe(model, tokens, text_id=text_id)
        self.sinks = detect(self.trace, self.thresholds)
        self._by_pos = {sink.pos: sink for sink in self.sinks.sinks}
        self.choice = self._first_choice()
        self._past: list[Choice] = []
        self._tried: dict[Edit, Tried] = {}

    @property
    def tried(self) -> tuple[Tried, ...]:
        """Every edit that was tried, in order; each once."""
        return tuple(self._tried.values())

    @property
    def current(self) -> Tried | None:
        """What the chosen edit did; None where none is chosen."""
        edit = self.choice.edit()
        return None if edit is None else self._tried.get(edit)

    @property
    def immediate(self) -> bool:
        """Whether the clean pass is in memory, so that an edit needs no pass over the text."""
        return self._kept is not None

    def sink_at(self, pos: int) -> Sink | None:
        """The sink at a position, if it is one."""
        return self._by_pos.get(pos)

    def choose(self, **changes: Any) -> Tried | None:
        """Change fields of the choice; run its edit, unless it was run before.

        Raises `EditError` for what is not possible: the choice then stays what it was.
        """
        new = changed(self.choice, changes, *self.trace.norm.shape)
        if new == self.choice:
            return self.current
        result = self._run(new)
        self._past.append(self.choice)
        self.choice = new
        return result

    def undo(self) -> Tried | None:
        """Go back to the choice before. Raises `EditError` where there is none."""
        if not self._past:
            raise EditError("there is nothing to undo; this is the first choice")
        self.choice = self._past.pop()
        return self.current

    def go(self, number: int) -> Tried | None:
        """Choose once more what was tried as number so and so, from 0."""
        if not 0 <= number < len(self._tried):
            raise EditError(f"trial {number} is not in the list; it holds {len(self._tried)}")
        again = self.tried[number].choice
        return self.choose(**again.to_dict() | {"measure": self.choice.measure})

    def total(self, progress: Progress | None = None) -> Tried:
        """Recompute everything after the chosen edit, and after that of its control.

        Raises `EditError` where no edit is chosen.
        """
        tried = self._chosen()
        if tried.totals:
            return tried
        found = recompute(self.model, self.trace, tried.edits, progress=progress)
        read = readers(tried.layers, len(self.trace.norm))
        change = found.loss - found.loss_clean
        totals = tuple(
            {
                "mass_total": float(found.mass[read, cell, found.column(edit.positions[0])].mean()),
                "loss_change": float(change[cell, edit.positions[0] : -1].mean()),
            }
            for cell, edit in enumerate(tried.edits)
        )
        self._tried[tried.edits[0]] = replace(tried, totals=totals)
        return self._tried[tried.edits[0]]

    def to_python(self) -> str:
        """Code that gives the numbers of the chosen edit again. Raises `EditError` without one."""
        return python_of(self.trace, self._chosen(), self.thresholds)

    def to_frame(self) -> "pd.DataFrame":
        """All trials: a row per edited token, as `before_and_after`, with `trial` and `role`."""
        import pandas as pd

        rows = [
            {"trial": number, "role": role, **row, **(total or {})}
            for number, tried in enumerate(self.tried)
            for role, row, total in zip(
                ("token", "control"), tried.rows, tried.totals or (None, None), strict=False
            )
        ]
        return pd.DataFrame(rows)

    def export(self, folder: str | Path, *, force: bool = False) -> Path:
        """Write a run folder: sinks, trace, and what was tried as its effects.

        Raises `RunFolderError` where the folder holds anything; `force` replaces a run in it.
        """
        from secondary_sinks.notebook.export import export

        return export(self, folder, force=force)

    def _chosen(self) -> Tried:
        tried = self.current
        if tried is None:
            raise EditError("no edit is chosen yet; choose a token, a layer and an edit first")
        return tried

    def _first_choice(self) -> Choice:
        sinks = self.sinks.of_kind("secondary").sinks or self.sinks.sinks
        if not sinks:
            return Choice(pos=self.trace.primary, layer=0)
        strongest = max(sinks, key=lambda sink: sink.norm_ratio_max)
        return Choice(pos=strongest.pos, layer=strongest.l_start)

    def _run(self, choice: Choice) -> Tried | None:
        """The trial that a choice stands for, from memory where it was run before."""
        edit = choice.edit()
        if edit is None or edit in self._tried:
            return None if edit is None else self._tried[edit]
        control = self._control(choice)
        copy = None if control is None else choice.edit(control.pos)
        edits = (edit,) if copy is None else (edit, copy)
        layers, told = self._layers(choice), None if self.immediate else self.progress
        replayed = replay(self.model, self.trace, edits, kept=self._kept, progress=told)
        frame = before_and_after(self.trace, replayed, layers=layers, thresholds=self.thresholds)
        self._tried[edit] = Tried(
            choice=choice,
            edits=edits,
            layers=layers,
            rows=tuple({str(k): v for k, v in row.items()} for row in frame.to_dict("records")),
            control_kind="" if control is None else control.kind,
            curves={name: getattr(replayed, name) for name in CURVES},
        )
        return self._tried[edit]

    def _layers(self, choice: Choice) -> tuple[int, ...]:
        """Layers that means are over: the sink's own; of another token, from the edit on."""
        sink = self.sink_at(choice.pos)
        return sink.layers if sink else tuple(range(choice.layer, len(self.trace.norm)))

    def _control(self, choice: Choice) -> Control | None:
        """The nearest token twin that is no sink, else the nearest ordinary token."""
        taken = {*self._by_pos, *self.trace.reference.tolist(), self.trace.primary, choice.pos}
        taken |= set() if choice.donor is None else {choice.donor}
        last = last_judged(self.trace, self.sinks)
        found = match_controls(self.trace.tokens.tolist(), [choice.pos], taken, last)
        return found[0] if found else None


def _tokenized(model: HookedModel, text: GivenText, text_id: str) -> TokenizedText:
    """What was given as token ids, with what was fed where that is known."""
    if isinstance(text, str):
        return tokenize(Text(text_id=text_id, plain=text), model.tokenizer, "raw")
    if not isinstance(text, Tensor) and len(text) and isinstance(text[0], dict):
        messages = tuple(text)
        return tokenize(Text(text_id=text_id, messages=messages), model.tokenizer)  # type: ignore[arg-type]
    ids = token_ids(text, model.cfg.d_vocab)  # type: ignore[arg-type]
    return TokenizedText(text_id=text_id, tokens=ids, feed="ids", fed="")
