"""The work of `run` and `detect`."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from secondary_sinks.causal.recipes import meaning
from secondary_sinks.cli.output import say
from secondary_sinks.cli.show import show_found
from secondary_sinks.cli.watch import Watch, going_on
from secondary_sinks.errors import EditError
from secondary_sinks.report import write_report
from secondary_sinks.runs import RunFolder
from secondary_sinks.sweeps import ModelSpec, SweepConfig, run
from secondary_sinks.types import refuse_twice, split_words


class Request(NamedTuple):
    """The request of the user. With `edit` None, only detect."""

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
    def config(self) -> SweepConfig:
        """The config of the sweep behind this request."""
        spec = ModelSpec(
            name=self.model,
            revision=self.revision,
            device=self.device,
            dtype=self.dtype,
            bridge=self.bridge,
            trust_remote_code=self.trust_remote_code,
            skip=self.skip,
        )
        return SweepConfig(
            models=(spec,),
            texts=() if self.texts is None else (str(self.texts),),
            edits=() if self.edit is None else split(self.edit),
            feed=self.feed,
            seed=self.seed,
        )

    @property
    def command(self) -> str:
        """A command line that asks for the same."""
        name = "run" if self.report else "detect"
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

    def asking(self, questions: Sequence[str]) -> str:
        """A command line that asks for the same with other questions."""
        return self._replace(asked=tuple(questions)).command


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
    watch = Watch("text", request.out)
    with going_on(watch):
        summary = run(
            request.config,
            request.out,
            asked=request.asked,
            force=request.force,
            command=request.asking,
            say=say,
            tell=watch.tell,
        )
    if summary.nothing_to_do:
        say(f"{request.out} already holds this run (same inputs); nothing to do")
    folder = RunFolder(request.out)
    show_found(folder)
    if request.report:
        path = folder.path / "report.html"
        there = summary.nothing_to_do and path.is_file()
        say(f"report: {path if there else write_report(folder)}")
    else:
        say(f"tables: {folder.path}")
