"""Options that several commands share, and the app to which commands are added."""

import math
from collections.abc import Callable, Mapping
from functools import wraps
from inspect import Signature, signature
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="secondary-sinks",
    help="Find secondary attention sinks in a language model, and test which MLPs make them.",
    epilog="Example: secondary-sinks run smollm2-135m --out runs/demo",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def whole(help: str, *, least: int = 0) -> Any:
    """An option that takes a whole number, in plain digits."""

    def parse(value: str | int) -> int:
        digits = str(value)
        plain = digits.isascii() and digits.isdecimal() and len(digits) < 20
        if not plain or not least <= int(digits) < 2**63:
            shown = digits if len(digits) < 40 else f"{digits[:36]}..."
            raise typer.BadParameter(f"{shown!r} is not a whole number from {least} to 2^63 - 1")
        return int(digits)

    return typer.Option(parser=parse, metavar="INT", help=help)


def number(help: str, *, least: float = -math.inf, most: float = math.inf) -> Any:
    """An option that takes a number, in plain digits."""

    def parse(value: str | float) -> float:
        from secondary_sinks.types.lists import plain_digits

        try:
            found = float(plain_digits(str(value)))
        except ValueError:
            found = math.nan
        if not least <= found <= most:
            span = "" if math.isinf(least) else f", from {least:g} to {most:g}"
            raise typer.BadParameter(f"{value!r:.60} is not a number in plain digits{span}")
        return found

    return typer.Option(parser=parse, metavar="NUMBER", help=help)


Model = Annotated[
    str,
    typer.Argument(
        help="smollm2-135m, an alias that `models` lists, a local folder in Hugging Face format, a "
        "GGUF file, or a hub name; for the hub also NAME@REVISION."
    ),
]
Out = Annotated[Path, typer.Option(help="Folder for the results. The same command resumes it.")]
Texts = Annotated[
    Path | None,
    typer.Option(
        help="JSON Lines file with 'text', 'prompt' and 'output', or 'messages' in each line; a "
        ".txt file; hf:NAME:split:column, a data set of the hub or a folder saved by datasets; "
        "bundled:introduction (default), ten short texts; or bundled:claims, 33 longer texts "
        "that begin differently."
    ),
]
Feed = Annotated[
    str,
    typer.Option(
        help="How texts become tokens: auto (token ids stored by `generate`, else chat for "
        "conversations, else raw), chat (the model's chat template), chat:NAME=VALUE (with a "
        "template option), raw, or chat:lossy and raw:lossy, which accept that content is dropped."
    ),
]
EditKind = Annotated[
    str,
    typer.Option(
        help="Ablations of the MLP output, separated by commas: zero; twins (the mean over the "
        "same token elsewhere, where it is not a sink); mean (over ordinary tokens); none."
    ),
]
Ask = Annotated[
    str,
    typer.Option(
        help="Causal questions to answer too, separated by commas, or all; `secondary-sinks "
        "questions` lists them. Their cost is printed first."
    ),
]
Device = Annotated[
    str | None, typer.Option(help="cuda, mps or cpu. Default: the fastest available.")
]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16 or float16. Default: float32.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a model on the hub.")]
TrustRemoteCode = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code", help="Run Python code from the model's repository; read it first."
    ),
]
Bridge = Annotated[
    bool,
    typer.Option("--bridge", help="Load as TransformerBridge (TransformerLens 4 always does)."),
]
SkipCheck = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="Skip a check at load: original, patterns, causality or chunks. Repeatable.",
    ),
]
Seed = Annotated[
    int,
    whole("Recorded in run.json; a run draws no random numbers."),
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Replace the run in --out; cells with the same inputs are kept."),
]


def sharing(
    shared: Callable[..., None], after: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace the `**shared` of a command by the options of `shared`.

    The command's own options follow the option `after`.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        mine = signature(command).parameters.values()
        own = [one for one in mine if one.kind is not one.VAR_KEYWORD]
        common = list(signature(shared).parameters.values())
        place = [one.name for one in common].index(after) + 1
        order = [*common[:place], *own, *common[place:]]

        @wraps(command)
        def with_options(**options: object) -> None:
            command(**options)

        options = {one.name: one.annotation for one in order}
        with_options.__signature__ = Signature(order)  # type: ignore[attr-defined]
        with_options.__annotations__ = options | {"return": None}
        return with_options

    return decorate


def option_words(options: Mapping[str, object]) -> list[str]:
    """Options as words of a command line; those that are None or False are left out."""
    words: list[str] = []
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if value is None or value is False:
            continue
        for one in value if isinstance(value, list | tuple) else [value]:
            words += [option] if one is True else [option, str(one)]
    return words


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"secondary-sinks {installed('secondary-sinks')}")
        raise typer.Exit()
