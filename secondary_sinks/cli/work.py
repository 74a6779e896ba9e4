"""What `run`, `detect` and `ablate` do."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from secondary_sinks.causal.edits import KINDS
from secondary_sinks.cli.show import Bars, show_found, show_inputs, show_where
from secondary_sinks.errors import EditError
from secondary_sinks.models import load_model
from secondary_sinks.models.sources import resolve
from secondary_sinks.report import write_report
from secondary_sinks.runs import RunFolder, analyse, check_lengths, describe, save
from secondary_sinks.texts import Text, TokenizedText, bundled_corpus, read_texts, tokenize
from secondary_sinks.types import Thresholds


class Request(NamedTuple):
    """What the user asked for. `edit` None: only detect."""

    model: str
    out: Path
    texts: Path | None
    feed: str
    edit: str | None
    device: str | None
    dtype: str | None
    seed: int
    force: bool
    report: bool

    @property
    def command(self) -> str:
        """A command line that asks for the same."""
        name = "run" if self.report else "detect" if self.edit is None else "ablate"
        words = ["secondary-sinks", name, self.model, "--out", str(self.out), "--feed", self.feed]
        options = {
            "texts": self.texts,
            "device": self.device,
            "dtype": self.dtype,
            "edit": self.edit,
            "seed": self.seed,
        }
        for option, value in options.items():
            words += [] if value is None else [f"--{option}", str(value)]
        return shlex.join(words)


def work(request: Request) -> None:
    """Check everything cheap first, then load, measure, write, and say what was found."""
    _check_edit(request.edit)
    resolve(request.model)
    texts = bundled_corpus() if request.texts is None else read_texts(request.texts)
    folder, limits = RunFolder(request.out), Thresholds()
    if not (folder.path / "run.json").is_file():
        folder.prepare(force=request.force)
    with Bars() as bars:
        bars.say(f"loading {request.model}")
        model = load_model(request.model, request.device, request.dtype)
        fed = _tokenize(texts, model.tokenizer, request.feed)
        check_lengths(model, fed, limits)
        record = describe(model, fed, limits, request.edit, request.seed)
        done = folder.is_complete(record["key"]) and not request.force
        if not done:
            folder.prepare(force=request.force)
            show_inputs(bars, record)
            results = analyse(model, fed, edit=request.edit, thresholds=limits, tick=bars.advance)
            save(folder, results, record | {"command": request.command})
    if done:
        show_where(f"{request.out} holds this run already (same inputs); nothing to do")
    show_found(folder)
    if request.report:
        path = folder.path / "report.html"
        show_where(f"report: {path if done and path.is_file() else write_report(folder)}")


def _check_edit(edit: str | None) -> None:
    if edit is not None and edit not in KINDS:
        raise EditError(f"unknown edit {edit!r}; expected one of {', '.join(KINDS)}")


def _tokenize(texts: Sequence[Text], tokenizer: object, feed: str) -> list[TokenizedText]:
    return [tokenize(text, tokenizer, feed) for text in texts]
