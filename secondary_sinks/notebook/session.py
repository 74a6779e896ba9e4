"""`Session`: one text of one model, with a choice, and trials of edits with their effects.

Plain Python: the widget shows a session and passes clicks on to it; a script can do the same.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from secondary_sinks.causal import before_and_after, recompute, replay
from secondary_sinks.causal.outcome import readers
from secondary_sinks.detection import detect
from secondary_sinks.errors import EditError
from secondary_sinks.models import HookedModel
from secondary_sinks.notebook.choice import Choice, apply_changes
from secondary_sinks.notebook.snippet import python_of
from secondary_sinks.notebook.trial import Trial
from secondary_sinks.numbers import whole_number
from secondary_sinks.observation import CachedPass, observe
from secondary_sinks.observation.tokens import GivenText, tokenize_given
from secondary_sinks.progress import Progress
from secondary_sinks.texts import Control, match_controls
from secondary_sinks.types import Edit, Sink, Thresholds
from secondary_sinks.types.controls import last_judged
from secondary_sinks.types.thresholds import as_thresholds

if TYPE_CHECKING:
    import pandas as pd

CURVES = ("alignment", "alignment_centred", "norm", "mass")


class Session:
    """A text, the current choice, and all trials so far.

    A chosen edit is run at once, at the token and at a control. An invalid choice raises and
    changes nothing.

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
        text_id: str | None = None,
        thresholds: Thresholds | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Observe the text and choose its strongest secondary sink.

        `text` is a string, token ids, or a conversation, as `observe` takes it. `progress` is
        called with (layers done, layers) during the clean pass or, if not kept, during each edit.
        Raises as `tokenize` and `observe`.
        """
        self.progress = progress
        self.model, self.thresholds = model, as_thresholds(thresholds)
        self.text = tokenize_given(model, text, text_id)
        self._kept = kept = CachedPass.if_small(model, self.text.tokens, progress)
        self.trace = kept.trace(self.text.text_id) if kept else observe(model, self.text)
        self.sinks = detect(self.trace, self.thresholds)
        self._by_pos = {sink.pos: sink for sink in self.sinks.sinks}
        self.choice = self._first_choice()
        self._past: list[Choice] = []
        self._trials: dict[Edit, Trial] = {}

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials in order, one per edit."""
        return tuple(self._trials.values())

    @property
    def current(self) -> Trial | None:
        """The trial of the chosen edit; None without one."""
        edit = self.choice.edit()
        return None if edit is None else self._trials.get(edit)

    @property
    def immediate(self) -> bool:
        """Whether the clean pass is in memory, so that an edit needs no pass over the text."""
        return self._kept is not None

    def sink_at(self, pos: int) -> Sink | None:
        """The sink at a position; None for other tokens."""
        return self._by_pos.get(pos)

    def choose(self, **changes: Any) -> Trial | None:
        """Change fields of the choice, and run its edit unless it was run before.

        Raises `EditError` for an invalid choice, which is then not made.
        """
        new = apply_changes(self.choice, changes, *self.trace.norm.shape)
        if new == self.choice:
            return self.current
        result = self._run(new)
        self._past.append(self.choice)
        self.choice = new
        return result

    def undo(self) -> Trial | None:
        """Go back to the previous choice. Raises `EditError` at the first one."""
        if not self._past:
            raise EditError("there is nothing to undo; this is the first choice")
        self.choice = self._past.pop()
        return self.current

    def go(self, number: int) -> Trial | None:
        """Choose the edit of trial `number` again, counted from 0. Raises `EditError` for no such.

        The measure that is shown stays.
        """
        number = whole_number("the number of a trial", number, EditError)
        if not 0 <= number < len(self._trials):
            raise EditError(f"trial {number} is not in the list; it holds {len(self._trials)}")
        again = self.trials[number].choice
        return self.choose(**again.to_dict() | {"measure": self.choice.measure})

    def total(self, progress: Progress | None = None) -> Trial:
        """Add total effects to the current trial: recompute all tokens after its edits.

        Raises `EditError` without a chosen edit.
        """
        trial = self._current_trial()
        if trial.totals:
            return trial
        found = recompute(self.model, self.trace, trial.edits, progress=progress)
        read = readers(trial.layers, len(self.trace.norm))
        change = found.loss - found.loss_clean
        totals = tuple(
            {
                "mass_total": float(found.mass[read, cell, found.column(edit.positions[0])].mean()),
                "loss_change": float(change[cell, edit.positions[0] : -1].mean()),
            }
            for cell, edit in enumerate(trial.edits)
        )
        self._trials[trial.edits[0]] = replace(trial, totals=totals)
        return self._trials[trial.edits[0]]

    def to_python(self) -> str:
        """Code that reproduces the numbers of the chosen edit. Raises `EditError` without one."""
        return python_of(self.trace, self._current_trial(), self.thresholds)

    def to_frame(self) -> "pd.DataFrame":
        """All trials: one row per edited token, as `before_and_after`, with `trial` and `role`."""
        import pandas as pd

        rows = [
            {"trial": number, "role": role, **row, **(total or {})}
            for number, trial in enumerate(self.trials)
            for role, row, total in zip(
                ("token", "control"), trial.rows, trial.totals or (None, None), strict=False
            )
        ]
        return pd.DataFrame(rows)

    def export(self, folder: str | Path, *, force: bool = False) -> Path:
        """Write a run folder with sinks, trace, and the effects of all trials.

        Raises `RunFolderError` if the folder is not empty, or has no name; `force` replaces a run
        in it.
        """
        from secondary_sinks.notebook.export import export

        own: dict[str, Any] = {"model": self.model, "text": self.text, "trace": self.trace}
        return export(folder, **own, sinks=self.sinks, trials=self.trials, force=force)

    def _current_trial(self) -> Trial:
        trial = self.current
        if trial is None:
            raise EditError("no edit is chosen yet", "choose a token, a layer and an edit first")
        return trial

    def _first_choice(self) -> Choice:
        sinks = self.sinks.of_kind("secondary").sinks or self.sinks.sinks
        if not sinks:
            return Choice(pos=self.trace.primary, layer=0)
        strongest = max(sinks, key=lambda sink: sink.norm_ratio_max)
        return Choice(pos=strongest.pos, layer=strongest.l_start)

    def _run(self, choice: Choice) -> Trial | None:
        """The trial of a choice: a new one, unless it was run before."""
        edit = choice.edit()
        if edit is None or edit in self._trials:
            return None if edit is None else self._trials[edit]
        control = self._control(choice)
        copy = None if control is None else choice.edit(control.pos)
        edits = (edit,) if copy is None else (edit, copy)
        layers, progress = self._layers(choice), None if self.immediate else self.progress
        replayed = replay(self.model, self.trace, edits, kept=self._kept, progress=progress)
        frame = before_and_after(self.trace, replayed, layers=layers, thresholds=self.thresholds)
        self._trials[edit] = Trial(
            choice=choice,
            edits=edits,
            layers=layers,
            rows=tuple({str(k): v for k, v in row.items()} for row in frame.to_dict("records")),
            control_kind="" if control is None else control.kind,
            curves={name: getattr(replayed, name) for name in CURVES},
        )
        return self._trials[edit]

    def _layers(self, choice: Choice) -> tuple[int, ...]:
        """Layers for means: those of the sink; for other tokens, from the edited one on."""
        sink = self.sink_at(choice.pos)
        return sink.layers if sink else tuple(range(choice.layer, len(self.trace.norm)))

    def _control(self, choice: Choice) -> Control | None:
        """The nearest token twin that is not a sink, else the nearest ordinary token."""
        taken = {*self._by_pos, *self.trace.reference.tolist(), self.trace.primary, choice.pos}
        taken |= set() if choice.donor is None else {choice.donor}
        last = last_judged(self.trace, self.sinks)
        found = match_controls(self.trace.tokens.tolist(), [choice.pos], taken, last)
        return found[0] if found else None
