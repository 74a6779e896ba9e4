"""What `run`, `detect` and `ablate` do."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from secondary_sinks.causal.check import check_words
from secondary_sinks.cli.output import say
from secondary_sinks.cli.show import Bars, show_found, show_inputs
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.models import load_model
from secondary_sinks.models.devices import parse_device, parse_dtype
from secondary_sinks.models.identity import provenance_of
from secondary_sinks.models.original.sources import resolve
from secondary_sinks.models.proof.prove import check_skip
from secondary_sinks.report import write_report
from secondary_sinks.runs import (
    RunFolder,
    analyse,
    ask,
    asking,
    check_lengths,
    describe,
    save,
    save_more,
)
from secondary_sinks.runs.about import feed_again, refuse_other
from secondary_sinks.runs.folder import ANSWERS
from secondary_sinks.runs.pipeline import split
from secondary_sinks.texts import (
    Text,
    TokenizedText,
    bundled_corpus,
    check_feed,
    read_texts,
    tokenize,
)
from secondary_sinks.types import Edit, Thresholds


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
    revision: str | None = None
    trust_remote_code: bool = False
    bridge: bool = False
    skip: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()

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
            "revision": self.revision,
            "ask": ",".join(self.asked) or None,
        }
        for option, value in options.items():
            words += [] if value is None else [f"--{option}", str(value)]
        words += ["--trust-remote-code"] if self.trust_remote_code else []
        words += ["--bridge"] if self.bridge else []
        for name in self.skip:
            words += ["--skip-check", name]
        return shlex.join(words)


def work(request: Request) -> None:
    """Check everything cheap first, then load, measure, write, and say what was found."""
    _check(request)
    texts = bundled_corpus() if request.texts is None else read_texts(request.texts)
    folder = RunFolder(request.out)
    if not folder.has_record():
        folder.check(force=request.force)
    with folder.claim(), Bars() as bars:
        done = _fill(folder, request, texts, bars)
    if done:
        say(f"{request.out} holds this run already (same inputs); nothing to do")
    show_found(folder)
    if request.report:
        path = folder.path / "report.html"
        say(f"report: {path if done and path.is_file() else write_report(folder)}")
    else:
        say(f"tables: {folder.path}")


def _fill(folder: RunFolder, request: Request, texts: Sequence[Text], bars: Bars) -> bool:
    """Run and save, unless the folder holds the same run; whether it did."""
    limits = Thresholds()
    bars.advance("load", request.model, 0, 1)
    model = load_model(
        request.model,
        request.device,
        request.dtype,
        revision=request.revision,
        trust_remote_code=request.trust_remote_code,
        bridge=request.bridge or None,
        skip=request.skip,
    )
    bars.advance("load", request.model, 1, 1)
    if request.force:
        fed = [tokenize(text, model.tokenizer, request.feed) for text in texts]
    else:
        fed = feed_again(folder, texts, model.tokenizer, request.feed, say)
    check_lengths(model, fed, limits)
    record = describe(model, fed, limits, request.edit, request.seed, request.asked)
    there = None if request.force else _asked_there(folder, record)
    if there is not None:
        return _ask_more(folder, request, record, model, fed, there, bars)
    record["model"]["skipped_checks"] = sorted(set(request.skip))
    record["model"]["source"] = provenance_of(model)
    refuse_other(folder, record, force=request.force)
    show_inputs(bars, record)
    results = analyse(model, fed, edit=request.edit, thresholds=limits, tick=bars.advance)
    family = _family(request, request.asked)
    answers, laps = ask(model, results, request.asked, say, bars.advance, family)
    record |= {"command": request.command, "timings_s": results.timings | laps}
    save(folder, results, record, answers=answers, force=request.force)
    return False


def _asked_there(folder: RunFolder, record: dict[str, Any]) -> tuple[str, ...] | None:
    """Questions that the folder's run of the same inputs answers; None without such a run."""
    if not folder.has_record():
        return None
    there = tuple(folder.record().get("asked", ()))
    return there if folder.is_complete(asking(record, there)["key"]) else None


def _ask_more(
    folder: RunFolder,
    request: Request,
    record: dict[str, Any],
    model: HookedModel,
    fed: Sequence[TokenizedText],
    there: tuple[str, ...],
    bars: Bars,
) -> bool:
    """Answer the questions that a finished run has no answer to; whether there was none."""
    missing = tuple(name for name in request.asked if name not in there)
    if not missing:
        return True
    both = tuple(name for name in ANSWERS if name in {*there, *missing})
    record = asking(record, both) | {"command": request._replace(asked=both).command}
    show_inputs(bars, record)
    results = analyse(model, fed, edit=None, tick=bars.advance)
    answers, laps = ask(model, results, missing, say, bars.advance, _family(request, both))
    save_more(folder, record, answers, laps)
    return False


def _family(request: Request, asked: tuple[str, ...]) -> tuple[str, ...]:
    """Questions whose claims stand in the report: a sweep says of layers what necessity does."""
    swept = request.edit is not None and "necessity" not in asked
    return ("necessity", *asked) if swept else asked


def _check(request: Request) -> None:
    """Raise the error of whatever is wrong with the options, before a model is loaded."""
    if request.edit is not None:
        for label in split(request.edit):
            check_words(Edit.of_label(label, pos=0, layer=0))
    check_feed(request.feed)
    check_skip(request.skip)
    parse_dtype(request.dtype)
    parse_device(request.device)
    resolve(request.model, request.revision)
