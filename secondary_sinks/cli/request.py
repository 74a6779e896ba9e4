"""`Request`: what `run` and `detect` were asked, without a heavy import."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from secondary_sinks.errors import EditError

if TYPE_CHECKING:
    from secondary_sinks.sweeps import SweepConfig


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
    ask: str = "none"
    asked: tuple[str, ...] = ()
    """The questions of `ask`, once it was read."""

    @property
    def config(self) -> "SweepConfig":
        """The config of the sweep behind this request."""
        from secondary_sinks.sweeps import ModelSpec, SweepConfig

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
            edits=() if self.edit is None else _split(self.edit),
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

    @property
    def last_line(self) -> str:
        """Where the results are, once they are there."""
        return f"report: {self.out / 'report.html'}" if self.report else f"tables: {self.out}"


def _split(edit: str) -> tuple[str, ...]:
    """Split an option at commas into edits. Raises `EditError` for an empty or repeated one.

    >>> _split("zero, twins")
    ('zero', 'twins')
    """
    from secondary_sinks.causal.recipes import meaning
    from secondary_sinks.types import refuse_twice, split_words

    words = split_words("--edit", edit, EditError)
    refuse_twice("--edit", words, EditError, [meaning(word) for word in words])
    return tuple(words)
