"""The work of `run` and `detect`."""

import contextlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from secondary_sinks.causal.recipes import meaning
from secondary_sinks.cli.again import last_line, note_done
from secondary_sinks.cli.options import option_words
from secondary_sinks.cli.output import say
from secondary_sinks.cli.show import show_found
from secondary_sinks.cli.watch import Watch, going_on
from secondary_sinks.errors import EditError, SinkError
from secondary_sinks.report import write_report
from secondary_sinks.runs import RunFolder
from secondary_sinks.sweeps import ModelSpec, SweepConfig, run
from secondary_sinks.types import refuse_twice, split_words

_IN_ORDER: tuple[str, ...] = (
    "out",
    "feed",
    "texts",
    "device",
    "dtype",
    "edit",
    "seed",
    "revision",
    "ask",
)
_IN_ORDER += ("trust_remote_code", "bridge", "skip_check")
"""Options in the order of a command line that is recorded."""


class Request(NamedTuple):
    """A command, run or detect, its options, and the questions asked."""

    command: str
    options: Mapping[str, Any]
    asked: tuple[str, ...] = ()

    @property
    def config(self) -> SweepConfig:
        """The config of the sweep behind this request."""
        options = self.options
        same = ("revision", "device", "dtype", "bridge", "trust_remote_code")
        spec = ModelSpec(
            name=options["model"],
            skip=tuple(options["skip_check"] or ()),
            **{name: options[name] for name in same},
        )
        return SweepConfig(
            models=(spec,),
            texts=() if options["texts"] is None else (str(options["texts"]),),
            edits=() if self.command == "detect" else split(options["edit"]),
            feed=options["feed"],
            seed=options["seed"],
        )

    def asking(self, questions: Sequence[str]) -> str:
        """A command line that asks for the same with these questions."""
        given = {**self.options, "ask": ",".join(questions) or None}
        words = option_words({name: given[name] for name in _IN_ORDER if name in given})
        return shlex.join(["secondary-sinks", self.command, given["model"], *words])


def split(edit: str) -> tuple[str, ...]:
    """Split an option at commas into edits. Raises `EditError` for an empty or repeated one.

    >>> split("zero, twins")
    ('zero', 'twins')
    """
    words = split_words("--edit", edit, EditError)
    refuse_twice("--edit", words, EditError, [meaning(word) for word in words])
    return tuple(words)


def work(request: Request) -> None:
    """Compute what is missing of a run, and print what was found."""
    out = request.options["out"]
    watch = Watch("text", out)
    with going_on(watch):
        summary = run(
            request.config,
            out,
            asked=request.asked,
            force=request.options["force"],
            command=request.asking,
            say=say,
            tell=watch.tell,
        )
    if summary.nothing_to_do:
        say(f"{out} already holds this run (same inputs); nothing to do")
    folder = RunFolder(out)
    shown = show_found(folder)
    there = summary.nothing_to_do and (folder.path / "report.html").is_file()
    if request.command == "run" and not there:
        write_report(folder)
    say(last_line(request.command, out))
    with contextlib.suppress(SinkError, OSError):  # without a note, the same call takes longer
        note_done(request.command, request.options, shown)
