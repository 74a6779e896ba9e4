"""The command line of an experiment, derived from its `run`.

    python -m experiments.norms --model smollm2-135m --texts my.jsonl --out results/norms

All experiments share options; keyword-only parameters of `run`, annotated for typer, are added.
"""

import inspect
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.about import refuse_other_finding
from experiments.shared import Finding, load_texts, observe_loaded
from experiments.table import SAID
from experiments.written import earlier, in_words, write
from secondary_sinks.cli import NAMED_PATH, leave, run_app, say, whole
from secondary_sinks.runs import RunFolder, describe
from secondary_sinks.types import Thresholds

Experiment = Callable[..., Finding]


def main_of(run: Experiment) -> Callable[..., None]:
    """Build `main` for the module that defines `run(observed, *, ...) -> Finding`.

    It exits with 0 when done, 2 for bad input (explained in one line on standard error), 130 when
    interrupted.
    """
    name = f"experiments.{_name(run)}"

    def main(arguments: Sequence[str] | None = None) -> None:
        words = list(sys.argv[1:] if arguments is None else arguments)
        command = _command(run, f"python -m {shlex.join([name, *words])}")
        start(command, name, words, help=_help(run, name))

    return main


def _name(run: Experiment) -> str:
    return Path(inspect.getfile(run)).stem


def start(
    command: Callable[..., None],
    name: str,
    arguments: Sequence[str] | None = None,
    help: str | None = None,
) -> None:
    """Run a command of the module `name` and exit with its code; without arguments, show help."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(help=help)(command)
    leave(run_app(app, words or ["--help"], f"python -m {name}"))


def _help(run: Experiment, name: str) -> str:
    """The texts of an experiment's module, then an example; `\\b` keeps its line unwrapped."""
    module = inspect.getmodule(run)
    question, paper, method, refutation = (getattr(module, one, "") for one in SAID)
    out = f"results/{name.split('.')[-1]}"
    example = f"\b\n    python -m {name} --model smollm2-135m --out {out}"
    parts = [question, paper, f"Method: {method}", f"What would refute it: {refutation}", example]
    return "\n\n".join(parts)


OutOption = Annotated[
    Path, typer.Option(**NAMED_PATH, help="Folder for data, figure and verdict.json.")
]
ModelOption = Annotated[str, typer.Option(help="As for `secondary-sinks run`.")]
TextsOption = Annotated[
    str | None, typer.Option(help="As for `secondary-sinks run`. Default: the bundled texts.")
]
FeedOption = Annotated[str, typer.Option(help="As for `secondary-sinks run`.")]
DeviceOption = Annotated[
    str | None, typer.Option(help="cuda, mps or cpu. Default: the fastest available.")
]
DtypeOption = Annotated[str | None, typer.Option(help="float32, bfloat16 or float16.")]
EveryOption = Annotated[int, whole("Use only every k-th text, from the first on.", least=1)]
MaxTokensOption = Annotated[int | None, whole("Use only the first tokens of each text.", least=1)]
SeedOption = Annotated[int, whole("Random seed.")]
ForceOption = Annotated[
    bool,
    typer.Option(
        help="Replace this experiment's finding of other inputs in --out, and write stored answers "
        "of the model again."
    ),
]


def _shared(
    *,
    out: OutOption,
    model: ModelOption = "smollm2-135m",
    texts: TextsOption = None,
    every: EveryOption = 1,
    max_tokens: MaxTokensOption = None,
    feed: FeedOption = "auto",
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    seed: SeedOption = 0,
    force: ForceOption = False,
) -> None:
    """The options shared by all experiments."""


def _command(run: Experiment, command_line: str) -> Callable[..., None]:
    """A function for typer with the shared parameters and those of `run`."""
    shared = list(inspect.signature(_shared).parameters.values())
    own = [
        parameter
        for parameter in inspect.signature(run).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]

    def command(out: Path, model: str, texts: str | None, **rest: Any) -> None:
        asked = {parameter.name: rest.pop(parameter.name) for parameter in own}
        chosen = {one.name: asked[one.name] for one in own if asked[one.name] != one.default}
        seed, force = rest.pop("seed"), rest.pop("force")
        with RunFolder(out).claim():
            before = earlier(out, _name(run)).get("provenance", {})
            loaded = load_texts(model, texts, **rest, say=say)
            if not force:
                new = describe(loaded.model, loaded.texts, Thresholds(), None, seed)
                refuse_other_finding(out, before, new | {"options": chosen})
            observed = replace(observe_loaded(loaded, seed, say), folder=out)
            kept = observed.kept(_name(run))
            if force and kept:
                kept.unlink(missing_ok=True)
            finding = run(observed, **asked)
            provenance = observed.record() | {"command": command_line, "options": chosen}
            for verdict in finding.verdicts:
                say(in_words(verdict))
            for line in write(finding, out, provenance):
                say(line)

    command.__signature__ = inspect.Signature([*shared, *own])  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in [*shared, *own]}
    return command
